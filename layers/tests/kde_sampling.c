/* KDEformer with every way to draw its samples, against layers/kdeformer-sampling.md: the engine against the definition
 * in float64, means of many draws, limits where the answer is known, target errors. Seeds are fixed, so nothing is left to
 * chance.
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

/* BigGAN's layer and the Long Range Arena's (of one head), whole; and values whose squares leave the range of float32. */
static void engine_follows_definition_at_size(void **state)
{
    (void)state;
    static const struct {
        size_t queries, keys, head_dim, value_dim;
        float unit;
    } sizes[] = {
        {4096, 1024, 64, 256, 1}, {4096, 4096, 32, 32, 1}, {500, 300, 16, 16, 1e20F}, {500, 300, 16, 16, 1e30F}};
    static const struct attention_config ways[] = {
        {ATTENTION_KDEFORMER, .projections = 7, .bucket = 32, .samples = 98, .sample_groups = 1},
        {ATTENTION_KDEFORMER, .projections = 7, .bucket = 16, .samples = 96, .sampling = KDE_SYSTEMATIC,
            .probability = KDE_PILOT, .pilot = 32, .sample_groups = 4}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct problem problem =
            make_problem(sizes[i].queries, sizes[i].keys, sizes[i].head_dim, sizes[i].value_dim, 2, i + 1);
        for (size_t c = 0; c < sizes[i].keys * sizes[i].value_dim; c++) problem.v[c] *= sizes[i].unit;
        for (size_t set = 0; t2t_kernel_sets[set]; set++)
            for (size_t way = 0; way < sizeof ways / sizeof *ways && t2t_kernel_sets[set]->supported(); way++) {
                const double error = engine_error(t2t_kernel_sets[set], &problem, &ways[way], 1);
                if (!(error <= 2e-5))
                    fail_msg("%s kernels, size %zu, way %zu: off by %.1e", t2t_kernel_sets[set]->name, i, way, error);
            }
        free_problem(&problem);
    }
}

/* ---- unbiased ---- */

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

/* A pilot's samples do not depend on the unit of v, also where squares of v leave the range of float32: other samples
 * would give another output altogether. */
static void unit_of_values_leaves_samples(void **state)
{
    (void)state;
    enum { ROWS = 150, DIM = 16, COUNT = ROWS * DIM };
    static const float factors[] = {1e20F, 1e-25F, 1e10F};
    static float plain[COUNT], scaled[COUNT], v[COUNT];
    struct problem problem = make_problem(ROWS, ROWS, DIM, DIM, 2, 6);
    memcpy(v, problem.v, sizeof v);
    for (size_t set = 0; t2t_kernel_sets[set]; set++) {
        if (!t2t_kernel_sets[set]->supported()) continue;
        for (unsigned way = 0; way < 4; way++) {
            const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
                .projections = 4,
                .bucket = 16,
                .samples = 30,
                .sampling = KDE_SYSTEMATIC,
                .probability = way % 2 ? KDE_COLUMN_NORM : KDE_PILOT,
                .pilot = 8,
                .sample_groups = 4,
                .target_error = way / 2 ? 0.3F : 0};
            memcpy(problem.v, v, sizeof v);
            run_engine(t2t_kernel_sets[set], 1, &problem, &config, 1, plain);
            for (size_t f = 0; f < sizeof factors / sizeof *factors; f++) {
                double error = 0, size = 0;
                for (size_t i = 0; i < COUNT; i++) problem.v[i] = v[i] * factors[f];
                run_engine(t2t_kernel_sets[set], 1, &problem, &config, 1, scaled);
                for (size_t i = 0; i < COUNT; i++) {
                    error += pow((double)scaled[i] / (double)factors[f] - (double)plain[i], 2);
                    size += pow((double)plain[i], 2);
                }
                if (!(sqrt(error / size) <= 1e-5))
                    fail_msg("%s kernels, way %u, v times %g: off by %.1e", t2t_kernel_sets[set]->name, way,
                        (double)factors[f], sqrt(error / size));
            }
        }
    }
    free_problem(&problem);
}

static void check_targets(const struct attention_kernels *kernels, const struct problem *problem, const double *exact,
    float *out, const char *what)
{
    enum { SEEDS = 20 };
    static const float targets[] = {0.2F, 0.1F, 0.05F, 0.02F, 1e-7F};
    const size_t rows = problem->shape.keys, count = problem->shape.queries * problem->shape.value_dim;
    for (size_t t = 0; t < sizeof targets / sizeof *targets; t++)
        for (unsigned kind = KDE_PILOT; kind <= KDE_COLUMN_NORM; kind += KDE_COLUMN_NORM - KDE_PILOT) {
            const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
                .projections = 4,
                .bucket = 8,
                .samples = rows,
                .sampling = KDE_SYSTEMATIC,
                .probability = (enum kde_probability)kind,
                .pilot = 48,
                .sample_groups = 2,
                .target_error = targets[t]};
            double error = 0;
            for (uint64_t seed = 1; seed <= SEEDS; seed++) {
                run_engine(kernels, 1, problem, &config, seed, out);
                error += relative_error(out, exact, count) / SEEDS;
            }
            print_message("  %s values, target %g, probability %u: %.4f\n", what, (double)targets[t], kind, error);
            assert_true(error <= 1.1 * (double)targets[t] + 1e-6);
            assert_true(error >= 0.5 * (double)targets[t] || t == 4); /* not many more samples than needed */
        }
}

/* What is foretold comes out, be it by all queries or by a quarter of them. A target that nothing but all keys meets
 * gives exact attention. */
static void target_error_is_met(void **state)
{
    (void)state;
    const struct attention_kernels *kernels = t2t_kernel_sets[0];
    for (size_t i = 0; !kernels->supported(); i++) kernels = t2t_kernel_sets[i];
    enum { ROWS = 192, DIM = 16, COUNT = ROWS * DIM };
    struct problem problem = make_problem(ROWS, ROWS, DIM, DIM, 1, 8);
    double *exact = allocate(COUNT * sizeof *exact);
    float *out = allocate(COUNT * sizeof *out);
    for (size_t sparse = 0; sparse < 2; sparse++) {
        for (size_t i = 0; i < COUNT; i++) /* else keys near the mean of v move the denominator alone */
            problem.v[i] = sparse ? (i / DIM % 16 ? 0 : problem.v[i]) : problem.v[i] + 1;
        define_exact(&problem, exact);
        check_targets(kernels, &problem, exact, out, sparse ? "sparse" : "dense");
    }
    free(exact);
    free(out);
    free_problem(&problem);
}

/* Clusters of 32 rows far apart: whoever shares a bucket with all of its cluster needs no samples, so that buckets grow;
 * rows that are all alike in their attention take the smallest. */
static void target_error_chooses_buckets(void **state)
{
    (void)state;
    enum { ROWS = 256, DIM = 16, CLUSTER = 32, COUNT = ROWS * DIM };
    struct problem problem = make_problem(ROWS, ROWS, DIM, DIM, 1, 3);
    double *exact = allocate(COUNT * sizeof *exact);
    float *out = allocate(COUNT * sizeof *out);
    struct attention_config config = {.kind = ATTENTION_KDEFORMER,
        .projections = 8,
        .bucket = 16,
        .samples = ROWS,
        .sampling = KDE_SYSTEMATIC,
        .probability = KDE_PILOT,
        .pilot = 64,
        .sample_groups = 4,
        .target_error = 0.1F};
    for (size_t clustered = 0; clustered < 2; clustered++) {
        for (size_t i = 0; i < COUNT && clustered;
             i++) { /* corners of a cube, a cluster each; values are the row's own */
            const size_t cluster = i / DIM / CLUSTER, c = i % DIM;
            problem.k[i] = problem.q[i] = (c < 3 ? (cluster >> c & 1 ? 8.F : -8.F) : 0) + 0.02F * problem.k[i];
            problem.v[i] *= 4;
        }
        define_exact(&problem, exact);
        for (size_t set = 0; t2t_kernel_sets[set]; set++) {
            if (!t2t_kernel_sets[set]->supported()) continue;
            struct attention_taken taken[2] = {{0}};
            for (size_t threads = 1; threads <= 2; threads++)
                run_engine_telling(t2t_kernel_sets[set], threads, &problem, &config, 1, out, &taken[threads - 1]);
            const double bucket = taken[0].bucket, samples = taken[0].samples;
            const double error = relative_error(out, exact, COUNT);
            print_message("  %s, %s: buckets of %.0f, %.1f samples, error %.4f\n", t2t_kernel_sets[set]->name,
                clustered ? "clusters" : "no clusters", bucket, samples, error);
            assert_memory_equal(&taken[0], &taken[1], sizeof taken[0]);
            assert_true(taken[0].units == 1); /* NOLINT: a count */
            assert_true(clustered ? bucket > (double)config.bucket : !(bucket > (double)config.bucket));
            assert_true(taken[0].unmet == 0 && samples < ROWS && error <= 1.1 * (double)config.target_error);
        }
    }
    free(exact);
    free(out);
    free_problem(&problem);
}

static void no_trace_of_batch_and_threads(void **state)
{
    (void)state;
    for (size_t set = 0; t2t_kernel_sets[set]; set++) {
        if (!t2t_kernel_sets[set]->supported()) continue;
        for (unsigned way = 0; way < 9; way++) {
            const bool target = way == 8;
            const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
                .projections = 4,
                .bucket = 16,
                .samples = 30,
                .sampling = target ? KDE_SYSTEMATIC : (enum kde_sampling)(way % 2),
                .probability = target ? KDE_PILOT : (enum kde_probability)(way / 2),
                .pilot = 8,
                .sample_groups = 4,
                .target_error = target ? 0.3F : 0};
            check_batch_and_threads(t2t_kernel_sets[set], &config);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine_follows_definition),
        cmocka_unit_test(engine_follows_definition_at_size),
        cmocka_unit_test(mean_output_approaches_exact),
        cmocka_unit_test(all_keys_sampled_is_exact),
        cmocka_unit_test(extreme_scores_stay_right),
        cmocka_unit_test(unit_of_values_leaves_samples),
        cmocka_unit_test(target_error_is_met),
        cmocka_unit_test(target_error_chooses_buckets),
        cmocka_unit_test(no_trace_of_batch_and_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
