/* Inputs and draws for tests of KDEformer's samples, and the engine on them. */
#include "layers/tests/kde_definition.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
    assert_non_null(memory);
    return memory;
}

/* ---- problems ---- */

static float *normal(size_t count, double factor, uint64_t seed, uint32_t what)
{
    float *values = allocate(count * sizeof *values);
    t2t_random_normal((struct t2t_random_key){.seed = seed, .head = what, .purpose = T2T_RANDOM_TEST}, count, values);
    for (size_t i = 0; i < count; i++) values[i] = (float)(factor * (double)values[i]);
    return values;
}

struct problem make_problem(
    size_t queries, size_t keys, size_t head_dim, size_t value_dim, double spread, uint64_t seed)
{
    return (struct problem){
        .shape = {1, queries, keys, head_dim, value_dim, (float)(1 / sqrt((double)head_dim))},
        .q = normal(queries * head_dim, spread, seed, 0),
        .k = normal(keys * head_dim, spread, seed, 1),
        .v = normal(keys * value_dim, 1, seed, 2),
    };
}

void free_problem(struct problem *problem)
{
    free(problem->q);
    free(problem->k);
    free(problem->v);
}

/* ---- draws ---- */

struct drawn draw_samples(const struct attention_shape *shape, const struct attention_config *config, uint64_t seed,
    const uint64_t *images, size_t batch)
{
    const struct attention_method *method = attention_method(config->kind);
    if (method->check(shape, config)) fail_msg("%s", t2t_last_error());
    const struct attention_draw_counts counts = method->draw_counts(shape, config);
    const size_t units = batch * shape->heads;
    const struct drawn drawn = {.projection = allocate(units * counts.projection * sizeof *drawn.projection),
        .sample_uniform = allocate(units * counts.sample_uniform * sizeof *drawn.sample_uniform),
        .pilot_uniform = allocate(units * counts.pilot_uniform * sizeof *drawn.pilot_uniform)};
    attention_draw(shape, config, seed, 0, images, batch,
        &(struct attention_draw_memory){.projection = drawn.projection,
            .sample_uniform = drawn.sample_uniform,
            .pilot_uniform = drawn.pilot_uniform});
    return drawn;
}

void free_drawn(struct drawn *drawn)
{
    free(drawn->projection);
    free(drawn->sample_uniform);
    free(drawn->pilot_uniform);
}

/* ---- the engine ---- */

static void call_engine(const struct attention_kernels *kernels, size_t threads, const struct attention_shape *shape,
    const struct attention_config *config, const struct drawn *drawn, size_t batch, const float *q, const float *k,
    const float *v, float *out, struct attention_taken *taken)
{
    const size_t qk_width = shape->heads * shape->head_dim, v_width = shape->heads * shape->value_dim;
    struct attention_call call = {.shape = *shape,
        .config = *config,
        .draws = {.projection = drawn->projection,
            .sample_uniform = drawn->sample_uniform,
            .pilot_uniform = drawn->pilot_uniform},
        .batch = batch,
        .q = q,
        .k = k,
        .v = v,
        .q_stride = qk_width,
        .k_stride = qk_width,
        .v_stride = v_width,
        .out = out,
        .out_stride = v_width,
        .taken = taken};
    call.scratch = allocate(t2t_cpu_attention_scratch(kernels, threads, shape, config, batch));
    t2t_cpu_attention(kernels, threads, &call);
    free(call.scratch);
}

void run_drawn(const struct attention_kernels *kernels, size_t threads, const struct problem *problem,
    const struct attention_config *config, const struct drawn *drawn, float *out)
{
    call_engine(kernels, threads, &problem->shape, config, drawn, 1, problem->q, problem->k, problem->v, out, NULL);
}

void run_engine_telling(const struct attention_kernels *kernels, size_t threads, const struct problem *problem,
    const struct attention_config *config, uint64_t seed, float *out, struct attention_taken *taken)
{
    const uint64_t image = 0;
    struct drawn drawn = draw_samples(&problem->shape, config, seed, &image, 1);
    call_engine(kernels, threads, &problem->shape, config, &drawn, 1, problem->q, problem->k, problem->v, out, taken);
    free_drawn(&drawn);
}

void run_engine(const struct attention_kernels *kernels, size_t threads, const struct problem *problem,
    const struct attention_config *config, uint64_t seed, float *out)
{
    run_engine_telling(kernels, threads, problem, config, seed, out, NULL);
}

double relative_error(const float *found, const double *wanted, size_t count)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)found[i] - wanted[i]) * ((double)found[i] - wanted[i]);
        size += wanted[i] * wanted[i];
    }
    return sqrt(difference / size);
}

double engine_error(const struct attention_kernels *kernels, const struct problem *problem,
    const struct attention_config *config, uint64_t seed)
{
    const uint64_t image = 0;
    const size_t count = problem->shape.queries * problem->shape.value_dim;
    float *found = allocate(count * sizeof *found);
    double *wanted = allocate(count * sizeof *wanted);
    struct drawn drawn = draw_samples(&problem->shape, config, seed, &image, 1);
    run_drawn(kernels, 1, problem, config, &drawn, found);
    define_kdeformer(kernels, problem, config, &drawn, wanted);
    const double error = relative_error(found, wanted, count);
    free_drawn(&drawn);
    free(found);
    free(wanted);
    return error;
}

void check_batch_and_threads(const struct attention_kernels *kernels, const struct attention_config *config)
{
    enum { BATCH = 3, HEADS = 2, QUERIES = 70, KEYS = 90, DIM = 12, VALUES = 20 };
    const struct attention_shape shape = {HEADS, QUERIES, KEYS, DIM, VALUES, 0.3F};
    static const uint64_t images[BATCH] = {5, 0, UINT64_C(1) << 33};
    enum { OUTPUTS = QUERIES * HEADS * VALUES };
    float *q = normal(BATCH * QUERIES * HEADS * DIM, 2, 1, 0), *k = normal(BATCH * KEYS * HEADS * DIM, 2, 1, 1);
    float *v = normal(BATCH * KEYS * HEADS * VALUES, 1, 1, 2);
    float *alone = allocate(BATCH * OUTPUTS * sizeof *alone), *together = allocate(BATCH * OUTPUTS * sizeof *together);
    for (size_t image = 0; image < BATCH; image++) {
        struct drawn drawn = draw_samples(&shape, config, 1, images + image, 1);
        for (size_t threads = 1; threads <= 4; threads++) { /* with more threads than heads they share a unit */
            float *out = (threads == 1 ? alone : together) + image * OUTPUTS;
            call_engine(kernels, threads, &shape, config, &drawn, 1, q + image * QUERIES * HEADS * DIM,
                k + image * KEYS * HEADS * DIM, v + image * KEYS * HEADS * VALUES, out, NULL);
            assert_memory_equal(out, alone + image * OUTPUTS, OUTPUTS * sizeof *out);
        }
        free_drawn(&drawn);
    }
    struct drawn drawn = draw_samples(&shape, config, 1, images, BATCH);
    for (size_t threads = 1; threads <= 4; threads++) {
        memset(together, 0, BATCH * OUTPUTS * sizeof *together);
        call_engine(kernels, threads, &shape, config, &drawn, BATCH, q, k, v, together, NULL);
        assert_memory_equal(together, alone, BATCH * OUTPUTS * sizeof *together);
    }
    free_drawn(&drawn);
    free(q);
    free(k);
    free(v);
    free(alone);
    free(together);
}
