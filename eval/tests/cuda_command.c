/* The programs with --device cuda, on a device that is emulated: the same answers as on the CPU, and the same bits with and
 * without graphs. The first argument is the folder of the programs; T2TVIT_MODULES has the emulation.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/tests/written.h"

#define METHODS "-a", "exact,kdeformer"
#define PROFILE(...)                                                                                                   \
    command_run(shop.profile, (const char *const[]){"-q", "--weights", shop.weights, "--format", "json", "--warmup",   \
                                  "1ms", "--min-time", "1ms", "--min-runs", "3", __VA_ARGS__, NULL})

/* Batches of 5, and a last one of 4; two threads decode. */
static json_t *report_on(const char *logits, const char *device, const char *option)
{
    return REPORT(shop.pictures, "-b5", "--warmup", "0", "--workers", "2", "--pipeline", "overlap", METHODS, "--seeds",
        "1,2", "--save-logits", logits, "--device", device, option);
}

static void evaluations(void **state)
{
    (void)state;
    static const char *const tensors[] = {"logits.exact", "logits.kdeformer.seed1", "logits.kdeformer.seed2"};
    const char *cpu = in_shop("cpu"), *plain = in_shop("plain"), *graph = in_shop("graph");
    json_t *on_cpu = report_on(cpu, "cpu", "-q"), *on_cuda = report_on(plain, "cuda", "-q");
    json_t *with_graphs = report_on(graph, "cuda:0", "--cuda-graph");
    assert_non_null(strstr(text_at(at(with_graphs, "environment"), "device"), "CUDA graphs"));
    assert_null(strstr(text_at(at(on_cuda, "environment"), "device"), "CUDA graphs"));
    for (size_t run = 0; run < 3; run++) {
        const size_t correct = count_at(at(run_of(on_cpu, run), "top1"), "correct");
        assert_int_equal(count_at(at(run_of(on_cuda, run), "top1"), "correct"), correct);
        assert_int_equal(count_at(at(run_of(with_graphs, run), "top1"), "correct"), correct);
    }
    json_decref(on_cpu);
    json_decref(on_cuda);
    json_decref(with_graphs);
    for (size_t i = 0; i < 3; i++) expect_same_logits(plain, graph, tensors[i]);
    struct logits a = logits_of(cpu, "logits.exact"), b = logits_of(plain, "logits.exact");
    for (size_t i = 0; i < SHOP_PICTURES * SHOP_CLASSES; i++) assert_true(fabsf(a.value[i] - b.value[i]) < 1e-4F);
    t2t_tensors_close(a.file);
    t2t_tensors_close(b.file);
}

static void classifications(void **state)
{
    (void)state;
    static const char *const devices[][2] = {{"cpu", "-q"}, {"cuda", "-q"}, {"auto", "--cuda-graph"}};
    char *answers[3];
    for (size_t i = 0; i < 3; i++) {
        const struct result result = CLASSIFY(
            "-r", shop.pictures, "-b4", "-a", "kdeformer", "--format", "csv", "-d", devices[i][0], devices[i][1]);
        command_expect(&result, 0, ".JPEG");
        answers[i] = strdup(result.out);
        assert_non_null(answers[i]);
    }
    assert_string_equal(answers[1], answers[2]);
    for (size_t i = 0; i < 3; i++) free(answers[i]);
}

static void profiles(void **state)
{
    (void)state;
    for (int graph = 0; graph < 2; graph++) {
        json_t *report =
            report_of(PROFILE("--device", "cuda", "-b", "1,3", "-a", "exact,kdeformer", graph ? "--cuda-graph" : "-q"));
        for (size_t batch = 0; batch < 2; batch++) {
            const json_t *profile = json_array_get(at(report, "batches"), batch), *row;
            assert_true((strstr(text_at(profile, "device"), "CUDA graphs") != NULL) == graph);
            size_t index, layers = 0;
            json_array_foreach(at(profile, "rows"), index, row)
            {
                if (strcmp(text_at(row, "part"), "step") == 0) /* the device times no other */
                    assert_string_equal(text_at(row, "name"), "random numbers");
                if (strcmp(text_at(row, "part"), "layer") != 0) continue;
                layers++;
                assert_true(json_number_value(json_array_get(at(at(row, "ms"), "rounds"), 0)) > 0);
            }
            assert_int_equal(layers, 2 * 5);
        }
        json_decref(report);
    }
}

static void refusals(void **state)
{
    (void)state;
    REFUSED(EVAL("-q", shop.pictures, "--device", "cuda:1"), 5, "there is one CUDA device, cuda:0");
    REFUSED(EVAL("-q", shop.pictures, "--device", "cuda", "-a", "kde-theory"), 2, "use --device cpu");
    REFUSED(EVAL("-q", shop.pictures, "--device", "cpu", "--cuda-graph"), 2, "the CPU has no CUDA graphs");
    setenv("T2TVIT_MODULES", shop.folder, 1);
    REFUSED(CLASSIFY("-q", "-r", shop.pictures, "--device", "auto", "--cuda-graph"), 2,
        "or see to a CUDA device: no module: $T2TVIT_MODULES has no");
}

/* `auto` leaves a device that lacks what is asked for, `cuda` says so. */
static void bfloat16_on_turing(void **state)
{
    (void)state;
    setenv("T2T_EMULATED_CAPABILITY", "75", 1);
    static const char words[] = "bfloat16 needs compute capability 8.0; use --dtype float16";
    const struct result forced = EVAL(shop.pictures, "-b5", "--dtype", "bf16", "--device", "cuda");
    command_expect(&forced, 5, words);
    const struct result chosen = EVAL(shop.pictures, "-b5", "--dtype", "bf16", "--device", "auto");
    if (chosen.code == 0)
        command_expect(&chosen, 0, words);
    else /* nor has the CPU any */
        command_expect(&chosen, 5, "--dtype float32 runs everywhere");
    const struct result half = EVAL(shop.pictures, "-b5", "--dtype", "f16", "--device", "auto");
    command_expect(&half, 0, "compute capability 7.5");
    unsetenv("T2T_EMULATED_CAPABILITY");
}

int main(int argc, char **argv)
{
    if (argc < 2) return 1;
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(evaluations),
        cmocka_unit_test(classifications),
        cmocka_unit_test(profiles),
        cmocka_unit_test(bfloat16_on_turing),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
