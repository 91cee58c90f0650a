/* Names as text; see utf8.h. The Unicode Standard, table 3-7: well-formed UTF-8. */
#include "weights/utf8.h"

/* Bytes of the character at `text`; 0 when it is none, or a control character. */
static size_t character(const unsigned char *text, size_t bytes)
{
    if (text[0] < 0x80) return text[0] >= 0x20 && text[0] != 0x7f;
    const size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4 || length > bytes) return 0;
    /* the second byte's range keeps out C1 controls, overlong forms, surrogates, and what is beyond U+10FFFF */
    const unsigned char least = text[0] == 0xc2 || text[0] == 0xe0 ? 0xa0 : text[0] == 0xf0 ? 0x90 : 0x80;
    const unsigned char most = text[0] == 0xed ? 0x9f : text[0] == 0xf4 ? 0x8f : 0xbf;
    if (text[1] < least || text[1] > most) return 0;
    for (size_t i = 2; i < length; i++)
        if (text[i] < 0x80 || text[i] > 0xbf) return 0;
    return length;
}

bool t2t_is_plain_utf8(const char *text, size_t bytes)
{
    for (size_t at = 0, length; at < bytes; at += length) {
        length = character((const unsigned char *)text + at, bytes - at);
        if (!length) return false;
    }
    return true;
}
