/* Characters in names from outside that a terminal would act on instead of showing them. */
#ifndef T2T_LAYERS_BASE_CONTROL_CHARACTERS_H
#define T2T_LAYERS_BASE_CONTROL_CHARACTERS_H

#include <stddef.h>

/* Bytes of the control character that `text` begins with: 1 (C0 and DEL), 2 (C1 as UTF-8), 0 where it is none. */
static inline size_t t2t_control_bytes(const char *text)
{
    const unsigned char first = (unsigned char)text[0], second = first ? (unsigned char)text[1] : 0;
    if (first == 0xc2 && second >= 0x80 && second < 0xa0) return 2;
    return first && (first < 0x20 || first == 0x7f) ? 1 : 0;
}

/* Puts '?' in the place of every byte of a control character. */
static inline void t2t_hide_controls(char *text)
{
    while (*text) {
        size_t bytes = t2t_control_bytes(text);
        if (!bytes) text++;
        while (bytes--) *text++ = '?';
    }
}

#endif
