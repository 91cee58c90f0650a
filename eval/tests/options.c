/* The option table's parser as users meet it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/options.h"

enum { MOST_WORDS = 128 };

static struct {
    bool quiet;
    size_t verbose, batch;
    double share;
    const char *name;
    struct option_texts files;
    int color;
} given;

static const struct option_row rows[] = {
    {.type = OPTION_SECTION, .help = "First:"},
    {OPTION_SWITCH, 'q', "quiet", NULL, "little", &given.quiet, 0, 0},
    {OPTION_COUNT, 'v', "verbose", NULL, "much", &given.verbose, 0, 0},
    {OPTION_NUMBER, 'b', "batch-size", "N", "several", &given.batch, 1, 4096},
    {.type = OPTION_SECTION, .help = "Second:"},
    {OPTION_REAL, 0, "share", "F", "of all", &given.share, -1, 1},
    {OPTION_TEXT, 0, "name", "TEXT", "two\nlines", &given.name, 0, 0},
    {OPTION_TEXTS, 'o', "output", "FILE", "again", &given.files, 0, 0},
    {OPTION_CHOICE, 0, "color", "auto|always|never", "colours", &given.color, 0, 0},
};
enum { ROWS = sizeof rows / sizeof *rows };

static char *words[MOST_WORDS];
static size_t operands;
static int word_count;

static enum t2t_status parse(const char *const *arguments)
{
    memset(&given, 0, sizeof given);
    word_count = 0;
    static char program[] = "program";
    words[word_count++] = program;
    for (size_t i = 0; arguments[i]; i++) {
        assert_true(word_count + 1 < MOST_WORDS);
        words[word_count++] = (char *)(uintptr_t)arguments[i]; /* getopt moves the pointers only */
    }
    words[word_count] = NULL;
    return t2t_options_parse(rows, ROWS, word_count, words, &operands);
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

#define ACCEPT(...)                                                                                                    \
    do {                                                                                                               \
        if (PARSE(__VA_ARGS__)) fail_msg("%s", t2t_last_error());                                                      \
    } while (0)

static void expect_sentence(enum t2t_status status, enum t2t_status expected, const char *sentence)
{
    assert_int_equal(status, expected);
    if (!strstr(t2t_last_error(), sentence)) fail_msg("\"%s\" does not say \"%s\"", t2t_last_error(), sentence);
}

#define REFUSE(SENTENCE, ...) expect_sentence(PARSE(__VA_ARGS__), T2T_BAD_USAGE, SENTENCE)

/* ---- the parser ---- */

static void values(void **state)
{
    (void)state;
    ACCEPT("--batch-size=3", "--share", "-0.5", "--name=a=b c", "-qvv", "-v", "--color", "never");
    assert_int_equal(given.batch, 3);
    assert_true(given.share == -0.5);
    assert_string_equal(given.name, "a=b c");
    assert_true(given.quiet);
    assert_int_equal(given.verbose, 3);
    assert_int_equal(given.color, 2);
    assert_true(t2t_option_given(&given.batch));
    assert_false(t2t_option_given(&given.files));
    ACCEPT("-b4096");
    assert_int_equal(given.batch, 4096);
    assert_false(t2t_option_given(&given.share));
    ACCEPT("-qb", "7");
    assert_int_equal(given.batch, 7);
    ACCEPT("-o", "1", "--output=2", "-o3");
    assert_int_equal(given.files.count, 3);
    assert_string_equal(given.files.text[1], "2");
    assert_string_equal(given.files.text[2], "3");
}

static void operands_anywhere(void **state)
{
    (void)state;
    ACCEPT("one", "-q", "two", "--", "-v", "--color");
    assert_int_equal(word_count - (int)operands, 4);
    assert_string_equal(words[operands], "one");
    assert_string_equal(words[operands + 1], "two");
    assert_string_equal(words[operands + 2], "-v");
    assert_string_equal(words[operands + 3], "--color");
    assert_int_equal(given.verbose, 0);
    ACCEPT("-");
    assert_string_equal(words[operands], "-");
    ACCEPT("--name", "--", "x"); /* a value may look like anything */
    assert_string_equal(given.name, "--");
    assert_string_equal(words[operands], "x");
}

static void beginnings(void **state)
{
    (void)state;
    ACCEPT("--bat", "5", "--col=always", "--q");
    assert_int_equal(given.batch, 5);
    assert_int_equal(given.color, 1);
    assert_true(given.quiet);
    REFUSE("--: the beginning of more than one option", "--=3");
    static const struct option_row twins[] = {{OPTION_SWITCH, 0, "kde-bucket", NULL, "", &given.quiet, 0, 0},
        {OPTION_COUNT, 0, "kde-samples", NULL, "", &given.verbose, 0, 0},
        {OPTION_NUMBER, 0, "kde", "N", "", &given.batch, 0, 9}};
    char program[] = "program", part[] = "--kde-", whole[] = "--kde=4";
    char *ambiguous[] = {program, part, NULL}, *exact[] = {program, whole, NULL};
    expect_sentence(t2t_options_parse(twins, 3, 2, ambiguous, &operands), T2T_BAD_USAGE,
        "--kde-: the beginning of more than one option");
    assert_int_equal(t2t_options_parse(twins, 3, 2, exact, &operands), T2T_OK);
    assert_int_equal(given.batch, 4);
}

static void refused_values(void **state)
{
    (void)state;
    static const char *const numbers[] = {
        "0", "4097", "", " 3", "3 ", "+3", "-3", "3.0", "3e2", "0x10", "99999999999999999999", "three"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        REFUSE("expected a whole number from 1 to 4096", "--batch-size", numbers[i]);
    static const char *const reals[] = {"1.01", "-1.5", "nan", "inf", "", "1x", "1e400", "."};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        REFUSE("expected a number from -1 to 1", "--share", reals[i]);
    REFUSE("--name: its value is empty", "--name=");
    REFUSE("--output: its value is empty", "-o", "");
    REFUSE("--color \"red\": expected auto|always|never", "--color", "red");
    REFUSE("did you mean never?", "--color", "nevr");
    REFUSE("--color \"al\": expected auto|always|never", "--color", "al"); /* values are not abbreviated */
}

static void refused_options(void **state)
{
    (void)state;
    REFUSE("--btach-size: no such option; did you mean --batch-size?", "--btach-size=3");
    REFUSE("--outptu: no such option; did you mean --output?", "a", "--outptu", "b");
    REFUSE("--zzzzzz: no such option", "--zzzzzz");
    assert_null(strstr(t2t_last_error(), "did you mean"));
    REFUSE("-x: no such option", "-x");
    REFUSE("-x: no such option", "-qx");
    REFUSE("--batch-size needs a value", "--batch-size");
    REFUSE("-b needs a value", "-b");
    REFUSE("--quiet takes no value", "--quiet=yes");
    REFUSE("--batch-size is given twice", "-b", "3", "--batch-size=3");
    REFUSE("--color is given twice", "--color=auto", "--color=auto");
    REFUSE("--output is given more than 16 times", "-o1", "-o2", "-o3", "-o4", "-o5", "-o6", "-o7", "-o8", "-o9",
        "-o10", "-o11", "-o12", "-o13", "-o14", "-o15", "-o16", "-o17");
    char endless[600]; /* longer than any name, shorter than any buffer should mind */
    memset(endless, 'a', sizeof endless);
    memcpy(endless, "--", 2);
    endless[sizeof endless - 1] = '\0';
    REFUSE("no such option", endless);
}

/* A switch or count given very often does not make the parser forget what else was given. */
static void counts_without_end(void **state)
{
    (void)state;
    const char *many[MOST_WORDS] = {"--name=a"};
    for (size_t i = 1; i < 110; i++) many[i] = "-v";
    many[110] = "-b3";
    if (parse(many)) fail_msg("%s", t2t_last_error());
    assert_int_equal(given.verbose, 109);
    assert_true(t2t_option_given(&given.batch) && t2t_option_given(&given.name) && t2t_option_given(&given.verbose));
    many[111] = "--name=b";
    expect_sentence(parse(many), T2T_BAD_USAGE, "--name is given twice");
}

static void help_lists_everything(void **state)
{
    (void)state;
    char *text;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    t2t_options_print(out, rows, ROWS);
    fclose(out);
    for (size_t i = 0; i < ROWS; i++) assert_non_null(strstr(text, rows[i].type ? rows[i].name : rows[i].help));
    assert_non_null(strstr(text, "\n  -b, --batch-size N        several\n"));
    assert_non_null(strstr(text, "\n      --name TEXT           two\n                            lines\n"));
    free(text);
}

static void distances(void **state)
{
    (void)state;
    assert_int_equal(t2t_edit_distance("", ""), 0);
    assert_int_equal(t2t_edit_distance("abc", ""), 3);
    assert_int_equal(t2t_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(t2t_edit_distance("label", "lable"), 1); /* neighbours swapped */
    assert_int_equal(t2t_edit_distance("limit", "limits"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(operands_anywhere),
        cmocka_unit_test(beginnings),
        cmocka_unit_test(refused_values),
        cmocka_unit_test(refused_options),
        cmocka_unit_test(counts_without_end),
        cmocka_unit_test(help_lists_everything),
        cmocka_unit_test(distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
