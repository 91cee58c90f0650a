/* Names as text; see utf8.h. */
#include "weights/utf8.h"

#include <jansson.h>

bool t2t_is_plain_utf8(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char c = (unsigned char)text[i], before = i ? (unsigned char)text[i - 1] : 0;
        if (c < 0x20 || c == 0x7f || (before == 0xc2 && c < 0xa0)) return false; /* C0, delete, C1 */
    }
    json_t *string = json_stringn(text, bytes);
    json_decref(string);
    return string != NULL;
}
