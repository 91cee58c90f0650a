/* t2tvit-eval's results: every format says the same, the numbers follow from the logits, and the logits depend on the
 * pictures and the seed alone. The first argument is the folder of the programs.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/tests/written.h"
#include "layers/base/cpu_features.h"

static size_t best_of(const float *logits)
{
    size_t best = 0;
    for (size_t i = 1; i < SHOP_CLASSES; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static bool within(const float *logits, size_t label, size_t places)
{
    size_t better = 0;
    for (size_t i = 0; i < SHOP_CLASSES; i++)
        better += logits[i] > logits[label] || (logits[i] == logits[label] && i < label);
    return better < places;
}

static size_t lines_in(const char *text)
{
    size_t count = 0;
    for (; *text; text++) count += *text == '\n';
    return count;
}

/* ---- formats ---- */

/* The number format is on the card; where the processor cannot multiply bfloat16, what to do is said. */
static void number_formats(void **state)
{
    (void)state;
    EXPECT_OF(EVAL("-q", shop.pictures, "--dtype", "f32"), 0, ", float32; ");
    EXPECT_OF(EVAL("-q", shop.pictures, "--dtype", "float32", "-a", "exact"), 0, "attention exact in every layer");
    EXPECT_OF(EVAL("-q", shop.pictures, "--dtype", "int8"), 2, "expected float32|bfloat16|float16|f32|bf16");
    static const char *const halves[] = {"float16", "f16", "fp16", "half"};
    for (size_t i = 0; i < 4; i++)
        EXPECT_OF(EVAL("-q", shop.pictures, "--dtype", halves[i]), 5, "float16: the CPU has no such products");
    static const char *const names[] = {"bf16", "bfloat16"};
    for (size_t i = 0; i < 2; i++) {
        const struct result result = EVAL(shop.pictures, "--dtype", names[i], "-a", "exact,kdeformer");
        command_expect(&result, result.code == 5 ? 5 : 0, result.code == 5 ? "--dtype float32" : ", bfloat16; ");
        const struct t2t_cpu_features features = t2t_cpu_features();
        if (result.code == 0 && !features.amx_bf16 && features.slow_bf16)
            command_expect(&result, 0, "float32, which is the faster");
    }
}

static void formats_say_the_same(void **state)
{
    (void)state;
    const struct result result = EVAL("-q", "--val-dir", shop.pictures, "-a", "exact,mean", "--format", "csv", "-o",
        in_shop("r.json"), "-o", in_shop("r.md"), "-o", in_shop("r.txt"), "-o", in_shop("r.csv"));
    command_expect(&result, 0, "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation,");
    char *csv = file_text(in_shop("r.csv")), *json = file_text(in_shop("r.json")), *table = file_text(in_shop("r.txt"));
    assert_non_null(strstr(table, "GMAC  layer 1 MMAC\n")); /* every column in one row */
    char *markdown = file_text(in_shop("r.md"));
    assert_string_equal(csv, result.out);
    assert_int_equal(lines_in(csv), 3);
    size_t commas[3] = {0};
    for (size_t i = 0, line = 0; csv[i]; i++) {
        commas[line] += csv[i] == ',';
        line += csv[i] == '\n';
    }
    assert_int_equal(commas[0], 29);
    assert_int_equal(commas[1], commas[0]);
    assert_int_equal(commas[2], commas[0]);

    json_t *report = parsed(json);
    assert_string_equal(text_at(report, "schema"), "t2tvit-eval/1");
    assert_true(json_is_false(at(report, "partial")));
    char cell[64];
    for (size_t run = 0; run < 2; run++) {
        const json_t *top1 = at(run_of(report, run), "top1");
        const double percent = 100 * (double)count_at(top1, "correct") / (double)count_at(top1, "total");
        snprintf(cell, sizeof cell, "bicubic,%s,1,24,", text_at(run_of(report, run), "name"));
        assert_non_null(strstr(csv, cell));
        snprintf(cell, sizeof cell, "custom,64,%.3f,%.3f,", percent, 100 - percent);
        assert_non_null(strstr(csv, cell));
        snprintf(cell, sizeof cell, "%.2f [", percent);
        assert_non_null(strstr(strstr(table, text_at(run_of(report, run), "name")), cell));
        assert_non_null(strstr(markdown, cell));
    }
    json_decref(report);
    assert_non_null(strstr(table, "dataset   "));
    assert_non_null(strstr(markdown, "|---|---:|"));
    free(csv);
    free(json);
    free(table);
    free(markdown);
}

/* "-" takes the place of the report that would stand there anyhow. */
static void standard_output_once(void **state)
{
    (void)state;
    const struct result result = EVAL("-q", shop.pictures, "-n", "2", "--format=json", "-o", "-");
    command_expect(&result, 0, "");
    json_decref(parsed(result.out));
}

/* ---- numbers ---- */

static void expect_count(const json_t *run, const char *what, const char *key, size_t expected)
{
    const size_t found = count_at(what ? at(run, what) : run, key);
    if (found != expected) fail_msg("%s: %s is %zu, recounted %zu", text_at(run, "name"), key, found, expected);
}

/* Pictures are sorted by class folder, and the weights list classes in that order: two pictures a class. */
static void numbers_follow_from_logits(void **state)
{
    (void)state;
    json_t *report = REPORT(shop.pictures, "-a", "kdeformer,exact,mean", "--layers", "all", "--save-logits",
        in_shop("l.safetensors"), "-b5");
    static const char *const names[] = {"kdeformer", "exact", "mean"};
    const struct logits exact = logits_of(in_shop("l.safetensors"), "logits.exact");
    assert_int_equal(exact.pictures, SHOP_PICTURES);
    size_t differing = 0;
    for (size_t run = 0; run < 3; run++) {
        char tensor[64];
        snprintf(tensor, sizeof tensor, "logits.%s", names[run]);
        const struct logits logits = logits_of(in_shop("l.safetensors"), tensor);
        size_t top1 = 0, top5 = 0, lost = 0, gained = 0, agreed = 0;
        for (size_t i = 0; i < SHOP_PICTURES; i++) {
            const float *own = logits.value + i * SHOP_CLASSES, *other = exact.value + i * SHOP_CLASSES;
            const size_t label = i / 2;
            top1 += best_of(own) == label;
            top5 += within(own, label, 5);
            lost += best_of(other) == label && best_of(own) != label;
            gained += best_of(other) != label && best_of(own) == label;
            agreed += best_of(other) == best_of(own);
        }
        differing += SHOP_PICTURES - agreed;
        const json_t *found = run_of(report, run);
        assert_string_equal(text_at(found, "name"), names[run]);
        if (run != 1) {
            assert_string_equal(text_at(at(found, "paired"), "reference"), "exact");
            expect_count(found, "paired", "lost", lost);
            expect_count(found, "paired", "gained", gained);
        } else {
            assert_null(json_object_get(found, "paired")); /* exact against itself */
        }
        expect_count(found, "top1", "correct", top1);
        expect_count(found, "top1", "total", SHOP_PICTURES);
        expect_count(found, "top5", "correct", top5);
        expect_count(found, NULL, "same_answer", agreed);
        assert_int_equal(json_array_size(at(at(found, "forward_ms"), "batches")), 5);
        assert_int_equal(json_array_size(at(found, "layers")), 5);
        t2t_tensors_close(logits.file);
    }
    assert_true(differing > 0); /* otherwise this test would not have seen much */
    t2t_tensors_close(exact.file);
    json_decref(report);
}

static void reference_is_chosen(void **state)
{
    (void)state;
    json_t *report = REPORT(shop.pictures, "-a", "exact,mean", "--reference", "mean", "--layers", "all");
    assert_string_equal(text_at(at(run_of(report, 0), "paired"), "reference"), "mean");
    assert_null(json_object_get(run_of(report, 1), "paired"));
    assert_int_equal(count_at(run_of(report, 1), "same_answer"), SHOP_PICTURES);
    json_decref(report);
}

static void seeds_and_layers(void **state)
{
    (void)state;
    json_t *report = REPORT(shop.pictures, "-a", "exact,kdeformer", "--seeds", "2,7", "--layers", "blocks", "-n", "6");
    assert_int_equal(json_array_size(at(report, "runs")), 3);
    assert_string_equal(text_at(run_of(report, 2), "name"), "kdeformer.seed7");
    assert_int_equal(count_at(run_of(report, 2), "seed"), 7);
    assert_string_equal(text_at(run_of(report, 1), "layers_replaced"), "block.0-block.2");
    const json_t *layers = at(run_of(report, 1), "layers");
    assert_string_equal(text_at(json_array_get(layers, 1), "attention"), "exact");
    assert_string_equal(text_at(json_array_get(layers, 2), "attention"), "kdeformer");
    assert_int_equal(count_at(at(report, "dataset"), "images"), 6);
    assert_int_equal(count_at(at(report, "dataset"), "total"), SHOP_PICTURES);
    const json_t *methods = at(report, "methods");
    assert_int_equal(json_array_size(methods), 2);
    assert_int_equal(count_at(json_array_get(methods, 1), "seeds"), 2);
    json_decref(report);
}

/* What a target error took is told with its layer; products follow it, whatever the batch. */
static void target_errors_say_what_they_took(void **state)
{
    (void)state;
    double macs[2], samples[2];
    for (size_t i = 0; i < 2; i++) {
        json_t *report = REPORT(shop.pictures, "-a", "exact,kdeformer", "--kde-error", "0.3", i ? "-b7" : "-b1",
            "--layers", "t2t.1", "-o", in_shop("taken.txt"));
        const json_t *run = run_of(report, 1), *layers = at(run, "layers"), *layer = json_array_get(layers, 0);
        const json_t *taken = at(layer, "taken");
        macs[i] = json_number_value(at(run, "layer1_macs"));
        samples[i] = json_number_value(at(taken, "samples"));
        assert_int_equal(count_at(at(layer, "options"), "samples"), 256); /* all keys, as nothing else was asked for */
        assert_true(samples[i] >= 1 && samples[i] < 256);
        assert_true(json_number_value(at(taken, "bucket")) >= 16);
        assert_true(json_number_value(at(taken, "unmet")) <= 0);
        assert_null(json_object_get(json_array_get(layers, 1), "taken"));
        const double seen = json_number_value(at(taken, "bucket")) + samples[i]; /* heads of 16, a pilot of 32 */
        const double products = 256 * (2 * 16 * 7 + seen * 32 + 32 * 4 * 16 + 2 * 16);
        assert_true(fabs(macs[i] / products - 1) < 1e-6);
        char *table = file_text(in_shop("taken.txt"));
        assert_non_null(strstr(table, "kdeformer took, in the mean: t2t.1 "));
        free(table);
        json_decref(report);
    }
    assert_true(fabs(macs[0] / macs[1] - 1) < 1e-9 && fabs(samples[0] / samples[1] - 1) < 1e-9);
    json_t *report = REPORT(shop.pictures, "-a", "exact,kdeformer", "--kde-error", "0.01", "--kde-samples", "2", "-n",
        "3", "-o", in_shop("taken.txt"));
    const json_t *layer = json_array_get(at(run_of(report, 1), "layers"), 0);
    assert_true(json_number_value(at(at(layer, "taken"), "unmet")) > 0);
    char *table = file_text(in_shop("taken.txt"));
    assert_non_null(strstr(table, "not met with all that were allowed"));
    free(table);
    json_decref(report);
}

/* Recounts, from the logits of each seed, what the seeds' mean loses and how that varies over pictures. */
static void drop_of_seeds(void **state)
{
    (void)state;
    enum { SEEDS = 6 };
    json_t *report = REPORT(shop.pictures, "-a", "exact,performer", "--seeds", "6", "--layers", "all", "--attn-opt",
        "performer.features=1", "--save-logits", in_shop("l.safetensors"));
    const struct logits exact = logits_of(in_shop("l.safetensors"), "logits.exact");
    double sum = 0, squares = 0;
    for (size_t i = 0; i < SHOP_PICTURES; i++) {
        int drop = 0;
        for (size_t seed = 1; seed <= SEEDS; seed++) {
            char tensor[64];
            snprintf(tensor, sizeof tensor, "logits.performer.seed%zu", seed);
            const struct logits logits = logits_of(in_shop("l.safetensors"), tensor);
            drop += (best_of(exact.value + i * SHOP_CLASSES) == i / 2) -
                    (best_of(logits.value + i * SHOP_CLASSES) == i / 2);
            t2t_tensors_close(logits.file);
        }
        sum += (double)drop / SEEDS;
        squares += (double)drop * drop / SEEDS / SEEDS;
    }
    const json_t *method = json_array_get(at(report, "methods"), 1), *interval = at(method, "drop_mean_ci95");
    const double n = SHOP_PICTURES + 2, half = 1.959963984540054 * sqrt(((squares + 2) / n - sum * sum / n / n) / n);
    assert_true(squares > 0); /* otherwise this test would not have seen much */
    assert_true(fabs(json_real_value(at(method, "drop_mean")) - sum / SHOP_PICTURES) < 1e-9);
    assert_true(fabs(json_real_value(json_array_get(interval, 0)) - (sum / n - half)) < 1e-9);
    assert_true(fabs(json_real_value(json_array_get(interval, 1)) - (sum / n + half)) < 1e-9);
    t2t_tensors_close(exact.file);
    json_decref(report);
}

/* ---- what results do not depend on ---- */

static void logits_depend_on_pictures_alone(void **state)
{
    (void)state;
    static const char *const variants[][6] = {{"-b1", "-t1", "--pipeline=overlap", "--workers=3"},
        {"-b3", "-t2", "--pipeline=serial", "--workers=1"}, {"-b8", "-t1", "--warmup=0", "--workers=2"},
        {"-b100", "-t2", "--pipeline=overlap"}};
    EXPECT_OF(EVAL("-q", shop.pictures, "-a", "exact,kdeformer,mean", "--layers=all", "--save-logits",
                  in_shop("first.safetensors")),
        0, "");
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const char *arguments[16] = {"--weights", shop.weights, "-q", shop.pictures, "-a", "mean,kdeformer,exact",
            "--layers=all", "--save-logits", in_shop("next.safetensors")};
        for (size_t j = 0; j < 6; j++) arguments[9 + j] = variants[i][j];
        EXPECT_OF(command_run(shop.eval, arguments), 0, "");
        expect_same_logits(in_shop("first.safetensors"), in_shop("next.safetensors"), "logits.exact");
        expect_same_logits(in_shop("first.safetensors"), in_shop("next.safetensors"), "logits.kdeformer");
        expect_same_logits(in_shop("first.safetensors"), in_shop("next.safetensors"), "logits.mean");
    }
}

/* A picture's draws follow its place in the whole data set: a part of it gives the same logits as the whole. */
static void a_limit_changes_no_picture(void **state)
{
    (void)state;
    EXPECT_OF(EVAL("-q", shop.pictures, "-a", "kdeformer", "--save-logits", in_shop("all.safetensors")), 0, "");
    EXPECT_OF(EVAL("-q", shop.pictures, "-a", "kdeformer", "-n", "5", "--save-logits", in_shop("part.safetensors")), 0,
        "5 of 24 pictures");
    const struct logits all = logits_of(in_shop("all.safetensors"), "logits");
    const struct logits part = logits_of(in_shop("part.safetensors"), "logits");
    assert_int_equal(part.pictures, 5);
    const size_t places[] = {0, 4, 9, 14, 19};
    for (size_t i = 0; i < 5; i++)
        assert_memory_equal(part.value + i * SHOP_CLASSES, all.value + places[i] * SHOP_CLASSES, sizeof(float[12]));
    assert_non_null(strstr(t2t_tensors_metadata(part.file, "files"), "arrows_facing/arrows_facing_5_0.JPEG"));
    assert_null(t2t_tensors_metadata(part.file, "partial"));
    t2t_tensors_close(all.file);
    t2t_tensors_close(part.file);
    EXPECT_OF(EVAL("-q", shop.pictures, "-n", "1000000"), 0, "24 of 24 pictures");
    EXPECT_OF(EVAL("-q", shop.pictures, "-n", "1"), 0, "1 of 24 pictures");
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(number_formats),
        cmocka_unit_test(formats_say_the_same),
        cmocka_unit_test(standard_output_once),
        cmocka_unit_test(numbers_follow_from_logits),
        cmocka_unit_test(reference_is_chosen),
        cmocka_unit_test(seeds_and_layers),
        cmocka_unit_test(target_errors_say_what_they_took),
        cmocka_unit_test(drop_of_seeds),
        cmocka_unit_test(logits_depend_on_pictures_alone),
        cmocka_unit_test(a_limit_changes_no_picture),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
