/* Word vectors as text: what is read from good files, and what is said of others. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/attention_input.h"
#include "eval/glove.h"
#include "eval/tests/command.h"

static char path[] = "/tmp/t2tvit_glove_XXXXXX";

static int make_file(void **state)
{
    (void)state;
    const int file = mkstemp(path);
    return file < 0 ? -1 : close(file);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_text(const char *text)
{
    write_file(path, text, strlen(text));
}

static void reads(const char *text, size_t rows, size_t dim, const float *expected)
{
    float *vectors;
    size_t found;
    write_text(text);
    if (t2t_glove_read(path, rows, &vectors, &found)) fail_msg("\"%s\": %s", text, t2t_last_error());
    assert_int_equal(found, dim);
    assert_memory_equal(vectors, expected, rows * dim * sizeof *expected);
    free(vectors);
}

static void refuses(size_t rows, const char *sentence)
{
    float *vectors;
    size_t dim;
    assert_int_equal(t2t_glove_read(path, rows, &vectors, &dim), T2T_BAD_DATA);
    assert_null(vectors);
    if (!strstr(t2t_last_error(), sentence)) fail_msg("said: %s, expected: %s", t2t_last_error(), sentence);
    if (!strstr(t2t_last_error(), "glove_") && !strstr(t2t_last_error(), "/tmp")) fail_msg("no file is named");
}

static void refuses_text(const char *text, size_t rows, const char *sentence)
{
    write_text(text);
    refuses(rows, sentence);
}

static void good_files(void **state)
{
    (void)state;
    const float two[] = {1, -2.5F, 3e-1F, 4}, three[] = {0.5F, 1, 2, -1, -2, -3};
    reads("the 1 -2.5\nof 3e-1 4\n", 2, 2, two);
    reads("the 1 -2.5\nof 3e-1 4", 2, 2, two);           /* no newline at the end */
    reads("the 1 -2.5\r\nof 3e-1 4\r\n", 2, 2, two);     /* Windows */
    reads("the 1 -2.5\nof 3e-1 4 \nbad x y", 2, 2, two); /* a space at the end; what is beyond is not looked at */
    reads(", 0.5 1 2\n. . -1 -2 -3\n", 2, 3, three);     /* a word with a space, as in the 840B file */
    reads(", 0.5 1 2\n -1 -2 -3\n", 2, 3, three);        /* an empty word */
    reads(", 0.5 1 2\n1 2 3 -1 -2 -3\n", 2, 3, three);   /* a word of numbers */
    reads("2 3\n, 0.5 1 2\nof -1 -2 -3\n", 2, 3, three); /* a header of word2vec */
    reads("2 3\r\n, 0.5 1 2\r\nof -1 -2 -3\r\n", 2, 3, three);
    reads("7 0.5 1 2\nof -1 -2 -3\n", 2, 3, three); /* none: a word that is a number */
    reads("\xc2\x85 0.5 1 2\n\xff\xfe -1 -2 -3\n", 2, 3, three);
}

static void bad_files(void **state)
{
    (void)state;
    refuses_text("", 1, "ends after 0 lines, 1 word vectors are needed; --rows takes fewer");
    refuses_text("the 1 2\n", 2, "ends after 1 line, 2 word vectors are needed");
    refuses_text("the\n", 1, "line 1 has a word and 0 numbers, expected 2 to 4096");
    refuses_text("the 1 2\nof 1\n", 2, "line 2 has 1 number, the first vector has 2");
    refuses_text("the 1\nof 2\n", 2, "line 1 has a word and 1 number, expected 2 to 4096");
    refuses_text("2 1\nthe 1\nof 2\n", 2, "line 2 has a word and 1 number, expected 2 to 4096");
    refuses_text("2 2\n", 1, "ends after 1 line, 1 word vectors are needed");
    refuses_text("the 1 2\n3 2\n", 2, "line 2 has 1 number"); /* a header is the first line alone */
    refuses_text("2 2.0\nthe 1 2\n", 1, "line 1 has a word and 1 number");
    refuses_text("the 1 2\n\n", 2, "line 2 has 0 numbers");
    refuses_text("the 1 2\nof 1 x\n", 2, "line 2, number 2 is \"x\"");
    refuses_text("the 1 2\nof 1.5.2 2\n", 2, "line 2, number 1 is \"1.5.2\"");
    refuses_text("the 1 2\nof 1 nan\n", 2, "line 2, number 2 is \"nan\"");
    refuses_text("the 1 2\nof 1e99 1\n", 2, "line 2, number 1 is \"1e99\"");
    refuses_text("the 1 2\nof  1\n", 2, "line 2, number 1 is \"\"");
    refuses_text("the 1 2\nof 1 \t2\n", 2, "line 2, number 2");
    write_file(path, "the 1 2\nof \0 2\nto 1 2\n", 22);
    refuses(3, "line 2 holds a zero byte");
}

static void other_things(void **state)
{
    (void)state;
    enum { LONG = 1 << 19 };
    char *line = malloc(LONG);
    assert_non_null(line);
    memset(line, '1', LONG);
    write_file(path, line, LONG);
    free(line);
    refuses(1, "line 1 holds a zero byte or is longer than");
    float *vectors;
    size_t dim;
    assert_int_equal(t2t_glove_read("/tmp", 1, &vectors, &dim), T2T_BAD_DATA);
    assert_non_null(strstr(t2t_last_error(), "/tmp: cannot be read"));
    assert_int_equal(t2t_glove_read("/nowhere/glove.txt", 1, &vectors, &dim), T2T_BAD_DATA);
    assert_non_null(strstr(t2t_last_error(), "/nowhere/glove.txt: cannot be read"));
}

/* q = k = rows / 10^0.25, v the rows after them; the second unit goes on. */
static void as_attention(void **state)
{
    (void)state;
    struct attention_input input;
    write_text("a 1 2\nb 3 4\nc 5 6\nd 7 8\ne 9 10\nf 11 12\ng 13 14\nh 15 16\n");
    if (t2t_input_glove(&input, path, 2, 2)) fail_msg("%s", t2t_last_error());
    assert_int_equal(input.units, 2);
    assert_int_equal(input.shape.queries, 2);
    assert_int_equal(input.shape.keys, 2);
    assert_int_equal(input.shape.head_dim, 2);
    assert_true(input.shape.scale >= 1 && input.shape.scale <= 1);
    for (size_t i = 0; i < 8; i++) {
        const size_t unit = i / 4, first = 8 * unit + i % 4 + 1;
        assert_true(fabs((double)input.q[i] - (double)first / pow(10, 0.25)) < 1e-5);
        assert_memory_equal(&input.k[i], &input.q[i], sizeof *input.q);
        assert_true(fabs((double)input.v[i] - (double)(first + 4)) < 1e-9);
    }
    t2t_input_free(&input);
    assert_int_equal(t2t_input_glove(&input, path, 3, 2), T2T_BAD_DATA);
    assert_non_null(strstr(t2t_last_error(), "12 word vectors are needed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(other_things),
        cmocka_unit_test(as_attention),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
