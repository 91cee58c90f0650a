/* The prediction of times counts the kernels of each attention: as many as the device queues, in emulation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "emulation/streams.h"
#include "eval/predict.h"
#include "layers/cuda/cuda_ops.h"

enum { TOKENS = 40, DIM = 12, HEADS = 2, FLOATS = TOKENS * HEADS * DIM };

static const struct attention_shape shape = {HEADS, TOKENS, TOKENS, DIM, DIM, 0.3F};

/* Kernels of one attention; 12 dimensions are none that cuDNN takes. */
static size_t launches_of(const struct attention_config *config)
{
    static float numbers[FLOATS];
    const struct layer_ops *ops = t2t_cuda_ops();
    const struct layer_device_options options = {.format = config->format};
    const struct attention_method *method = attention_method(config->kind);
    const struct attention_draw_counts counts =
        method->draw_counts ? method->draw_counts(&shape, config) : (struct attention_draw_counts){0};
    const uint64_t image = 1;
    struct layer_device *device;
    void *draws[5], *scratch, *matrix;
    assert_int_equal(ops->open(&device, &options), T2T_OK);
    const size_t sizes[5] = {
        counts.projection, counts.sample_uniform, counts.pilot_uniform, counts.features, counts.rotation};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(ops->reserve_draws(device, HEADS * sizes[i] * sizeof(float), &draws[i]), T2T_OK);
    struct attention_draw_memory memory = {.projection = draws[0],
        .sample_uniform = draws[1],
        .pilot_uniform = draws[2],
        .features = draws[3],
        .rotation = draws[4]};
    attention_draw(&shape, config, 1, 0, &image, 1, &memory);
    assert_int_equal(ops->reserve(device, ops->attention_scratch(device, &shape, config, 1) + 64, &scratch), T2T_OK);
    assert_int_equal(ops->reserve(device, 2 * sizeof numbers, &matrix), T2T_OK);
    for (size_t i = 0; i < FLOATS; i++) numbers[i] = (float)(i % 7) - 3;
    ops->input(device, numbers, FLOATS, matrix);
    const struct attention_call call = {.shape = shape,
        .config = *config,
        .draws = {.projection = draws[0],
            .sample_uniform = draws[1],
            .pilot_uniform = draws[2],
            .features = draws[3],
            .rotation = draws[4]},
        .batch = 1,
        .q = matrix,
        .k = matrix,
        .v = matrix,
        .q_stride = HEADS * DIM,
        .k_stride = HEADS * DIM,
        .v_stride = HEADS * DIM,
        .out = (float *)matrix + FLOATS,
        .out_stride = HEADS * DIM,
        .scratch = scratch};
    t2t_emulation_count();
    ops->attention(device, &call);
    assert_int_equal(ops->finish(device), T2T_OK);
    const size_t launches = t2t_emulation_count().launches;
    ops->release(device, scratch);
    ops->release(device, matrix);
    ops->close(device);
    return launches;
}

#define KDE(PROJECTIONS, SAMPLES, SAMPLING, PROBABILITY)                                                               \
    {                                                                                                                  \
        .kind = ATTENTION_KDEFORMER, .projections = (PROJECTIONS), .bucket = 8, .samples = (SAMPLES),                  \
        .sampling = (SAMPLING), .probability = (PROBABILITY), .pilot = 8, .sample_groups = 1                           \
    }

static void as_many_as_are_predicted(void **state)
{
    (void)state;
    static const struct attention_config configs[] = {{.kind = ATTENTION_EXACT}, {.kind = ATTENTION_MEAN},
        {.kind = ATTENTION_PERFORMER, .features = 20}, {.kind = ATTENTION_REFORMER, .bucket = 9, .rounds = 2},
        {.kind = ATTENTION_SCATTERBRAIN, .window = 7, .features = 12}, KDE(7, 6, KDE_MULTINOMIAL, KDE_VALUE),
        KDE(7, 6, KDE_SYSTEMATIC, KDE_PILOT), KDE(7, 6, KDE_SYSTEMATIC, KDE_UNIFORM),
        KDE(7, 6, KDE_SYSTEMATIC, KDE_COLUMN_NORM), KDE(9, 6, KDE_SYSTEMATIC, KDE_PILOT),
        KDE(7, 0, KDE_SYSTEMATIC, KDE_PILOT), KDE(16, 0, KDE_MULTINOMIAL, KDE_VALUE)};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++)
        for (enum number_format format = FORMAT_FLOAT32; format <= FORMAT_FLOAT16; format++) {
            struct attention_config config = configs[i];
            config.format = format;
            const size_t predicted = t2t_attention_work(&shape, &config, 1).kernels, queued = launches_of(&config);
            if (queued != predicted)
                fail_msg("case %zu, %s in %s: %zu kernels, %zu were predicted", i, attention_method(config.kind)->name,
                    number_format_name(format), queued, predicted);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_many_as_are_predicted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
