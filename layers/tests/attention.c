/* Attention methods with every set of kernels against their definition in float64: cross shapes, single keys, ragged
 * blocks, ties, scores that overflow unshifted; and the same bits for every batch size, place and number of threads.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/cpu/cpu_attention.h"
#include "layers/cpu/kde_attention.h"
#include "layers/tests/attention_definition.h"
#include "layers/tests/guarded_memory.h"

/* A call with inputs in matrices whose rows have gaps, its draws, and the samples that those draws stand for. */
struct problem {
    struct attention_call call;
    float *q, *k, *v, *projection, *probability;
    uint32_t *uniform;
    int32_t *sample_key;
};

static void *allocate(size_t count, size_t size)
{
    void *memory = malloc((count ? count : 1) * size);
    assert_non_null(memory);
    return memory;
}

static void open_problem(struct problem *problem, const struct attention_shape *shape,
    const struct attention_config *config, size_t batch, float amplitude)
{
    static const uint64_t image_index[] = {11, 12, 13, 14, 15};
    const size_t units = batch * shape->heads;
    struct attention_call *call = &problem->call;
    *call = (struct attention_call){.shape = *shape, .config = *config, .batch = batch};
    call->q_stride = call->k_stride = shape->heads * shape->head_dim + GAP;
    call->v_stride = shape->heads * shape->value_dim + GAP;
    call->out_stride = call->v_stride;
    call->q = problem->q = strided_input("q", 1, batch * shape->queries, shape->heads * shape->head_dim, amplitude);
    call->k = problem->k = strided_input("k", 1, batch * shape->keys, shape->heads * shape->head_dim, amplitude);
    call->v = problem->v = strided_input("v", 1, batch * shape->keys, shape->heads * shape->value_dim, 1);
    problem->projection = allocate(units * shape->head_dim * config->projections, sizeof(float));
    problem->uniform = allocate(units * config->samples, sizeof(uint32_t));
    problem->sample_key = allocate(units * config->samples, sizeof(int32_t));
    problem->probability = allocate(units * shape->keys, sizeof(float));
    const struct attention_draw_memory memory = {.projection = problem->projection, .sample_uniform = problem->uniform};
    attention_draw(shape, config, 9, 1, image_index, batch, &memory);
    call->draws = (struct attention_draws){.projection = problem->projection, .sample_uniform = problem->uniform};
}

static void close_problem(struct problem *problem)
{
    free(problem->q);
    free(problem->k);
    free(problem->v);
    free(problem->projection);
    free(problem->uniform);
    free(problem->sample_key);
    free(problem->probability);
}

/* What the uniforms pick, step by step with the functions that have tests of their own. */
static void resolve_samples(struct problem *problem, const struct attention_kernels *set)
{
    const struct attention_call *call = &problem->call;
    const size_t keys = call->shape.keys, samples = call->config.samples;
    uint64_t *cumulative = allocate(keys, sizeof *cumulative);
    double *vectors = allocate(T2T_KDE_VECTORS * (call->shape.value_dim + 1), sizeof *vectors);
    for (size_t unit = 0; unit < call->batch * call->shape.heads; unit++) {
        float *probability = problem->probability + unit * keys;
        const float *v = call->v + unit / call->shape.heads * keys * call->v_stride +
                         unit % call->shape.heads * call->shape.value_dim;
        t2t_kde_probability(set, v, call->v_stride, keys, call->shape.value_dim, probability, vectors);
        t2t_kde_cumulate(probability, keys, cumulative);
        for (size_t s = 0; s < samples; s++)
            problem->sample_key[unit * samples + s] =
                (int32_t)t2t_kde_pick(cumulative, keys, problem->uniform[unit * samples + s]);
    }
    free(cumulative);
    free(vectors);
}

/* Runs a call into fresh guarded memory with scratch that is filled with NaN and guarded as well. */
static float *run(const struct attention_kernels *set, size_t threads, struct attention_call call)
{
    const size_t rows = call.batch * call.shape.queries, width = call.shape.heads * call.shape.value_dim;
    const size_t bytes = t2t_cpu_attention_scratch(set, threads, &call.shape, &call.config, call.batch);
    const size_t padded = (bytes + 63) / 64 * 64 + 64;
    unsigned char *scratch = aligned_alloc(64, padded);
    assert_non_null(scratch);
    memset(scratch, 0xff, padded);
    call.scratch = scratch;
    call.out = guarded(rows * call.out_stride);
    t2t_cpu_attention(set, threads, &call);
    for (size_t i = bytes; i < padded; i++) assert_int_equal(scratch[i], 0xff);
    for (size_t i = 0; i < rows; i++) assert_true(is_untouched(call.out + i * call.out_stride + width, GAP));
    free(scratch);
    return call.out;
}

/* ---- against the definition ---- */

static double frobenius_error(const struct attention_call *call, const float *found, const double *wanted)
{
    const size_t width = call->shape.heads * call->shape.value_dim;
    double difference = 0, size = 0;
    for (size_t i = 0; i < call->batch * call->shape.queries; i++)
        for (size_t c = 0; c < width; c++) {
            const double w = wanted[i * width + c], d = (double)found[i * call->out_stride + c] - w;
            difference += d * d;
            size += w * w;
        }
    return sqrt(difference / size);
}

static const struct {
    const char *name;
    struct attention_shape shape; /* heads, queries, keys, head_dim, value_dim */
    size_t projections, bucket, samples;
} cases[] = {
    {"a block of head_dim 12", {3, 197, 197, 12, 12, 0}, 4, 16, 16},
    {"a tokens-to-token layer", {1, 400, 400, 64, 64, 0}, 7, 32, 24},
    {"more keys than queries", {2, 50, 331, 64, 20, 0}, 5, 32, 10},
    {"more queries than keys", {2, 331, 50, 20, 64, 0}, 5, 16, 10},
    {"value_dim 1", {2, 33, 65, 9, 1, 0}, 3, 8, 5},
    {"head_dim 1", {2, 33, 65, 1, 9, 0}, 3, 8, 5},
    {"fewer keys than a bucket", {2, 40, 9, 8, 8, 0}, 3, 32, 7},
    {"no samples", {1, 100, 100, 16, 16, 0}, 4, 16, 0},
    {"a ragged last block of one key", {1, 97, 97, 16, 16, 0}, 4, 16, 8},
    {"one key", {2, 5, 1, 8, 8, 0}, 4, 32, 3},
    {"one query", {2, 1, 100, 8, 8, 0}, 4, 8, 6},
    {"fewer queries than blocks", {2, 5, 100, 8, 8, 0}, 4, 8, 6},
    {"ties: one bit of hash", {1, 150, 150, 12, 12, 0}, 1, 8, 12},
    {"buckets of one key", {1, 60, 60, 12, 12, 0}, 6, 1, 20},
    {"sixteen bits of hash", {1, 60, 120, 12, 12, 0}, 16, 16, 200},
};

/* Scores reach `score`: float32 rounds them in proportion, and their exponentials with them. */
static double tolerance_at(double score)
{
    return 2e-6 + 1e-8 * score;
}

static void compare_case(const struct attention_kernels *set, size_t number, enum attention_kind kind, float amplitude,
    double score, double *worst)
{
    struct attention_shape shape = cases[number].shape;
    shape.scale = (float)(1 / sqrt((double)shape.head_dim));
    const struct attention_config config = {.kind = kind,
        .projections = cases[number].projections,
        .bucket = cases[number].bucket,
        .samples = cases[number].samples};
    struct problem problem;
    open_problem(&problem, &shape, &config, 2, amplitude);
    resolve_samples(&problem, set);
    struct attention_call given = problem.call; /* the same samples as keys chosen beforehand */
    given.draws.sample_uniform = NULL;
    given.draws.sample_key = problem.sample_key;
    given.draws.sample_probability = problem.probability;
    double *wanted = allocate(2 * shape.queries * shape.heads * shape.value_dim, sizeof *wanted);
    define_attention(&given, set, wanted);
    for (size_t own = 0; own < 2; own++) {
        float *found = run(set, 2, own ? problem.call : given);
        const double error = frobenius_error(&problem.call, found, wanted);
        if (!(error <= tolerance_at(score)))
            fail_msg("%s, %s of %s, amplitude %g: off by %.1e", set->name, attention_method(kind)->name,
                cases[number].name, (double)amplitude, error);
        if (error > *worst) *worst = error;
        release(found, 2 * shape.queries * problem.call.out_stride);
    }
    free(wanted);
    close_problem(&problem);
}

/* The other methods have tests of their own. */
static const enum attention_kind kinds[] = {ATTENTION_EXACT, ATTENTION_KDEFORMER, ATTENTION_MEAN};

/* scale q.k is of size amplitude^2 sqrt(head_dim) / 3, and at most amplitude^2 sqrt(head_dim). */
static void compare_cases(const struct attention_kernels *set, float amplitude)
{
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        double worst = 0;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            compare_case(set, i, kinds[kind], amplitude,
                (double)(amplitude * amplitude) * sqrt((double)cases[i].shape.head_dim), &worst);
        print_message("  %s, %s: %.1e\n", set->name, attention_method(kinds[kind])->name, worst);
    }
}

static void moderate_scores_of(const struct attention_kernels *set)
{
    compare_cases(set, 1.5F);
}

/* exp(scale q.k) is beyond float32 (e^88) and float64 (e^709) for most shapes. */
static void large_scores_of(const struct attention_kernels *set)
{
    compare_cases(set, 30);
}

static void equals_its_definition(void **state)
{
    (void)state;
    for_every_set(moderate_scores_of);
}

static void stays_right_where_exponentials_overflow(void **state)
{
    (void)state;
    for_every_set(large_scores_of);
}

/* ---- the same bits ---- */

/* Images first ... first + batch - 1 of a problem as a call of their own. */
static struct attention_call part_of(const struct problem *problem, size_t first, size_t batch)
{
    struct attention_call call = problem->call;
    const struct attention_shape *shape = &call.shape;
    const size_t unit = first * shape->heads;
    call.batch = batch;
    call.q += first * shape->queries * call.q_stride;
    call.k += first * shape->keys * call.k_stride;
    call.v += first * shape->keys * call.v_stride;
    call.draws.projection += unit * shape->head_dim * call.config.projections;
    call.draws.sample_uniform += unit * call.config.samples;
    return call;
}

static void compare_bits(
    const struct attention_kernels *set, const struct attention_shape *shape, const struct attention_config *config)
{
    enum { BATCH = 5 };
    struct problem problem;
    open_problem(&problem, shape, config, BATCH, 2);
    const size_t image_size = shape->queries * problem.call.out_stride;
    float *all = run(set, 1, problem.call);
    for (size_t batch = 1; batch <= BATCH; batch++)
        for (size_t first = 0; first + batch <= BATCH; first++)
            for (size_t threads = 1; threads <= 3; threads++) {
                float *part = run(set, threads, part_of(&problem, first, batch));
                if (memcmp(part, all + first * image_size, batch * image_size * sizeof *part) != 0)
                    fail_msg("%s, %s: images %zu to %zu with %zu threads have other bits than among all %d", set->name,
                        attention_method(config->kind)->name, first, first + batch - 1, threads, BATCH);
                release(part, batch * image_size);
            }
    release(all, BATCH * image_size);
    close_problem(&problem);
}

static void same_bits_of(const struct attention_kernels *set)
{
    static const struct attention_shape shapes[] = {{1, 150, 131, 12, 20, 0.25F}, {3, 67, 67, 8, 8, 0.25F}};
    for (size_t i = 0; i < 2; i++)
        for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
            compare_bits(set, &shapes[i],
                &(struct attention_config){.kind = kinds[kind], .projections = 4, .bucket = 16, .samples = 12});
}

static void same_bits_whatever_the_batch_and_threads(void **state)
{
    (void)state;
    for_every_set(same_bits_of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_its_definition),
        cmocka_unit_test(stays_right_where_exponentials_overflow),
        cmocka_unit_test(same_bits_whatever_the_batch_and_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
