/* Exact attention and KDEformer in bfloat16, whole, for every set of kernels: close to float32 on the same numbers and
 * draws, unlike it where the set can round, and the same bits whatever the threads and the batch.
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
#include "layers/tests/guarded_memory.h"
#include "layers/tests/synthetic_numbers.h"

enum { BATCH = 3, MOST_DRAWS = 1 << 14 };

static const struct attention_shape shapes[] = {
    {1, 784, 784, 64, 64, 0.08F}, {3, 197, 197, 12, 12, 0.29F}, {2, 130, 65, 33, 17, 0.2F}};

static float projection[MOST_DRAWS];
static uint32_t sample_uniform[MOST_DRAWS], pilot_uniform[MOST_DRAWS];

/* Images first ... first + batch - 1 of three. */
static void attend(const struct attention_kernels *set, const struct attention_shape *shape,
    struct attention_config config, const float *q, const float *k, const float *v, size_t first, size_t batch,
    size_t threads, float *out)
{
    const size_t width = shape->heads * shape->head_dim, value_width = shape->heads * shape->value_dim;
    uint64_t index[BATCH];
    for (size_t i = 0; i < batch; i++) index[i] = first + i;
    const struct attention_draw_memory draws = {
        .projection = projection, .sample_uniform = sample_uniform, .pilot_uniform = pilot_uniform};
    attention_draw(shape, &config, 1, 0, index, batch, &draws);
    struct attention_call call = {.shape = *shape,
        .config = config,
        .draws = {.projection = projection, .sample_uniform = sample_uniform, .pilot_uniform = pilot_uniform},
        .batch = batch,
        .q = q + first * shape->queries * width,
        .k = k + first * shape->keys * width,
        .v = v + first * shape->keys * value_width,
        .q_stride = width,
        .k_stride = width,
        .v_stride = value_width,
        .out = out,
        .out_stride = value_width};
    const size_t bytes = t2t_cpu_attention_scratch(set, threads, shape, &config, batch);
    call.scratch = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    assert_non_null(call.scratch);
    t2t_cpu_attention(set, threads, &call);
    free(call.scratch);
}

static double difference(const float *found, const float *wanted, size_t count)
{
    double squares = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        squares += pow((double)found[i] - (double)wanted[i], 2);
        size += pow((double)wanted[i], 2);
    }
    return sqrt(squares / size);
}

static void compare(const struct attention_kernels *set, const struct attention_shape *shape,
    struct attention_config config, double *worst)
{
    const size_t rows = BATCH * shape->queries, width = shape->heads * shape->value_dim;
    const size_t image = shape->queries * width;
    float *q = malloc(BATCH * shape->queries * shape->heads * shape->head_dim * sizeof *q);
    float *k = malloc(BATCH * shape->keys * shape->heads * shape->head_dim * sizeof *k);
    float *v = malloc(BATCH * shape->keys * width * sizeof *v);
    float *wanted = guarded(rows * width), *found = guarded(rows * width), *alone = guarded(image);
    assert_true(q && k && v);
    synthetic_uniform("q", 1, BATCH * shape->queries * shape->heads * shape->head_dim, q);
    synthetic_uniform("k", 2, BATCH * shape->keys * shape->heads * shape->head_dim, k);
    synthetic_uniform("v", 3, BATCH * shape->keys * width, v);
    attend(set, shape, config, q, k, v, 0, BATCH, 1, wanted);
    config.format = FORMAT_BFLOAT16;
    attend(set, shape, config, q, k, v, 0, BATCH, 2, found);
    const double error = difference(found, wanted, rows * width);
    if (!(error < 8e-3)) fail_msg("%s, %s: %g", set->name, attention_method(config.kind)->name, error);
    assert_true(set->bfloat16 ? error > 1e-4 : error == 0);
    if (error > *worst) *worst = error;
    for (size_t threads = 1; threads <= 4; threads += 3) {
        attend(set, shape, config, q, k, v, 1, 1, threads, alone);
        assert_memory_equal(alone, found + image, image * sizeof *alone);
    }
    release(wanted, rows * width);
    release(found, rows * width);
    release(alone, image);
    free(q), free(k), free(v);
}

static void every_method_of(const struct attention_kernels *set)
{
    const struct attention_config configs[] = {{.kind = ATTENTION_EXACT},
        {.kind = ATTENTION_KDEFORMER, .projections = 4, .bucket = 32, .samples = 25},
        {.kind = ATTENTION_KDEFORMER,
            .projections = 4,
            .bucket = 15,
            .samples = 20,
            .sampling = KDE_SYSTEMATIC,
            .probability = KDE_PILOT,
            .pilot = 8,
            .sample_groups = 4},
        {.kind = ATTENTION_KDEFORMER, .projections = 4, .bucket = 32, .samples = 0}};
    double worst = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t c = 0; c < sizeof configs / sizeof *configs; c++) compare(set, &shapes[s], configs[c], &worst);
    print_message("  %s: at most %.1e from float32\n", set->name, worst);
}

static void close_to_float32(void **state)
{
    (void)state;
    for_every_set(every_method_of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(close_to_float32)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
