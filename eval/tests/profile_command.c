/* t2tvit-profile as a user runs it: what rows add up to, formats, exit codes. The first argument is the folder of the
 * programs.
 */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "eval/tests/written.h"

#define PROFILE(...) command_run(shop.profile, (const char *const[]){__VA_ARGS__, NULL})
#define QUICK "--warmup", "1ms", "--min-time", "1ms", "--min-runs", "4"
#define JSON(...) report_of(PROFILE("-q", "--format", "json", "--weights", shop.weights, QUICK, __VA_ARGS__))

static const json_t *rows_of(const json_t *report, size_t batch)
{
    return at(json_array_get(at(report, "batches"), batch), "rows");
}

static bool is_row(const json_t *row, const char *part, const char *attention)
{
    return strcmp(text_at(row, "part"), part) == 0 && strcmp(text_at(row, "attention"), attention) == 0;
}

/* Sum of a number over the rows of a part under an attention, and how many there are. */
static double sum_of(const json_t *rows, const char *part, const char *attention, const char *key, size_t *count)
{
    double sum = 0;
    size_t index;
    const json_t *row;
    *count = 0;
    json_array_foreach(rows, index, row)
    {
        if (!is_row(row, part, attention)) continue;
        sum += json_number_value(at(row, key));
        ++*count;
    }
    return sum;
}

static double round_of(const json_t *row, size_t number)
{
    return json_number_value(json_array_get(at(at(row, "ms"), "rounds"), number));
}

/* Sum of the times of one round over the rows of a part. */
static double round_sum(const json_t *rows, const char *part, const char *attention, size_t number)
{
    double sum = 0;
    size_t index;
    const json_t *row;
    json_array_foreach(rows, index, row) if (is_row(row, part, attention)) sum += round_of(row, number);
    return sum;
}

static void rows_add_up(void **state)
{
    (void)state;
    json_t *report =
        JSON("--attention", "exact,kdeformer,performer", "--batch-size", "1,3", "--val-dir", shop.pictures);
    assert_int_equal(json_array_size(at(report, "batches")), 2);
    for (size_t batch = 0; batch < 2; batch++) {
        const json_t *rows = rows_of(report, batch);
        static const char *const attentions[] = {"exact", "kdeformer", "performer"};
        for (size_t i = 0; i < 3; i++) {
            const char *name = attentions[i];
            size_t layers, others, steps;
            const double share =
                sum_of(rows, "layer", name, "share", &layers) + sum_of(rows, "unattributed", name, "share", &others);
            assert_int_equal(layers, 5);
            assert_int_equal(others, 1);
            assert_true(fabs(share - 1) < 1e-6);
            sum_of(rows, "step", name, "share", &steps);
            assert_int_equal(steps, i == 1 ? 2 * 6 : 0);
            for (size_t round = 0; round < 4; round++) {
                const double forward = round_sum(rows, "forward_profiled", name, round);
                assert_true(fabs(round_sum(rows, "layer", name, round) + round_sum(rows, "unattributed", name, round) -
                                 forward) < 1e-6 * forward);
                assert_true(fabs(round_sum(rows, "decode", name, round) + round_sum(rows, "forward", name, round) -
                                 round_sum(rows, "end_to_end", name, round)) < 1e-6);
                assert_true(round_sum(rows, "attention", name, round) < round_sum(rows, "layer", name, round));
            }
        }
    }
    json_decref(report);
}

/* The steps of the two layers that kdeformer takes are their attention, nothing more and nothing less. */
static void steps_are_the_attention(void **state)
{
    (void)state;
    json_t *report = JSON("--attention", "kdeformer", "--layers", "all", "--batch-size", "2");
    const json_t *rows = rows_of(report, 0);
    for (size_t round = 0; round < 4; round++) {
        const double attention = round_sum(rows, "attention", "kdeformer", round);
        assert_true(fabs(round_sum(rows, "step", "kdeformer", round) - attention) < 1e-6 * attention);
    }
    size_t index;
    const json_t *row;
    json_array_foreach(rows, index, row)
    {
        if (strcmp(text_at(row, "part"), "step") == 0 && strcmp(text_at(row, "name"), "blocks") == 0)
            assert_true(json_number_value(at(at(row, "ms"), "median")) > 0); /* others may be below a clock's tick */
        assert_true(strcmp(text_at(row, "part"), "end_to_end") != 0);        /* random pixels are not decoded */
    }
    json_decref(report);
}

static void costs_and_speed_ups(void **state)
{
    (void)state;
    json_t *report = JSON("--batch-size", "1");
    const json_t *rows = rows_of(report, 0);
    size_t count, index, found = 0;
    const json_t *row;
    /* t2t.1: 256 tokens of 147, width 16, hidden 16: qkv, proj, fc1, fc2, and q k^T, its product with v */
    const double products = 256.0 * 16 * (3 * 147 + 16 + 2 * 16), attention = 256.0 * 256 * 32;
    json_array_foreach(rows, index, row)
    {
        if (!is_row(row, "layer", "exact") || strcmp(text_at(row, "layer"), "t2t.1") != 0) continue;
        assert_int_equal(count_at(row, "tokens"), 256);
        assert_true(fabs(json_number_value(at(row, "macs")) - products - attention) < 0.5);
        const double gflops = 2e-6 * (products + attention) / json_number_value(at(at(row, "ms"), "median"));
        assert_true(fabs(json_number_value(at(row, "gflops")) - gflops) < 1e-4 * gflops);
        assert_true(fabs(json_number_value(at(at(row, "speedup"), "median")) - 1) < 1e-9);
        found++;
    }
    assert_int_equal(found, 1);
    assert_true(sum_of(rows, "layer", "exact", "macs", &count) < sum_of(rows, "forward", "exact", "macs", &count));
    json_decref(report);
}

static void formats_and_random_weights(void **state)
{
    (void)state;
    const char *csv = in_shop("profile.csv"), *md = in_shop("profile.md");
    const struct result result =
        PROFILE("--random-weights", "--model", "t2t_vit_7", "--attention", "exact,mean", "--layers", "blocks",
            "--warmup", "0s", "--min-time", "0s", "--min-runs", "1", "--batch-size", "1", "-o", csv, "-o", md);
    command_expect(&result, 0, "random weights: shapes and times only");
    assert_non_null(strstr(result.out, "random pixels"));
    assert_non_null(strstr(result.out, "unattributed"));
    assert_non_null(strstr(result.out, "speed-up"));
    char *text = file_text(csv);
    assert_memory_equal(text, "batch,part,layer,name,attention", 31);
    assert_non_null(strstr(text, "\n1,attention,block.6,attention,mean,"));
    free(text);
    text = file_text(md);
    assert_non_null(strstr(text, "### batch 1"));
    free(text);
}

static void predicts_without_measuring(void **state)
{
    (void)state;
    const struct result result =
        PROFILE("--random-weights", "--model", "t2t_vit_t_14", "-b", "8", "--predict", "h100", "--seeds", "2");
    command_expect(&result, 0, "prediction for an NVIDIA H100 SXM5");
    assert_non_null(strstr(result.out, "prediction kdeformer.seed2 in half precision, batch 8: at n = 3136"));
    assert_null(strstr(result.error, "rounds"));
}

static void refusals(void **state)
{
    (void)state;
    EXPECT_OF(PROFILE("--random-weights"), 2, "--random-weights needs --model");
    EXPECT_OF(PROFILE("--random-weights", "--model", "t2t_vit_9"), 2, "there is no t2t_vit_9");
    EXPECT_OF(PROFILE("--random-weights", "--model", "t2t_vit_7", "--weights", "x"), 2, "only one of them is meant");
    EXPECT_OF(PROFILE("--batch-size", "1,8,1"), 2, "1 is listed twice");
    EXPECT_OF(PROFILE("--dtype", "f64"), 2, "expected float32|bfloat16|float16|");
    EXPECT_OF(PROFILE("--predict", "v100"), 2, "the only GPU known is h100");
    EXPECT_OF(PROFILE("--predict", "h100", "-o", "x.json"), 2, "text on standard output alone");
    EXPECT_OF(PROFILE("--random-weights", "--model", "t2t_vit_t_14", "--predict", "h100", "--img-size", "384"), 4,
        "--img-size 384");
    EXPECT_OF(PROFILE("--batch-size", "0"), 2, "--batch-size \"0\"");
    EXPECT_OF(PROFILE("--min-time", "3"), 2, "as in 200ms or 3s");
    EXPECT_OF(PROFILE("--min-time", "-1s"), 2, "expected a time");
    EXPECT_OF(PROFILE("pictures"), 2, "an option is missing before it");
    EXPECT_OF(PROFILE("-o", "x.svg"), 2, "known are .json .csv .md .txt");
    EXPECT_OF(PROFILE("-o", in_shop("none/x.csv")), 6, "cannot be");
    EXPECT_OF(PROFILE("--batch-size", "1"), 4, "");
    EXPECT_OF(PROFILE("--weights", shop.weights, "--val-dir", in_shop("nothing")), 3, "nothing");
}

static void interrupts(void **state)
{
    (void)state;
    struct command command = command_start(shop.profile, (const char *const[]){"--weights", shop.weights, "--min-time",
                                                             "1000s", "--batch-size", "1", "--format", "json", NULL});
    const struct timespec step = {.tv_nsec = 20000000L};
    for (int i = 0; i < 500 && !strstr(command_said(&command), "0/"); i++) nanosleep(&step, NULL);
    nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
    kill(command.process, SIGTERM);
    const struct result result = command_finish(&command);
    assert_int_equal(result.code, 143);
    json_t *report = parsed(result.out);
    assert_true(json_is_true(at(json_array_get(at(report, "batches"), 0), "partial")));
    assert_true(count_at(json_array_get(at(report, "batches"), 0), "rounds") >= 1);
    json_decref(report);
}

int main(int argc, char **argv)
{
    if (argc != 2) return 1;
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_add_up),
        cmocka_unit_test(steps_are_the_attention),
        cmocka_unit_test(costs_and_speed_ups),
        cmocka_unit_test(formats_and_random_weights),
        cmocka_unit_test(predicts_without_measuring),
        cmocka_unit_test(refusals),
        cmocka_unit_test(interrupts),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
