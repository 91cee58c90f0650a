/* t2t_is_plain_utf8() against jansson's check of UTF-8, for all short sequences and the edges of the long ones. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "weights/utf8.h"

static bool expected(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char c = (unsigned char)text[i], before = i ? (unsigned char)text[i - 1] : 0;
        if (c < 0x20 || c == 0x7f || (before == 0xc2 && c < 0xa0)) return false;
    }
    json_t *string = json_stringn(text, bytes);
    json_decref(string);
    return string != NULL;
}

static void same(unsigned first, unsigned second, unsigned third, unsigned fourth, size_t bytes)
{
    const char text[4] = {(char)first, (char)second, (char)third, (char)fourth};
    if (t2t_is_plain_utf8(text, bytes) != expected(text, bytes))
        fail_msg("%02x %02x %02x %02x, %zu bytes", first, second, third, fourth, bytes);
}

static void short_sequences(void **state)
{
    (void)state;
    assert_true(t2t_is_plain_utf8("", 0));
    for (unsigned a = 0; a < 256; a++) {
        same(a, 0, 0, 0, 1);
        for (unsigned b = 0; b < 256; b++) same(a, b, 0, 0, 2);
    }
    for (unsigned a = 0xe0; a < 0xf0; a++)
        for (unsigned b = 0; b < 256; b++)
            for (unsigned c = 0; c < 256; c++) same(a, b, c, 0, 3);
}

static void long_sequences(void **state)
{
    (void)state;
    static const unsigned edges[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    const size_t count = sizeof edges / sizeof *edges;
    for (unsigned a = 0xf0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++)
            for (size_t c = 0; c < count; c++)
                for (size_t d = 0; d < count; d++) same(a, b, edges[c], edges[d], 4);
    assert_true(t2t_is_plain_utf8("blocks.0.\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 18));
    assert_false(t2t_is_plain_utf8("blocks.0.\xf0\x9f\x98", 12));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(short_sequences), cmocka_unit_test(long_sequences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
