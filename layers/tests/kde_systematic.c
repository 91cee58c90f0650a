/* Systematic sampling on its own, against layers/kdeformer-sampling.md: every key as often as its weight says, and sums
 * over samples right in the mean. Means run over a grid of offsets, so bounds follow from its spacing alone.
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(systematic_takes_each_key_by_its_share),
        cmocka_unit_test(means_over_offsets_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
