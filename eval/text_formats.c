/* Text from outside; see text_formats.h. */
#include "eval/text_formats.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

json_t *t2t_json_text(const char *text)
{
    json_t *string = json_string(text);
    char *ascii = string ? NULL : strdup(text);
    if (!ascii) return string;
    for (char *c = ascii; *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    string = json_string(ascii);
    free(ascii);
    return string;
}

void t2t_csv_text(FILE *out, const char *text)
{
    const bool plain = !text[strcspn(text, ",\"\n\r")];
    if (!plain) fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    if (!plain) fputc('"', out);
}

void t2t_plain_text(FILE *out, const char *text)
{
    for (; *text; text++) fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, out);
}
