/* Names as text; see utf8.h. */
#include "weights/utf8.h"

#include <jansson.h>

bool t2t_is_plain_utf8(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) return false;
    json_t *string = json_stringn(text, bytes);
    json_decref(string);
    return string != NULL;
}
