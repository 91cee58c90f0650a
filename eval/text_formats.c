/* Text from outside; see text_formats.h. */
#include "eval/text_formats.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layers/base/control_characters.h"

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

/* Prints one character of the text, '?' for a control character, and returns what follows. */
static const char *print_plain(FILE *out, const char *text)
{
    const size_t bytes = t2t_control_bytes(text);
    fputc(bytes ? '?' : *text, out);
    return text + (bytes ? bytes : 1);
}

/* The same, but on a screen only. */
static const char *print_for(FILE *out, bool screen, const char *text)
{
    if (screen) return print_plain(out, text);
    fputc(*text, out);
    return text + 1;
}

void t2t_csv_text(FILE *out, const char *text)
{
    const bool plain = !text[strcspn(text, ",\"\n\r")], screen = is_screen(out);
    if (!plain) fputc('"', out);
    while (*text) {
        if (*text == '"') fputc('"', out);
        text = print_for(out, screen, text);
    }
    if (!plain) fputc('"', out);
}

void t2t_plain_text(FILE *out, const char *text)
{
    while (*text) text = print_plain(out, text);
}

void t2t_digest_line(FILE *out, const char *digest, const char *name)
{
    const bool screen = is_screen(out);
    fprintf(out, "%s%s  ", name[strcspn(name, "\\\n\r")] ? "\\" : "", digest);
    while (*name) {
        if (*name == '\\' || *name == '\n' || *name == '\r') {
            fprintf(out, "\\%c", *name == '\n' ? 'n' : *name == '\r' ? 'r' : '\\');
            name++;
        } else {
            name = print_for(out, screen, name);
        }
    }
    fputc('\n', out);
}
