/* What is claimed of random draws as statistics: unbiased estimates, and errors that fall as samples and features grow.
 *
 * A mean of many independent draws is taken for normal. It is held to BOUND of its standard errors, which chance alone
 * exceeds with probability 2 (1 - Phi(5)) = 5.7e-7 a comparison; with fewer than 200 comparisons in this file, below
 * 1.2e-4 for a choice of seeds. The seeds are fixed, so a run that passed once passes always.
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

static const double BOUND = 5;

struct mean {
    double sum, squares;
    size_t count;
};

static void add(struct mean *mean, double value)
{
    mean->sum += value;
    mean->squares += value * value;
    mean->count++;
}

/* How many standard errors lie between the mean and what it should be. */
static double errors_off(const struct mean *mean, double wanted)
{
    const double n = (double)mean->count, average = mean->sum / n;
    const double variance = (mean->squares / n - average * average) * n / (n - 1);
    return (average - wanted) / sqrt(variance / n);
}

static void expect_unbiased(const struct mean *mean, double wanted, const char *what, double *worst)
{
    const double off = errors_off(mean, wanted);
    if (!(fabs(off) <= BOUND))
        fail_msg("%s: mean of %zu draws %.6g, wanted %.6g: %.1f standard errors off", what, mean->count,
            mean->sum / (double)mean->count, wanted, off);
    if (fabs(off) > *worst) *worst = fabs(off);
}

static const struct attention_kernels *best_kernels(void)
{
    size_t i = 0;
    while (!t2t_kernel_sets[i]->supported()) i++;
    return t2t_kernel_sets[i];
}

/* ---- kdeformer's remainder ---- */

enum { QUERIES = 60, KEYS = 160, DIM = 12, VALUES = 10, DRAWS = 2500, ASKED = 3 };

/* The remainder of one query for one draw: over samples outside of its block, exp(score) / expected, and the same times the
 * first value; and what both estimate. */
struct remainder {
    double estimate[2], exact[2];
};

static struct remainder remainder_of(const struct problem *problem, const struct attention_config *config, size_t query,
    size_t block, const uint32_t *k_order, const struct kde_sample *sample, size_t samples)
{
    struct remainder remainder = {.estimate = {0}};
    size_t place[KEYS];
    for (size_t i = 0; i < KEYS; i++) place[k_order[i]] = i;
    for (size_t s = 0; s < samples; s++) {
        const size_t key = sample[s].key;
        if (place[key] / config->bucket == block) continue;
        const double weight = exp(problem_score(problem, query, key)) / sample[s].expected;
        remainder.estimate[0] += weight;
        remainder.estimate[1] += weight * (double)problem->v[key * VALUES];
    }
    for (size_t key = 0; key < KEYS; key++) {
        if (place[key] / config->bucket == block) continue;
        const double weight = exp(problem_score(problem, query, key));
        remainder.exact[0] += weight;
        remainder.exact[1] += weight * (double)problem->v[key * VALUES];
    }
    return remainder;
}

/* Means over everything that is random, the hash included: the estimate less what this draw's blocks leave to it. */
static void check_remainder(const struct problem *problem, const struct attention_config *config, double *worst)
{
    const struct attention_kernels *kernels = best_kernels();
    struct mean mean[ASKED][2] = {0};
    struct kde_sample sample[64];
    float probability[KEYS];
    const size_t blocks = (KEYS + config->bucket - 1) / config->bucket, rows = (QUERIES + blocks - 1) / blocks;
    for (uint64_t seed = 1; seed <= DRAWS; seed++) {
        const uint64_t image = seed;
        struct drawn drawn = draw_samples(&problem->shape, config, 7, &image, 1);
        uint32_t *q_order = sorted_rows(kernels, problem->q, QUERIES, DIM, drawn.projection, config->projections);
        uint32_t *k_order = sorted_rows(kernels, problem->k, KEYS, DIM, drawn.projection, config->projections);
        probability_of(kernels, problem, config, q_order, drawn.pilot_uniform, 0, probability);
        const size_t samples = sample_group(problem, config, k_order, &drawn, 0, probability, sample);
        for (size_t i = 0; i < ASKED; i++) { /* queries of the first group */
            const size_t position = i * 5;
            const struct remainder found =
                remainder_of(problem, config, q_order[position], position / rows, k_order, sample, samples);
            for (size_t c = 0; c < 2; c++) add(&mean[i][c], found.estimate[c] - found.exact[c]);
        }
        free(q_order);
        free(k_order);
        free_drawn(&drawn);
    }
    char what[96];
    for (size_t i = 0; i < ASKED; i++)
        for (size_t c = 0; c < 2; c++) {
            snprintf(what, sizeof what, "%s by %s, query %zu, %s", attention_sampling_name(config->sampling),
                attention_probability_name(config->probability), i, c ? "numerator" : "denominator");
            expect_unbiased(&mean[i][c], 0, what, worst);
        }
}

static void remainder_is_unbiased(void **state)
{
    (void)state;
    struct problem problem = make_problem(QUERIES, KEYS, DIM, VALUES, 0.6, 3);
    double worst = 0;
    for (unsigned way = 0; way < 16; way++) {
        const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
            .projections = 4,
            .bucket = 16,
            .samples = 24,
            .sampling = (enum kde_sampling)(way % 2),
            .probability = (enum kde_probability)(way / 2 % 4),
            .pilot = 8,
            .sample_groups = way / 8 ? 2 : 1};
        check_remainder(&problem, &config, &worst);
    }
    print_message("  at most %.1f standard errors off\n", worst);
    free_problem(&problem);
}

/* ---- features ---- */

/* phi(x) phi(y), mean over features; with `both` the features of -w as well. */
static double feature_product(
    const float *x, const float *y, const float *w, size_t features, size_t dim, double scale, bool both)
{
    double xx = 0, yy = 0, sum = 0;
    for (size_t c = 0; c < dim; c++) {
        xx += (double)x[c] * (double)x[c];
        yy += (double)y[c] * (double)y[c];
    }
    for (size_t f = 0; f < features; f++) {
        double product = 0;
        for (size_t c = 0; c < dim; c++) product += (double)w[f * dim + c] * ((double)x[c] + (double)y[c]);
        product *= sqrt(scale);
        sum += both ? (exp(product) + exp(-product)) / 2 : exp(product);
    }
    return sum / (double)features * exp(-scale / 2 * (xx + yy));
}

/* The mean over the features of performer, and of w and -w of scatterbrain, is exp(scale x.y), although features are
 * orthogonal and so depend on each other. Short rows: of long ones the mean is that of rare, huge products, and not normal
 * for any number of draws that a test can make. */
static void feature_products_are_unbiased(void **state)
{
    (void)state;
    double worst = 0;
    struct problem problem = make_problem(ASKED, ASKED, DIM, VALUES, 0.4, 5);
    static const struct attention_config configs[] = {
        {.kind = ATTENTION_PERFORMER, .features = 40}, {.kind = ATTENTION_SCATTERBRAIN, .features = 40, .window = 3}};
    for (size_t method = 0; method < 2; method++) {
        const size_t rows = method ? 20 : 40;
        struct mean mean[ASKED][ASKED] = {0};
        float w[40 * DIM];
        for (uint64_t image = 0; image < DRAWS; image++) {
            attention_draw(
                &problem.shape, &configs[method], 9, 1, &image, 1, &(struct attention_draw_memory){.features = w});
            for (size_t i = 0; i < ASKED; i++)
                for (size_t j = 0; j < ASKED; j++)
                    add(&mean[i][j], feature_product(problem.q + i * DIM, problem.k + j * DIM, w, rows, DIM,
                                         (double)problem.shape.scale, method == 1));
        }
        for (size_t i = 0; i < ASKED; i++)
            for (size_t j = 0; j < ASKED; j++)
                expect_unbiased(&mean[i][j], exp(problem_score(&problem, i, j)), "feature product", &worst);
    }
    print_message("  at most %.1f standard errors off\n", worst);
    free_problem(&problem);
}

/* ---- convergence ---- */

enum { SEEDS = 60, ROWS = 128 };

/* Squared relative errors of the engine against exact attention, over seeds. */
static struct mean errors_of(const struct problem *problem, const double *exact, const struct attention_config *config)
{
    struct mean mean = {0};
    float *out = allocate((size_t)ROWS * VALUES * sizeof *out);
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        run_engine(best_kernels(), 1, problem, config, seed, out);
        add(&mean, pow(relative_error(out, exact, (size_t)ROWS * VALUES), 2));
    }
    free(out);
    return mean;
}

/* Of independent draws, the mean squared error falls as 1 / samples, up to the square of the quotient's bias; systematic
 * draws do no worse, and with all keys nothing is left. The difference of the means is held to BOUND standard errors. */
static void kdeformer_converges(void **state)
{
    (void)state;
    struct problem problem = make_problem(ROWS, ROWS, DIM, VALUES, 1, 11);
    double exact[ROWS * VALUES];
    for (size_t i = 0; i < (size_t)ROWS * VALUES; i++) problem.v[i] += 1;
    define_exact(&problem, exact);
    for (unsigned kind = 0; kind < 4; kind++) {
        struct mean before = {0};
        for (size_t samples = 16; samples <= 4096; samples *= 4) {
            struct attention_config config = {.kind = ATTENTION_KDEFORMER,
                .projections = 4,
                .bucket = 16,
                .samples = samples,
                .probability = (enum kde_probability)kind,
                .pilot = 8,
                .sample_groups = 1};
            const struct mean independent = errors_of(&problem, exact, &config);
            config.sampling = KDE_SYSTEMATIC;
            const struct mean systematic = errors_of(&problem, exact, &config);
            const double mean = independent.sum / SEEDS;
            const double spread = sqrt((independent.squares / SEEDS - mean * mean) / SEEDS);
            assert_true(systematic.sum / SEEDS <= mean + BOUND * spread);
            if (samples >= ROWS) assert_true(systematic.sum / SEEDS <= 1e-10);
            if (before.count) {
                const double quarter = before.sum / SEEDS / 4;
                const double of_before = sqrt((before.squares / SEEDS / 16 - quarter * quarter) / SEEDS);
                /* a quotient of few samples is worse than in the limit, so that it may fall faster */
                const double slack = BOUND * (spread + of_before);
                assert_true(mean <= quarter + slack);
                assert_true(samples < 256 || mean >= quarter - slack);
            }
            before = independent;
        }
        print_message("  %s: %.1e with 4096 independent samples\n",
            attention_probability_name((enum kde_probability)kind), sqrt(before.sum / SEEDS));
    }
    free_problem(&problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remainder_is_unbiased),
        cmocka_unit_test(feature_products_are_unbiased),
        cmocka_unit_test(kdeformer_converges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
