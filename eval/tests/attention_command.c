/* t2tvit-attention and --sweep of t2tvit-eval as a user runs them: formats, exit codes, interrupts. The first argument
 * is the folder of the programs.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "eval/tests/written.h"

#define ATTENTION(...) command_run(shop.attention, (const char *const[]){__VA_ARGS__, NULL})
#define QUICK "--rows", "128", "--runs", "2", "--features", "16,32"

static const json_t *first_named(const json_t *list, const char *key, const char *name)
{
    size_t index;
    const json_t *entry;
    json_array_foreach(list, index, entry) if (strcmp(text_at(entry, key), name) == 0) return entry;
    fail_msg("there is no %s", name);
    return NULL;
}

static void formats(void **state)
{
    (void)state;
    const char *svg = in_shop("error.svg"), *csv = in_shop("error.csv"), *md = in_shop("error.md");
    const struct result result =
        ATTENTION("-q", QUICK, "--seeds", "3", "--format", "json", "-o", svg, "-o", csv, "-o", md);
    command_expect(&result, 0, "");
    json_t *report = parsed(result.out);
    assert_int_equal(json_array_size(at(report, "cases")), 1 + 5 * 2);
    const json_t *exact = first_named(at(report, "cases"), "attention", "exact");
    const json_t *kde = first_named(at(report, "cases"), "attention", "kdeformer");
    assert_true(json_number_value(at(at(exact, "spectral_error"), "mean")) <= 0);
    assert_true(json_number_value(at(at(kde, "spectral_error"), "mean")) > 0);
    assert_int_equal(json_array_size(at(at(kde, "spectral_error"), "seeds")), 3);
    assert_int_equal(json_array_size(at(at(kde, "ms"), "runs")), 2);
    assert_int_equal(count_at(at(kde, "options"), "samples"), 16);
    assert_string_equal(text_at(at(kde, "options"), "sampling"), "systematic");
    assert_true(json_is_false(at(report, "partial")));
    json_decref(report);
    char *text = file_text(svg);
    assert_memory_equal(text, "<?xml", 5);
    assert_non_null(strstr(text, "</svg>\n"));
    assert_non_null(strstr(text, ">scatterbrain<"));
    assert_null(strstr(text, "nan"));
    free(text);
    text = file_text(csv);
    assert_memory_equal(text, "attention,features,seeds,spectral_error", 39);
    assert_non_null(strstr(text, "\nkdeformer:published,32,3,"));
    free(text);
    text = file_text(md);
    assert_non_null(strstr(text, "| kdeformer:published |"));
    free(text);
}

static void from_words_and_pictures(void **state)
{
    (void)state;
    const char *words = in_shop("words.txt");
    char lines[64 * 8] = "", *end = lines;
    for (int i = 0; i < 32; i++) end += sprintf(end, "w%d %d.5 -%d\n", i, i % 5, i % 3);
    write_file(words, lines, strlen(lines));
    EXPECT_OF(ATTENTION("--glove", words, "--rows", "16", "--features", "4", "--runs", "1"), 0, "q = k = 16 rows");
    EXPECT_OF(ATTENTION("--glove", words, "--rows", "17", "--features", "4"), 3, "34 word vectors are needed");
    EXPECT_OF(ATTENTION("--weights", shop.weights, "--pictures", shop.pictures, "--layer", "t2t.2", "--limit", "2",
                  "--features", "8", "--runs", "1"),
        0, "t2t.2 of custom on 2 pictures");
    EXPECT_OF(ATTENTION("--weights", shop.weights, "--pictures", shop.pictures, "--layer", "block.1", "--features", "8",
                  "--runs", "1", "--attention", "performer,mean"),
        0, "2 heads of 16");
}

static void refusals(void **state)
{
    (void)state;
    EXPECT_OF(ATTENTION("file"), 2, "an option is missing before it");
    EXPECT_OF(ATTENTION("--attention", "performr"), 2, "did you mean performer?");
    EXPECT_OF(ATTENTION("--features", "16,x"), 2, "--features \"16,x\"");
    EXPECT_OF(ATTENTION("--features", "17", "--rows", "64", "--attention", "scatterbrain"), 2, "an even number");
    EXPECT_OF(ATTENTION("--layer", "t2t.1"), 2, "--layer needs --pictures");
    EXPECT_OF(ATTENTION("--features", "16,2,16"), 2, "16 is listed twice");
    EXPECT_OF(ATTENTION("--attention", "performer", "--attn-opt", "reformer.rounds=3"), 2, "does not list reformer");
    EXPECT_OF(
        ATTENTION("--rows", "64", "--attn-opt", "kdeformer.block.0.bucket=8"), 2, "the study is of another layer");
    EXPECT_OF(ATTENTION("--weights", shop.weights), 2, "need --pictures");
    EXPECT_OF(ATTENTION("--img-size", "64"), 2, "need --pictures");
    EXPECT_OF(ATTENTION("--glove", "a", "--pictures", "b"), 2, "only one of them is meant");
    EXPECT_OF(ATTENTION("--attn-opt", "kdeformer.sampling=best"), 2, "expected multinomial, systematic, not \"best\"");
    EXPECT_OF(ATTENTION("-o", "x.png"), 2, "known are .json .csv .md .txt .svg");
    EXPECT_OF(ATTENTION("-o", in_shop("none/x.svg")), 6, "cannot be");
    EXPECT_OF(ATTENTION("--glove", in_shop("no words")), 3, "cannot be read");
    EXPECT_OF(ATTENTION("--pictures", shop.pictures), 4, "");
    EXPECT_OF(ATTENTION("--weights", shop.weights, "--pictures", shop.pictures, "--layer", "block.9"), 2,
        "this model's layers are t2t.1, t2t.2, block.0 ... block.2");
    EXPECT_OF(ATTENTION("--weights", shop.weights, "--pictures", in_shop("no pictures")), 3, "no pictures");
}

/* Waits until the program says a word on standard error. */
static void wait_until_said(const struct command *command, const char *word)
{
    const struct timespec step = {.tv_nsec = 20000000L};
    for (int i = 0; i < 500 && !strstr(command_said(command), word); i++) nanosleep(&step, NULL);
}

static void interrupts(void **state)
{
    (void)state;
    struct command command = command_start(shop.attention,
        (const char *const[]){"--rows", "256", "--runs", "10000", "--format", "json", "--features", "16", NULL});
    wait_until_said(&command, "0/");
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    kill(command.process, SIGINT);
    const struct result result = command_finish(&command);
    assert_int_equal(result.code, 130);
    json_t *report = parsed(result.out);
    assert_true(json_is_true(at(report, "partial")));
    assert_true(json_array_size(at(report, "cases")) >= 1);
    json_decref(report);
}

/* Heads of 1024, whose norms take seconds: a signal is answered all the same, with a sentence. */
static void interrupts_of_large_heads(void **state)
{
    (void)state;
    struct command command = command_start(shop.attention,
        (const char *const[]){"--rows", "2048", "--dim", "1024", "--runs", "10000", "--features", "16", NULL});
    wait_until_said(&command, "0/");
    nanosleep(&(struct timespec){.tv_nsec = 300000000L}, NULL);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    kill(command.process, SIGINT);
    const struct result result = command_finish(&command);
    clock_gettime(CLOCK_MONOTONIC, &end);
    command_expect(&result, 130, "interrupted");
    assert_true(end.tv_sec - begin.tv_sec < 5);
}

/* ---- sweeps of t2tvit-eval ---- */

static void sweeps(void **state)
{
    (void)state;
    const char *svg = in_shop("front.svg");
    json_t *swept = REPORT("--attention", "exact,kdeformer,kdeformer:published,performer", "--sweep", "samples=3,9",
        "--sweep", "kdeformer.sampling=multinomial", "-o", svg, shop.pictures);
    json_t *alone = REPORT("--attention", "exact,kdeformer", "--kde-samples", "9", shop.pictures);
    static const char *const labels[] = {"exact", "kdeformer.samples=3", "kdeformer.samples=9",
        "kdeformer.sampling=multinomial", "kdeformer:published.samples=3", "kdeformer:published.samples=9",
        "kdeformer:published.sampling=multinomial", "performer"};
    assert_int_equal(json_array_size(at(swept, "runs")), 8);
    for (size_t i = 0; i < 8; i++) assert_string_equal(text_at(run_of(swept, i), "label"), labels[i]);
    const json_t *nine = json_array_get(at(run_of(swept, 2), "layers"), 0);
    assert_int_equal(count_at(at(nine, "options"), "samples"), 9);
    assert_true(fabs(json_number_value(at(run_of(swept, 2), "loss")) -
                     json_number_value(at(run_of(alone, 1), "loss"))) < 1e-12); /* the same run by another name */
    assert_true(json_number_value(at(run_of(swept, 2), "loss")) < json_number_value(at(run_of(swept, 1), "loss")) ||
                json_number_value(at(run_of(swept, 2), "loss")) > json_number_value(at(run_of(swept, 1), "loss")));
    json_decref(swept);
    json_decref(alone);
    char *text = file_text(svg);
    assert_non_null(strstr(text, ">kdeformer:published<"));
    assert_non_null(strstr(text, ">multinomial<"));
    free(text);
    EXPECT_OF(EVAL("--sweep", "window=3", shop.pictures), 2, "no method of --attention has an option \"window\"");
    EXPECT_OF(EVAL("--sweep", "samples", shop.pictures), 2, "expected KEY=LIST");
    EXPECT_OF(EVAL("--attention", "kdeformer", "--sweep", "samples=3,x", shop.pictures), 2,
        "expected a whole number up to 16777216, not \"x\"");
    EXPECT_OF(EVAL("--attention", "kdeformer", "--sweep", "kdeformer.block.1.samples=3", shop.pictures), 2,
        "--layers leaves its layers as they are");
}

int main(int argc, char **argv)
{
    if (argc != 2) return 1;
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats),
        cmocka_unit_test(from_words_and_pictures),
        cmocka_unit_test(refusals),
        cmocka_unit_test(interrupts),
        cmocka_unit_test(interrupts_of_large_heads),
        cmocka_unit_test(sweeps),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
