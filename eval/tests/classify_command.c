/* t2tvit-classify as a user runs it: what it takes, what it answers, what one bad picture does to the others. The first
 * argument is the folder of the programs.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/tests/written.h"

static const char *one(const char *name)
{
    static char paths[4][256];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", shop.pictures, name);
    return path;
}

#define DOTS one("dots/dots_5_5.JPEG")

/* Records of a run whose answers are JSON lines; returns their number. */
static size_t records_of(const char *text, json_t *records[64])
{
    size_t count = 0;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        json_error_t error;
        assert_non_null(strchr(line, '\n'));
        assert_true(count < 64);
        records[count] = json_loadb(line, strcspn(line, "\n"), JSON_REJECT_DUPLICATES, &error);
        if (!records[count]) fail_msg("%s: %s", error.text, line);
        count++;
    }
    return count;
}

static void release(json_t *records[64], size_t count)
{
    for (size_t i = 0; i < count; i++) json_decref(records[i]);
}

/* ---- what it takes ---- */

/* Every way to name the same two pictures prints the same. */
static void ways_to_name_pictures(void **state)
{
    (void)state;
    EXPECT_OF(
        SHELL("cd \"$P\" && \"$CLASSIFY\" -w \"$W\" dots/dots_5_17.JPEG dots/dots_5_5.JPEG >\"$D/expected\""), 0, "");
    static const char *const ways[] = {"\"$CLASSIFY\" -w \"$W\" dots", "\"$CLASSIFY\" -w \"$W\" dots//",
        "\"$CLASSIFY\" dots -b 1 -w \"$W\"", "\"$CLASSIFY\" -r -w \"$W\" \"$D/tree\" | sed \"s,$D/tree/deep/,,\"",
        "ls -d dots/* | \"$CLASSIFY\" -w \"$W\" --files-from -",
        "printf 'dots/dots_5_17.JPEG\\r\\n\\ndots/dots_5_5.JPEG' | \"$CLASSIFY\" -w \"$W\" --files-from=-",
        "printf 'dots/dots_5_17.JPEG\\0dots/dots_5_5.JPEG\\0' >\"$D/l\"; \"$CLASSIFY\" -w \"$W\" -0 --files-from "
        "\"$D/l\"",
        "echo dots/dots_5_5.JPEG >\"$D/l\"; echo dots/dots_5_17.JPEG >\"$D/k\"; "
        "\"$CLASSIFY\" -w \"$W\" --files-from \"$D/k\" --files-from \"$D/l\"",
        "\"$CLASSIFY\" -w \"$W\" -t 1 -b 7 -- dots/dots_5_17.JPEG dots/dots_5_5.JPEG",
        "\"$CLASSIFY\" -w \"$W\" dots -o \"$D/answers\" && cat \"$D/answers\"", "\"$CLASSIFY\" -w \"$W\" dots -o -"};
    EXPECT_OF(
        SHELL("mkdir -p \"$D/tree/deep\" && cp -r \"$P/dots\" \"$D/tree/deep\" && ln -s .. \"$D/tree/deep/loop\" && "
              "ln -s . \"$D/tree/self\" && ln -s deep \"$D/tree/twin\""),
        0, "");
    char script[1024];
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        snprintf(script, sizeof script, "cd \"$P\" && { %s; } | cmp - \"$D/expected\"", ways[i]);
        const struct result result = SHELL(script);
        if (result.code || *result.text) fail_msg("%s:\n%s", ways[i], result.text);
    }
    const struct result input = SHELL("cd \"$P\" && \"$CLASSIFY\" -w \"$W\" - <dots/dots_5_5.JPEG && "
                                      "cat dots/dots_5_5.JPEG | \"$CLASSIFY\" -w \"$W\" -");
    command_expect(&input, 0, "-\n");
    const size_t half = strlen(input.out) / 2;
    assert_memory_equal(input.out, input.out + half, half);
    char *expected = file_text(in_shop("expected"));
    assert_non_null(strstr(expected, strchr(input.out + half, '\n'))); /* the same answers under another name */
    free(expected);
}

static void refused_lists(void **state)
{
    (void)state;
    REFUSED(CLASSIFY("-q"), 2, "no pictures: name files or folders");
    REFUSED(CLASSIFY(shop.pictures), 3, "--recursive also looks into its folders");
    REFUSED(CLASSIFY("-", "-"), 2, "\"-\": standard input is named twice");
    REFUSED(CLASSIFY("--files-from", "nothing"), 3, "nothing: cannot be read: No such file");
    REFUSED(CLASSIFY("--files-from", shop.folder), 3, "cannot be read: Is a directory");
    EXPECT_OF(
        SHELL("printf 'a\\0b\\0' | \"$CLASSIFY\" -w \"$W\" --files-from -"), 3, "if they end the names, say --null");
    EXPECT_OF(SHELL("echo - | \"$CLASSIFY\" -w \"$W\" --files-from -"), 2, "the list itself names standard input");
    EXPECT_OF(SHELL("\"$CLASSIFY\" -w \"$W\" - <&-"), 3, "standard input cannot be read: Bad file descriptor");
    REFUSED(CLASSIFY("-"), 3, "standard input: is empty, expected a picture");
    REFUSED(CLASSIFY("--raw-input", "x", DOTS), 2, "--raw-input stands alone");
    REFUSED(CLASSIFY("-k", "0", DOTS), 2, "--topk \"0\": expected a whole number from 1");
    REFUSED(CLASSIFY("--names", "long", DOTS), 2, "--names \"long\": expected short|full|wnid");
    REFUSED(CLASSIFY("--tensor-digest", "--save-logits", "x", DOTS), 2, "--tensor-digest runs no network");
    REFUSED(command_run(shop.classify, (const char *const[]){DOTS, NULL}), 4, "no weights: neither --weights nor");
}

/* ---- what bad pictures do ---- */

static void bad_among_good(void **state)
{
    (void)state;
    EXPECT_OF(SHELL("printf 'no picture' >\"$D/bad.JPEG\"; mkfifo \"$D/pipe\"; head -c 3000 \"$P/plus/plus_5_6.JPEG\" "
                    ">\"$D/cut.JPEG\""),
        0, "");
    REFUSED(CLASSIFY(in_shop("bad.JPEG")), 3, "bad.JPEG: is no picture known here");
    const struct result result =
        CLASSIFY("--format=jsonl", "-b2", in_shop("bad.JPEG"), DOTS, in_shop("pipe"), "/dev/zero", in_shop("cut.JPEG"),
            one("plus/plus_5_6.JPEG"), in_shop("gone.JPEG"), "--save-logits", in_shop("logits"));
    command_expect(&result, 3, "t2tvit-classify: 5 of 7 pictures could not be used\n");
    static const char *const sentences[] = {"/bad.JPEG: is no picture known here", "/pipe: is a pipe or device",
        "/dev/zero: is a pipe or device", "/cut.JPEG: the JPEG is truncated",
        "/gone.JPEG: cannot be read: No such file"};
    for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++)
        assert_non_null(strstr(result.error, sentences[i]));
    json_t *records[64];
    assert_int_equal(records_of(result.out, records), 2);
    assert_non_null(strstr(text_at(records[0], "picture"), "dots_5_5"));
    assert_non_null(strstr(text_at(records[1], "picture"), "plus_5_6"));
    release(records, 2);
    const struct logits logits = logits_of(in_shop("logits"), "logits");
    assert_int_equal(logits.pictures, 2);
    assert_null(t2t_tensors_metadata(logits.file, "partial")); /* all of what can be used */
    t2t_tensors_close(logits.file);
    EXPECT_OF(CLASSIFY(DOTS, one("plus/plus_5_6.JPEG"), "--save-logits", in_shop("good")), 0, "");
    expect_same_logits(in_shop("logits"), in_shop("good"), "logits");
}

/* ---- what it answers ---- */

static void answers_are_ordered(void **state)
{
    (void)state;
    json_t *records[64];
    const struct result result = CLASSIFY("-r", shop.pictures, "--format=jsonl", "-k12", "--output-type=both", "-a",
        "exact,kdeformer", "--save-logits", in_shop("logits"));
    command_expect(&result, 0, "");
    const size_t count = records_of(result.out, records);
    assert_int_equal(count, SHOP_PICTURES);
    const struct logits logits = logits_of(in_shop("logits"), "logits.exact");
    assert_int_equal(logits.pictures, count);
    for (size_t i = 0; i < count; i++) {
        const json_t *exact = at(at(records[i], "answers"), "exact");
        assert_int_equal(json_array_size(exact), 12);
        assert_int_equal(json_array_size(at(at(records[i], "answers"), "kdeformer")), 12);
        double sum = 0, before = INFINITY;
        for (size_t rank = 0; rank < 12; rank++) {
            const json_t *answer = json_array_get(exact, rank);
            const double logit = json_real_value(at(answer, "logit")), prob = json_real_value(at(answer, "prob"));
            const float *own = logits.value + i * SHOP_CLASSES;
            assert_true(fabs(logit - (double)own[count_at(answer, "index")]) <= 1e-8 * fabs(logit));
            assert_true(logit <= before);
            before = logit;
            sum += prob;
        }
        assert_true(fabs(sum - 1) < 1e-6);
    }
    t2t_tensors_close(logits.file);
    release(records, count);
}

static void logits_are_those_of_eval(void **state)
{
    (void)state;
    EXPECT_OF(CLASSIFY("-r", shop.pictures, "-b3", "--save-logits", in_shop("classify")), 0, "");
    EXPECT_OF(EVAL("-q", shop.pictures, "--save-logits", in_shop("eval")), 0, "");
    expect_same_logits(in_shop("classify"), in_shop("eval"), "logits");
    /* a picture's draws do not depend on its neighbours here */
    EXPECT_OF(CLASSIFY("-r", shop.pictures, "-akdeformer", "--layers=all", "--save-logits", in_shop("all")), 0, "");
    EXPECT_OF(CLASSIFY(DOTS, "-akdeformer", "--layers=all", "--save-logits", in_shop("alone")), 0, "");
    const struct logits all = logits_of(in_shop("all"), "logits"), alone = logits_of(in_shop("alone"), "logits");
    assert_int_equal(alone.pictures, 1);
    assert_memory_equal(alone.value, all.value + 11 * SHOP_CLASSES, SHOP_CLASSES * sizeof(float));
    t2t_tensors_close(all.file);
    t2t_tensors_close(alone.file);
}

static void formats(void **state)
{
    (void)state;
    const struct result csv = CLASSIFY(DOTS, "-k3", "--format=csv", "-a", "exact,mean", "--output-type=logit");
    command_expect(&csv, 0, "picture,attention,rank,index,wnid,name,logit\n");
    size_t lines = 0, commas = 0;
    for (const char *c = csv.out; *c; c++) {
        lines += *c == '\n';
        commas += *c == ',';
    }
    assert_int_equal(lines, 7);
    assert_int_equal(commas, 7 * 6);
    const struct result table = CLASSIFY(DOTS, "-k2", "-a", "exact,kdeformer");
    command_expect(&table, 0, "exact");
    const char *line = strchr(table.out, '\n') + 1, *next = strchr(line, '\n') + 1;
    const char *heading = strstr(line, "kdeformer"), *percent = strchr(strchr(next, '%') + 1, '%');
    assert_true(heading && heading < next); /* side by side, the heading over its column of "  12.34 %" */
    assert_int_equal(heading - line, percent - next - 6);
    assert_string_equal(table.error, "");
    const struct result wide = CLASSIFY(DOTS, "-k1000");
    command_expect(&wide, 0, " % ");
    lines = 0;
    for (const char *c = wide.out; *c; c++) lines += *c == '\n';
    assert_int_equal(lines, 13); /* as many as there are */
}

#define E8 "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"

static void names_of_classes(void **state)
{
    (void)state;
    const char names[] = "zero\n\"one\", first\ntwo\r\n3\n4\n5\n6\n7\n8\n9\n10\ne\033[31mleven\n";
    write_file(in_shop("names"), names, sizeof names - 1);
    const struct result list = CLASSIFY(DOTS, "-k12", "--format=csv", "--labels", in_shop("names"), "--names=full");
    command_expect(&list, 0, ",1,,\"\"\"one\"\", first\",");
    assert_non_null(strstr(list.out, ",0,,zero,"));
    assert_non_null(strstr(list.out, ",2,,two,"));
    assert_non_null(strstr(list.out, ",11,,e?[31mleven,"));
    EXPECT_OF(
        CLASSIFY(DOTS, "-k12", "--format=csv", "--labels", in_shop("names")), 0, ",1,,\"\"\"one\"\"\","); /* short */
    write_file(in_shop("names"), names, sizeof names - 3);
    EXPECT_OF(CLASSIFY(DOTS, "--labels", in_shop("names")), 0, ""); /* no line break at the end */
    write_file(in_shop("names"), names, 18);
    REFUSED(CLASSIFY(DOTS, "--labels", in_shop("names")), 3, "names: has 2 lines, expected a class name a line for 12");
    REFUSED(CLASSIFY(DOTS, "--labels", "nothing"), 3, "nothing: cannot be read");
    REFUSED(CLASSIFY(DOTS, "--labels", shop.folder), 3, "cannot be read: Is a directory");
    EXPECT_OF(SHELL("yes | \"$CLASSIFY\" -w \"$W\" --labels /dev/stdin \"$P/dots\""), 3, "has more than 12 lines");

    const char *odd = make_network("odd", T2T_TOKENS_TRANSFORMER, SHOP_SIZE,
        &(struct network_change){.key = "class_names",
            .value = "[\"a\\u001b[2J\", \"b,\\\"\", \"c\\nd\", \"caf\\u00e9\", \"" E8 E8 E8 E8
                     "\", \"a\", \"a\", \"\\u009b1m\", "
                     "\"9\", \"10\", \"11\", \"12\"]"});
    const struct result columns = command_run(
        shop.classify, (const char *const[]){"-w", odd, DOTS, "-k12", "--names=full", "-a", "exact,mean", NULL});
    command_expect(&columns, 0, "\u00e9\u00e9\u00e9  "); /* cut between two characters, never within one */
    assert_null(strstr(columns.out, "\xc3 "));
    assert_null(strstr(columns.out, E8 E8 E8 "  "));
    const char *const arguments[] = {"-w", odd, DOTS, "-k12", "--format=jsonl", "--names=full", NULL};
    const struct result result = command_run(shop.classify, arguments);
    command_expect(&result, 0, "a?[2J");
    json_t *records[64];
    assert_int_equal(records_of(result.out, records), 1);
    release(records, 1);
    assert_non_null(strstr(result.out, "caf\u00e9"));
    assert_non_null(strstr(result.out, "\"??1m\"")); /* a control sequence of one character */
    unlink(odd);
}

/* ---- outputs ---- */

static void outputs(void **state)
{
    (void)state;
    EXPECT_OF(
        SHELL("\"$CLASSIFY\" -w \"$W\" -r \"$P\" >/dev/full"), 6, "standard output cannot be written: No space left");
    EXPECT_OF(
        SHELL("\"$CLASSIFY\" -w \"$W\" -r \"$P\" >&-"), 6, "standard output cannot be written: Bad file descriptor");
    REFUSED(CLASSIFY(DOTS, "-o", in_shop("none/answers")), 6, "none/answers: cannot be created: No such file");
    REFUSED(CLASSIFY(DOTS, "-o", shop.folder), 6, "cannot be written (Is a directory)");
    REFUSED(CLASSIFY(DOTS, "-o", "/dev/full"), 6, "/dev/full: cannot be written (No space left");
    REFUSED(CLASSIFY("-o", in_shop("expected"), in_shop("expected")), 6, "expected: is read by this run");
    REFUSED(CLASSIFY(DOTS, "--save-logits", shop.weights), 6, "is read by this run");
    REFUSED(CLASSIFY(DOTS, "-o", "x", "--save-logits", "x"), 2, "is named for two outputs");
    EXPECT_OF(SHELL("ls -A \"$D\" | grep -E '[.](tmp|......)$' | grep -v -e '[.]JPEG$' && exit 9; exit 0"), 0, "");
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ways_to_name_pictures),
        cmocka_unit_test(refused_lists),
        cmocka_unit_test(bad_among_good),
        cmocka_unit_test(answers_are_ordered),
        cmocka_unit_test(logits_are_those_of_eval),
        cmocka_unit_test(formats),
        cmocka_unit_test(names_of_classes),
        cmocka_unit_test(outputs),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
