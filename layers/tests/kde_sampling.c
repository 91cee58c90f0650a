/* How KDEformer draws its samples, against layers/kdeformer-sampling.md: systematic sampling on its own, the engine
 * against the definition in float64 for every way to draw, means over all offsets, and limits where the answer is known.
 *
 * Nothing here is left to chance: means run over a grid of offsets, so bounds follow from its spacing; where draws are
 * independent the bound is seven standard errors, and the seeds are fixed.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/tests/kde_definition.h"

/* ---- systematic sampling ---- */

enum { GRID = 4096 };

/* For GRID offsets: as many samples as asked for, no key twice, certain keys always, others as often as expected. */
static void check_systematic(const uint32_t *order, const uint64_t *weight, size_t keys, size_t samples)
{
    const size_t wanted = samples < keys ? samples : keys;
    uint64_t *left = allocate(keys * sizeof *left);
    size_t *times = allocate(keys * sizeof *times);
    double *expected = allocate(keys * sizeof *expected), total = 0;
    struct kde_sample *sample = allocate((samples + 1) * sizeof *sample);
    memset(times, 0, keys * sizeof *times);
    memset(expected, 0, keys * sizeof *expected);
    for (size_t offset = 0; offset < GRID; offset++) {
        double keys_estimate = 0;
        memcpy(left, weight, keys * sizeof *left);
        assert_int_equal(
            t2t_kde_systematic(order, keys, samples, (uint32_t)(offset * (UINT64_C(1) << 32) / GRID), left, sample),
            wanted);
        for (size_t s = 0; s < wanted; s++) {
            assert_true(sample[s].key < keys && sample[s].expected > 0 && sample[s].expected <= 1);
            for (size_t t = 0; t < s; t++) assert_int_not_equal(sample[s].key, sample[t].key);
            times[sample[s].key]++;
            expected[sample[s].key] = sample[s].expected;
            keys_estimate += 1 / sample[s].expected;
        }
        total += keys_estimate / GRID;
    }
    double sum = 0, slack = 0;
    for (size_t j = 0; j < keys; j++) {
        if (!times[j]) continue; /* expected less than once in GRID offsets */
        assert_true(fabs((double)times[j] / GRID - expected[j]) <= 2.0 / GRID);
        if (expected[j] == 1) assert_int_equal(times[j], GRID);
        sum += expected[j];
        slack += 2 / (GRID * expected[j]);
    }
    for (size_t j = 0; j < keys; j++) slack += !times[j];
    assert_true(fabs(sum - (double)wanted) <= 1e-9 * (double)wanted + 2.0 * (double)keys / GRID);
    assert_true(fabs(total - (double)keys) <= slack + 1e-9 * (double)keys); /* sum of weights estimates the keys */
    free(left);
    free(times);
    free(expected);
    free(sample);
}

static void systematic_takes_each_key_by_its_share(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 7, 33, 200};
    uint32_t order[200], random[200];
    uint64_t weight[200];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (unsigned spread = 0; spread < 24; spread += 6) {
            const size_t keys = sizes[i];
            t2t_random_uint32((struct t2t_random_key){.seed = spread, .purpose = T2T_RANDOM_TEST}, keys, random);
            for (size_t j = 0; j < keys; j++) {
                order[j] = (uint32_t)((j * 101 + 7) % keys); /* 101 is prime to every size */
                weight[j] = (UINT64_C(1) << 20) + ((uint64_t)(random[j] % 4096) << (random[j] >> 8) % (spread + 1));
            }
            const size_t samples[] = {1, 2, keys / 3 + 1, keys - keys / 8, keys, keys + 5};
            for (size_t s = 0; s < sizeof samples / sizeof *samples; s++)
                check_systematic(order, weight, keys, samples[s]);
        }
    /* a key that has almost everything, a key of the smallest weight */
    weight[0] = UINT64_C(1) << 32;
    weight[1] = 1;
    weight[2] = 1000000;
    const uint32_t three[] = {2, 0, 1};
    for (size_t samples = 1; samples <= 3; samples++) check_systematic(three, weight, 3, samples);
}

/* ---- the engine against the definition ---- */

static const struct {
    size_t queries, keys, head_dim, value_dim, bucket, samples;
} shapes[] = {
    {300, 300, 64, 64, 32, 40}, {257, 130, 20, 33, 16, 25}, /* more queries than keys, other values */
    {40, 500, 12, 12, 8, 61},                               /* fewer */
    {5, 3, 7, 9, 2, 2},                                     /* fewer blocks than groups */
    {64, 64, 16, 16, 64, 10},                               /* one block: nothing is sampled */
};

static void engine_follows_definition(void **state)
{
    (void)state;
    double worst = 0;
    for (size_t set = 0; t2t_kernel_sets[set]; set++) {
        const struct attention_kernels *kernels = t2t_kernel_sets[set];
        if (!kernels->supported()) continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            struct problem problem =
                make_problem(shapes[i].queries, shapes[i].keys, shapes[i].head_dim, shapes[i].value_dim, 2, i + 1);
            for (unsigned way = 0; way < 2 * 4 * 3; way++) {
                const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
                    .projections = 5,
                    .bucket = shapes[i].bucket,
                    .samples = shapes[i].samples,
                    .sampling = (enum kde_sampling)(way % 2),
                    .probability = (enum kde_probability)(way / 2 % 4),
                    .pilot = 12,
                    .sample_groups = (size_t)1 << way / 8};
                const double error = engine_error(kernels, &problem, &config, way + 1);
                if (!(error <= 2e-5))
                    fail_msg("%s kernels, shape %zu, way %u: off by %.1e", kernels->name, i, way, error);
                if (error > worst) worst = error;
            }
            free_problem(&problem);
        }
    }
    print_message("  worst %.1e\n", worst);
}

/* ---- unbiased ---- */

/* Sums over samples of exp(score) [v, 1] / expected, for one query outside of every block. */
static void add_estimate(
    const struct problem *problem, size_t query, const struct kde_sample *sample, size_t samples, double *sum)
{
    for (size_t s = 0; s < samples; s++) {
        const double share = exp(problem_score(problem, query, sample[s].key)) / sample[s].expected;
        for (size_t c = 0; c < problem->shape.value_dim; c++)
            sum[c] += share * (double)problem->v[sample[s].key * problem->shape.value_dim + c];
        sum[problem->shape.value_dim] += share;
    }
}

static void means_over_offsets_are_exact(void **state)
{
    (void)state;
    enum { KEYS = 200, DIM = 16, SAMPLES = 40 };
    struct problem problem = make_problem(64, KEYS, DIM, DIM, 2, 9);
    uint32_t order[KEYS];
    struct kde_sample sample[KEYS];
    for (uint32_t j = 0; j < KEYS; j++) {
        order[j] = j * 77 % KEYS;
        sample[j] = (struct kde_sample){.key = j, .expected = 1};
    }
    for (unsigned kind = 0; kind < 4; kind++) {
        const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
            .projections = 4,
            .bucket = 16,
            .samples = SAMPLES,
            .probability = (enum kde_probability)kind,
            .pilot = 8,
            .sample_groups = 1};
        float probability[KEYS];
        problem_probability(&problem, &config, 3, probability);
        double exact[DIM + 1] = {0}, mean[DIM + 1] = {0}, difference = 0, size = 0;
        for (size_t j = 0; j < KEYS; j++) sample[j] = (struct kde_sample){.key = j, .expected = 1};
        add_estimate(&problem, 5, sample, KEYS, exact);
        for (size_t offset = 0; offset < GRID; offset++) {
            uint64_t weight[KEYS];
            t2t_kde_weigh(probability, KEYS, weight);
            const size_t taken = t2t_kde_systematic(
                order, KEYS, SAMPLES, (uint32_t)(offset * (UINT64_C(1) << 32) / GRID), weight, sample);
            add_estimate(&problem, 5, sample, taken, mean);
        }
        for (size_t c = 0; c <= DIM; c++) {
            difference += pow(mean[c] / GRID - exact[c], 2);
            size += exact[c] * exact[c];
        }
        print_message("  probability %u: mean over offsets is off by %.1e\n", kind, sqrt(difference / size));
        /* each frequency is off by 2 / GRID at most, of 0.3 SAMPLES / KEYS at least */
        assert_true(sqrt(difference / size) <= 2.0 / GRID / (0.3 * SAMPLES / KEYS));
    }
    free_problem(&problem);
}

/* The engine's output itself: a quotient, whose bias is of the order of its variance, so it falls as 1 / samples. */
static void mean_output_approaches_exact(void **state)
{
    (void)state;
    const struct attention_kernels *kernels = t2t_kernel_sets[0];
    for (size_t i = 0; !kernels->supported(); i++) kernels = t2t_kernel_sets[i];
    enum { DRAWS = 400 };
    struct problem problem = make_problem(96, 256, 16, 16, 1, 4);
    for (size_t i = 0; i < 256 * 16; i++) problem.v[i] += 2; /* outputs that are not next to zero */
    const size_t count = 96 * 16;
    float *out = allocate(count * sizeof *out);
    double *exact = allocate(count * sizeof *exact), *mean = allocate(count * sizeof *mean);
    define_exact(&problem, exact);
    for (unsigned way = 0; way < 8; way++) {
        const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
            .projections = 4,
            .bucket = 16,
            .samples = 64,
            .sampling = (enum kde_sampling)(way % 2),
            .probability = (enum kde_probability)(way / 2),
            .pilot = 8,
            .sample_groups = way / 4 ? 4 : 1};
        double single = 0, bias = 0, size = 0;
        memset(mean, 0, count * sizeof *mean);
        for (uint64_t seed = 1; seed <= DRAWS; seed++) {
            run_engine(kernels, 1, &problem, &config, seed, out);
            for (size_t j = 0; j < count; j++) {
                single += pow((double)out[j] - exact[j], 2) / DRAWS;
                mean[j] += (double)out[j] / DRAWS;
            }
        }
        for (size_t j = 0; j < count; j++) {
            bias += pow(mean[j] - exact[j], 2);
            size += exact[j] * exact[j];
        }
        print_message("  way %u: one draw is off by %.3f, the mean of %d by %.4f\n", way, sqrt(single / size), DRAWS,
            sqrt(bias / size));
        /* the mean's standard error is 1 / 20 of a draw's; the quotient's bias stays below its square */
        assert_true(sqrt(bias / size) <= 2 * sqrt(single / size / DRAWS) + single / size);
    }
    free(out);
    free(exact);
    free(mean);
    free_problem(&problem);
}

/* ---- limits ---- */

/* With as many samples as keys every key is certain, for any probabilities: exact attention. `spread` makes scores whose
 * exponentials overflow float64. */
static void all_keys_sampled_is_exact(void **state)
{
    (void)state;
    for (size_t set = 0; t2t_kernel_sets[set]; set++) {
        if (!t2t_kernel_sets[set]->supported()) continue;
        for (double spread = 1; spread <= 40; spread *= 40) {
            struct problem problem = make_problem(130, 90, 20, 12, spread, 2);
            double *exact = allocate(130 * 12 * sizeof *exact);
            float *out = allocate(130 * 12 * sizeof *out);
            define_exact(&problem, exact);
            for (unsigned kind = 0; kind < 4; kind++)
                for (size_t samples = 90; samples <= 100; samples += 10) {
                    const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
                        .projections = 4,
                        .bucket = 16,
                        .samples = samples,
                        .sampling = KDE_SYSTEMATIC,
                        .probability = (enum kde_probability)kind,
                        .pilot = 8,
                        .sample_groups = kind == 1 ? 4 : 2};
                    run_engine(t2t_kernel_sets[set], 2, &problem, &config, 1, out);
                    const double error = relative_error(out, exact, 130 * 12);
                    if (!(error <= (spread > 1 ? 1e-3 : 1e-5))) /* scores in the thousands round at 1e-4 */
                        fail_msg("spread %g, probability %u: off by %.1e", spread, kind, error);
                }
            free(exact);
            free(out);
            free_problem(&problem);
        }
    }
}

static void extreme_scores_stay_right(void **state)
{
    (void)state;
    const struct attention_kernels *kernels = t2t_kernel_sets[0];
    for (size_t i = 0; !kernels->supported(); i++) kernels = t2t_kernel_sets[i];
    struct problem problem = make_problem(150, 150, 16, 16, 40, 6);
    for (unsigned way = 0; way < 8; way++) {
        const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
            .projections = 4,
            .bucket = 16,
            .samples = 30,
            .sampling = (enum kde_sampling)(way % 2),
            .probability = (enum kde_probability)(way / 2),
            .pilot = 8,
            .sample_groups = 4};
        const double error = engine_error(kernels, &problem, &config, 1);
        if (!(error <= 2e-3)) fail_msg("way %u: off by %.1e", way, error);
    }
    for (size_t i = 0; i < 150 * 16; i++) problem.v[i] = 0.5F; /* all alike: no key is worth more than another */
    const struct attention_config config = {
        ATTENTION_KDEFORMER, 4, 16, 30, KDE_SYSTEMATIC, KDE_PILOT, .pilot = 8, .sample_groups = 4};
    float out[150 * 16];
    run_engine(kernels, 1, &problem, &config, 1, out);
    for (size_t i = 0; i < 150 * 16; i++) assert_true(fabsf(out[i] - 0.5F) <= 1e-6F);
    free_problem(&problem);
}

static void no_trace_of_batch_and_threads(void **state)
{
    (void)state;
    for (size_t set = 0; t2t_kernel_sets[set]; set++) {
        if (!t2t_kernel_sets[set]->supported()) continue;
        for (unsigned way = 0; way < 8; way++) {
            const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
                .projections = 4,
                .bucket = 16,
                .samples = 30,
                .sampling = (enum kde_sampling)(way % 2),
                .probability = (enum kde_probability)(way / 2),
                .pilot = 8,
                .sample_groups = 4};
            check_batch_and_threads(t2t_kernel_sets[set], &config);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(systematic_takes_each_key_by_its_share),
        cmocka_unit_test(engine_follows_definition),
        cmocka_unit_test(means_over_offsets_are_exact),
        cmocka_unit_test(mean_output_approaches_exact),
        cmocka_unit_test(all_keys_sampled_is_exact),
        cmocka_unit_test(extreme_scores_stay_right),
        cmocka_unit_test(no_trace_of_batch_and_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
