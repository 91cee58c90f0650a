/* Performer, Reformer and ScatterBrain on the inputs and draws of the golden files, against the stored outputs, which
 * were computed in float64. Nothing depends on signs that float32 might miss: Reformer's hash is exact.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "layers/tests/golden_inputs.h"

static const double tolerance = 1e-5;

static double compare(const struct attention_kernels *kernels, const struct golden *golden, const char *name,
    const struct attention_config *config, const struct attention_draws *draws)
{
    double *expected = golden_output(golden, name), *found = golden_run(kernels, golden, config, draws);
    const double error = golden_expect(golden, name, found, expected, tolerance);
    free(expected);
    free(found);
    return error;
}

/* The file has a column a feature, the engine a row. */
static double compare_performer(const struct attention_kernels *kernels, const struct golden *golden)
{
    const size_t features = (size_t)golden_number(golden, "performer_features"), d = golden->d;
    const float *columns = golden_stored(golden, "features", T2T_F32, d * features);
    float *rows = malloc(features * d * sizeof *rows);
    assert_non_null(rows);
    for (size_t f = 0; f < features; f++)
        for (size_t c = 0; c < d; c++) rows[f * d + c] = columns[c * features + f];
    const double error =
        compare(kernels, golden, "performer", &(struct attention_config){ATTENTION_PERFORMER, .features = features},
            &(struct attention_draws){.features = rows});
    free(rows);
    return error;
}

static double compare_reformer(const struct attention_kernels *kernels, const struct golden *golden)
{
    const struct attention_config config = {ATTENTION_REFORMER,
        .bucket = (size_t)golden_number(golden, "reformer_bucket"),
        .rounds = (size_t)golden_number(golden, "reformer_rounds")};
    const size_t half = attention_buckets(golden->n, config.bucket) / 2;
    const float *rotation = golden_stored(golden, "rotation", T2T_F32, config.rounds * golden->d * half);
    return compare(kernels, golden, "reformer", &config, &(struct attention_draws){.rotation = rotation});
}

static double compare_scatterbrain(const struct attention_kernels *kernels, const struct golden *golden)
{
    const struct t2t_tensor *drawn = t2t_tensors_find(golden->file, "scatterbrain_features");
    assert_non_null(drawn);
    const struct attention_config config = {ATTENTION_SCATTERBRAIN, .features = 2 * drawn->elements / golden->d,
        .window = (size_t)golden_number(golden, "scatterbrain_window")};
    const float *features = golden_stored(golden, "scatterbrain_features", T2T_F32, config.features / 2 * golden->d);
    return compare(kernels, golden, "scatterbrain", &config, &(struct attention_draws){.features = features});
}

static void compare_file(const struct attention_kernels *kernels, const struct golden *golden)
{
    const double performer = compare_performer(kernels, golden), reformer = compare_reformer(kernels, golden);
    print_message("  performer %.1e, reformer %.1e, scatterbrain %.1e\n", performer, reformer,
        compare_scatterbrain(kernels, golden));
}

static void golden_methods(void **state)
{
    (void)state;
    golden_each(compare_file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_methods)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
