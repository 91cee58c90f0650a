/* What t2tvit-eval refuses, with which exit code and sentence, and what it leaves on the disk: nothing. The first
 * argument is the folder of the programs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/tests/written.h"

/* Every run says less with -q, so that a refusal is the only sentence. */
#define QUIET(...) EVAL("-q", __VA_ARGS__)

static int run_script(const char *script)
{
    const struct result result = SHELL(script);
    if (result.code) fail_msg("%s:\n%s", script, result.text);
    return result.code;
}

static void write_text(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

/* ---- 1: checks that were asked for ---- */

static void checks(void **state)
{
    (void)state;
    json_t *report = REPORT(shop.pictures);
    const json_t *top1 = at(run_of(report, 0), "top1");
    const double percent = 100 * (double)count_at(top1, "correct") / SHOP_PICTURES;
    json_decref(report);
    char right[32], near[32], wrong[32];
    snprintf(right, sizeof right, "%.2f", percent);
    snprintf(near, sizeof near, "%.2f", percent + 0.9);
    snprintf(wrong, sizeof wrong, "%.2f", percent + 1.1);
    EXPECT_OF(QUIET(shop.pictures, "--expect-top1", right), 0, "exact");
    EXPECT_OF(QUIET(shop.pictures, "--expect-top1", near, "--tolerance", "1"), 0, "exact");
    EXPECT_OF(QUIET(shop.pictures, "--expect-top1", wrong, "--tolerance=1"), 1, "(--expect-top1)");
    EXPECT_OF(QUIET(shop.pictures, "--expect-top1", near), 1, "+- 0.1 (--expect-top1)"); /* 0.1 by default */
    EXPECT_OF(QUIET(shop.pictures, "-a", "exact,mean", "--max-drop", "100"), 0, "mean");
    /* two dozen pictures cannot show that nothing is lost, whatever the network does */
    EXPECT_OF(QUIET(shop.pictures, "-a", "exact,mean", "--max-drop", "1"), 1, "more than --max-drop 1");
}

/* ---- 2: usage ---- */

static void usage(void **state)
{
    (void)state;
    REFUSED(QUIET(NULL), 2, "--val-dir DIR is missing");
    REFUSED(QUIET(shop.pictures, "--cuda-graph"), 2, "--cuda-graph: the CPU has no CUDA graphs; leave it out, or use");
    REFUSED(QUIET("--val-dri", shop.pictures), 2, "--val-dri: no such option; did you mean --val-dir?");
    REFUSED(QUIET(shop.pictures, "more"), 2, "\"more\": only one folder of pictures at a time");
    REFUSED(QUIET("--val-dir", shop.pictures, "more"), 2, "\"more\": only one folder");
    REFUSED(QUIET(shop.pictures, "--raw-input", "x"), 2, "--val-dir and --raw-input: only one is meant");
    REFUSED(QUIET(shop.pictures, "--batch-size", "0"), 2, "--batch-size \"0\": expected auto or a whole number from 1");
    REFUSED(QUIET(shop.pictures, "--batch-size", "many"), 2, "--batch-size \"many\"");
    REFUSED(QUIET(shop.pictures, "--max-skipped", "3"), 2, "--max-skipped needs --on-error skip");
    REFUSED(QUIET(shop.pictures, "--tolerance", "3"), 2, "--tolerance needs --expect-top1");
    REFUSED(QUIET(shop.pictures, "--max-drop", "3"), 2, "--max-drop: --attention names nothing that could lose");
    REFUSED(QUIET(shop.pictures, "--attention", "exat"), 2, "did you mean exact?");
    REFUSED(QUIET(shop.pictures, "-a", "kdeformer", "--layers", "block.9"), 2, "block.0 ... block.2");
    REFUSED(QUIET(shop.pictures, "--layout", "none"), 2, "there is no layout \"none\"");
    REFUSED(QUIET(shop.pictures, "--mean", "1,2"), 2, "--mean \"1,2\": expected three numbers");
    REFUSED(QUIET(shop.pictures, "--std", "1,0,1"), 2, "--std");
    REFUSED(QUIET(shop.pictures, "-o", "report"), 2, "its ending says no format; known are .json .csv .md .txt");
    REFUSED(QUIET(shop.pictures, "-o", "a.json", "-o", "a.json"), 2, "\"a.json\" is named for two outputs");
    REFUSED(QUIET(shop.pictures, "-o", "a.json", "--save-logits", "a.json"), 2, "is named for two outputs");
    EXPECT_OF(QUIET("--help"), 0, "usage: t2tvit-eval");
    EXPECT_OF(QUIET("--version"), 0, "t2tvit-eval ");
}

/* ---- 3: pictures and labels ---- */

static void folders(void **state)
{
    (void)state;
    run_script("mkdir -p \"$D/empty/dots\" \"$D/odd/weird\" && cp \"$P\"/dots/* \"$D/odd/weird\" && cp -r \"$P/dots\" "
               "\"$D/flat\"");
    REFUSED(QUIET(in_shop("nothing")), 3, "nothing: cannot be read: No such file");
    REFUSED(QUIET(shop.weights), 3, "is a file, expected a folder of pictures");
    REFUSED(QUIET(in_shop("empty")), 3, "empty: its folders hold no pictures");
    REFUSED(QUIET(in_shop("empty/dots")), 3, "holds neither class folders nor pictures");
    REFUSED(QUIET(in_shop("odd")), 3, "odd/weird: is no class of these weights; they know arrows_facing");
    REFUSED(QUIET(in_shop("flat")), 3, "give their labels with --labels FILE");
    REFUSED(QUIET(in_shop("flat"), "--labels", "nothing"), 3, "nothing: cannot be read");
    write_text(in_shop("labels"), "dots_5_5.JPEG 5\ndots_5_17.JPEG 13\n");
    REFUSED(QUIET(in_shop("flat"), "--labels", in_shop("labels")), 3, "labels: line 2: \"13\" is no index of a class");
    write_text(in_shop("labels"), "dots_5_5.JPEG 5\ndots_5_17.JPEG 12\n");
    REFUSED(
        QUIET(in_shop("flat"), "--labels", in_shop("labels")), 3, "labels run from 1 to 12, so they are no indices");
    write_text(in_shop("labels"), "5\n0\n1\n");
    REFUSED(QUIET(in_shop("flat"), "--labels", in_shop("labels")), 3, "labels: has 3 labels for 2 pictures");
    write_text(in_shop("labels"), "5\n0\n");
    EXPECT_OF(QUIET(in_shop("flat"), "--labels", in_shop("labels")), 0, "labels index");
    REFUSED(QUIET(shop.pictures, "--labels", in_shop("labels")), 2, "its folders say the labels");
    REFUSED(QUIET("--raw-input", shop.pictures), 3, "is a folder");
    REFUSED(QUIET("--raw-input", shop.weights), 3, "has no tensor \"input\"");
}

/* One picture of three is cut in the middle. */
static void corrupt_pictures(void **state)
{
    (void)state;
    run_script("mkdir -p \"$D/cut/dots\" \"$D/cut/plus\" && cp \"$P\"/dots/* \"$D/cut/dots\" && "
               "head -c 2000 \"$P/plus/plus_5_6.JPEG\" >\"$D/cut/plus/half.JPEG\"");
    REFUSED(QUIET(in_shop("cut")), 3, "plus/half.JPEG: the JPEG is truncated");
    const struct result skipped = QUIET(in_shop("cut"), "--on-error", "skip", "--format", "json", "-o",
        in_shop("skipped.json"), "-b", "1", "--save-logits", in_shop("kept.safetensors"));
    command_expect(&skipped, 0, "plus/half.JPEG: the JPEG is truncated");
    assert_string_equal(skipped.error, "");
    json_t *report = parsed(skipped.out);
    const json_t *set = at(report, "dataset");
    assert_int_equal(count_at(set, "images"), 2);
    assert_int_equal(count_at(set, "listed"), 3);
    assert_int_equal(json_array_size(at(set, "skipped")), 1);
    assert_string_equal(text_at(json_array_get(at(set, "skipped"), 0), "name"), "plus/half.JPEG");
    assert_int_equal(count_at(at(run_of(report, 0), "top1"), "total"), 2);
    json_decref(report);
    struct logits logits = logits_of(in_shop("kept.safetensors"), "logits");
    assert_int_equal(logits.pictures, 2);
    assert_null(strstr(t2t_tensors_metadata(logits.file, "files"), "half"));
    t2t_tensors_close(logits.file);
    EXPECT_OF(QUIET(in_shop("cut"), "--on-error", "skip", "--max-skipped", "1"), 0, "1 pictures could not be used");
    REFUSED(QUIET(in_shop("cut"), "--on-error", "skip", "--max-skipped", "0"), 3, "more than --max-skipped 0");
    run_script("rm \"$D\"/cut/dots/*");
    REFUSED(QUIET(in_shop("cut"), "--on-error", "skip"), 3, "none of the 1 pictures could be used");
}

/* A name that is no UTF-8, with a line break and an escape sequence. */
static void odd_names(void **state)
{
    (void)state;
    run_script("mkdir -p \"$D/names/dots\" && "
               "cp \"$P/dots/dots_5_5.JPEG\" \"$D/names/dots/$(printf 'a\\nb\\033[31m\\351.JPEG')\"");
    json_t *report = REPORT(in_shop("names"), "--save-logits", in_shop("names.safetensors"));
    assert_int_equal(count_at(at(report, "dataset"), "images"), 1);
    json_decref(report);
    const struct result result = EVAL(in_shop("names"));
    command_expect(&result, 0, "dots/a?b?[31m");
    assert_null(strchr(result.text, '\033'));
    run_script("mv \"$D/names\" \"$D/$(printf 'folder\\033[7m')\"");
    const struct result folder = EVAL(in_shop("folder\033[7m"));
    command_expect(&folder, 0, "folder?[7m: 1 of 1 pictures");
    assert_null(strchr(folder.text, '\033'));
}

/* ---- 4: weights ---- */

static void weights(void **state)
{
    (void)state;
    const char *const none[] = {"-q", shop.pictures, NULL};
    REFUSED(command_run(shop.eval, none), 4, "neither --weights nor $T2TVIT_WEIGHTS is given, and ");
    assert_non_null(strstr(command_run(shop.eval, none).error, in_shop("no data/t2tvit/default.safetensors")));
    assert_non_null(strstr(command_run(shop.eval, none).error, "t2tvit-convert --install"));

    setenv("T2TVIT_WEIGHTS", shop.weights, 1);
    EXPECT_OF(command_run(shop.eval, none), 0, shop.weights);
    setenv("T2TVIT_WEIGHTS", "nothing", 1);
    REFUSED(command_run(shop.eval, none), 4, "nothing: the weights file of $T2TVIT_WEIGHTS cannot be read");
    unsetenv("T2TVIT_WEIGHTS");
    run_script("mkdir -p \"$D/no data/t2tvit\" \"$D/.local/share/t2tvit\" && cp \"$W\" \"$D/no "
               "data/t2tvit/default.safetensors\" && "
               "cp \"$W\" \"$D/.local/share/t2tvit/default.safetensors\"");
    EXPECT_OF(command_run(shop.eval, none), 0, "no data/t2tvit/default.safetensors");
    EXPECT_OF(
        SHELL("unset XDG_DATA_HOME; HOME=\"$D\" \"$EVAL\" -q \"$P\""), 0, "/.local/share/t2tvit/default.safetensors");
    EXPECT_OF(SHELL("XDG_DATA_HOME=no HOME=\"$D\" \"$EVAL\" -q \"$P\""), 0, "/.local/share/t2tvit/"); /* relative */
    run_script("rm -r \"$D/no data\" \"$D/.local\"");

    REFUSED(EVAL("-q", "--img-size", "224", shop.pictures), 4, "the positions of these weights are for 64 px");
    EXPECT_OF(SHELL("\"$EVAL\" -q -w \"$P\" \"$P\""), 4, "is a folder");
    EXPECT_OF(
        SHELL("\"$EVAL\" -q -w \"$P/dots/dots_5_5.JPEG\" \"$P\""), 4, "is a picture, expected a safetensors file");
    EXPECT_OF(SHELL("head -c 9000 \"$W\" >\"$D/half\" && \"$EVAL\" -q -w \"$D/half\" \"$P\""), 4, "/half: ");
    EXPECT_OF(SHELL("\"$EVAL\" -q -w /dev/null \"$P\""), 4, "/dev/null");
    make_network(
        "wrong", T2T_TOKENS_TRANSFORMER, SHOP_SIZE, &(struct network_change){.key = "embed_dim", .value = "64"});
    EXPECT_OF(SHELL("\"$EVAL\" -q -w \"$D/wrong\" \"$P\""), 4, "a custom of 64 px expects [");
    make_network(
        "wrong", T2T_TOKENS_TRANSFORMER, SHOP_SIZE, &(struct network_change){.key = "class_names", .value = "[]"});
    EXPECT_OF(SHELL("\"$EVAL\" -q -w \"$D/wrong\" \"$P\""), 4, "metadata class_names");
    make_network("wrong", T2T_TOKENS_TRANSFORMER, SHOP_SIZE, &(struct network_change){.key = "class_names"});
    EXPECT_OF(SHELL("\"$EVAL\" -q -w \"$D/wrong\" \"$P\""), 3, "the weights do not name their classes");
    make_network("performer", T2T_TOKENS_PERFORMER, SHOP_SIZE, NULL);
    EXPECT_OF(
        SHELL("\"$EVAL\" -q -w \"$D/performer\" -a exact,kdeformer \"$P\""), 4, "custom has Token_performer layers");
    EXPECT_OF(SHELL("\"$EVAL\" -q -w \"$D/performer\" -a kdeformer --layers blocks \"$P\""), 0, "replaced in block.0-");
}

/* ---- 5: the processor ---- */

static void processors(void **state)
{
    (void)state;
    EXPECT_OF(SHELL("T2TVIT_CPU=c \"$EVAL\" -q -w \"$W\" \"$P\""), 0, "cpu, c kernels");
    EXPECT_OF(SHELL("T2TVIT_CPU=z80 \"$EVAL\" -q -w \"$W\" \"$P\""), 2, "T2TVIT_CPU=z80 is no set of kernels");
    const struct result wide = SHELL("T2TVIT_CPU=avx512 \"$EVAL\" -q -w \"$W\" \"$P\"");
    if (wide.code == 0)
        command_expect(&wide, 0, "cpu, avx512 kernels");
    else
        expect_one_sentence(&wide, 5, "T2TVIT_CPU asks for avx512, which this processor does not have");
}

/* ---- 6: outputs ---- */

static void outputs(void **state)
{
    (void)state;
    run_script("mkdir \"$D/out\" \"$D/out/folder.json\"");
    REFUSED(QUIET(shop.pictures, "-o", in_shop("out/none/r.json")), 6, "none/r.json: cannot be created: No such file");
    REFUSED(
        QUIET(shop.pictures, "-o", in_shop("out/folder.json")), 6, "folder.json: cannot be written (Is a directory)");
    REFUSED(QUIET(shop.pictures, "--save-logits", "-"), 6, "expected the name of a file");
    REFUSED(QUIET(shop.pictures, "--save-logits", "/dev/full"), 6, "/dev/full: is a folder, a pipe or a device");
    REFUSED(QUIET(shop.pictures, "--save-logits", shop.weights), 6, "is read by this run");
    run_script("ln -s /dev/full \"$D/out/full.json\" && cp \"$W\" \"$D/w2\" && ln \"$D/w2\" \"$D/out/twin.json\"");
    EXPECT_OF(SHELL("\"$EVAL\" -q -w \"$D/w2\" \"$P\" -o \"$D/out/twin.json\""), 6, "twin.json: is read by this run");
    EXPECT_OF(QUIET(shop.pictures, "-o", in_shop("out/full.json")), 6, "full.json: cannot be written (No space left");
    EXPECT_OF(SHELL("\"$EVAL\" -q -w \"$W\" \"$P\" >/dev/full"), 6, "standard output cannot be written: No space left");
    EXPECT_OF(SHELL("\"$EVAL\" -q -w \"$W\" \"$P\" >&-"), 6, "standard output cannot be written: Bad file descriptor");
    EXPECT_OF(SHELL("\"$EVAL\" -q -w \"$W\" \"$P\" <&- 2>&-"), 0, "exact");
    EXPECT_OF(SHELL("ulimit -f 3; \"$EVAL\" -q -w \"$W\" \"$P\" -o \"$D/out/r.json\" >/dev/null"), 6,
        "out/r.json: cannot be written: File too large");
    EXPECT_OF(
        SHELL(
            "ulimit -f 3; \"$EVAL\" -q -w \"$W\" \"$P\" -a exact,kdeformer,mean --save-logits \"$D/out/l\" >/dev/null"),
        6, "out/l: cannot be written: File too large");
    /* the first failure gives the code, both are told */
    const struct result two = SHELL("ulimit -f 3; \"$EVAL\" -q -w \"$W\" \"$P\" -o \"$D/out/r.json\" >/dev/full");
    command_expect(&two, 6, "standard output cannot be written: No space left on device\n");
    assert_non_null(strstr(two.error, "out/r.json: cannot be written: File too large\n"));
    run_script("cp \"$W\" \"$D/out/old.json\"");
    EXPECT_OF(SHELL("ulimit -f 3; \"$EVAL\" -q -w \"$W\" \"$P\" -o \"$D/out/old.json\" >/dev/null"), 6,
        "old.json: cannot be written");
    run_script("cmp \"$W\" \"$D/out/old.json\""); /* as it was */
    run_script("test \"$(ls -A \"$D/out\")\" = \"$(printf 'folder.json\\nfull.json\\nold.json\\ntwin.json')\"");
    EXPECT_OF(QUIET(shop.pictures, "-o", in_shop("out/old.json"), "--save-logits", in_shop("out/new")), 0, "exact");
    run_script("head -c 1 \"$D/out/old.json\" | grep -q '{'");
}

/* ---- 7: numbers that are none ---- */

static void not_finite(void **state)
{
    (void)state;
    make_network("huge", T2T_TOKENS_TRANSFORMER, SHOP_SIZE,
        &(struct network_change){.tensor = "blocks.1.attn.qkv.weight", .factor = 1e30F});
    const struct result result = SHELL("\"$EVAL\" -q -w \"$D/huge\" -o \"$D/huge.json\" \"$P\"");
    expect_one_sentence(&result, 7, "attention exact, pictures arrows_facing/arrows_facing_5_0.JPEG to ");
    assert_non_null(strstr(result.error, "block.1"));
    assert_int_not_equal(access(in_shop("huge.json"), F_OK), 0);
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks),
        cmocka_unit_test(usage),
        cmocka_unit_test(folders),
        cmocka_unit_test(corrupt_pictures),
        cmocka_unit_test(odd_names),
        cmocka_unit_test(weights),
        cmocka_unit_test(processors),
        cmocka_unit_test(outputs),
        cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
