/* Text from outside; see text_formats.h. */
#include "eval/text_formats.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* Whether the text goes to a terminal as it is, which would act on control characters. */
static bool is_screen(FILE *out)
{
    const int descriptor = fileno(out);
    return descriptor >= 0 && isatty(descriptor);
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

void t2t_csv_text(FILE *out, const char *text)
{
    const bool plain = !text[strcspn(text, ",\"\n\r")], screen = is_screen(out);
    if (!plain) fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(screen && is_control(*text) ? '?' : *text, out);
    }
    if (!plain) fputc('"', out);
}

void t2t_plain_text(FILE *out, const char *text)
{
    for (; *text; text++) fputc(is_control(*text) ? '?' : *text, out);
}

void t2t_digest_line(FILE *out, const char *digest, const char *name)
{
    const bool screen = is_screen(out);
    fprintf(out, "%s%s  ", name[strcspn(name, "\\\n\r")] ? "\\" : "", digest);
    for (; *name; name++)
        if (*name == '\\' || *name == '\n' || *name == '\r')
            fprintf(out, "\\%c", *name == '\n' ? 'n' : *name == '\r' ? 'r' : '\\');
        else
            fputc(screen && is_control(*name) ? '?' : *name, out);
    fputc('\n', out);
}
