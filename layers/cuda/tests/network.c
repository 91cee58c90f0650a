/* A whole network on the CUDA device, emulated, against the CPU: every method that the device runs, both kinds of token
 * layers, batches of one and of three, several plans in one session; stages seen by an observer; NaN named; what the
 * device cannot run refused when the session opens. Half precision on the device is compared with float32 on the CPU.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "emulation/schedule.h"
#include "layers/cuda/cuda_ops.h"
#include "vit/tests/synthetic.h"

enum { BATCH = 3, CLASSES = SYNTHETIC_CLASSES, SIZE = SYNTHETIC_SIZE, PIXELS = 3 * SIZE * SIZE };

static const uint64_t place[BATCH] = {4, 17, UINT64_C(1) << 40};
static float pictures[BATCH][PIXELS];

static struct t2t_model *model_of(enum t2t_tokens_type type)
{
    struct t2t_config config = synthetic_small;
    struct t2t_model *model;
    config.tokens_type = type;
    if (synthetic_model_load(&model, &config, 1)) fail_msg("%s", t2t_last_error());
    return model;
}

static struct t2t_session *open_session(const struct t2t_model *model, const struct layer_ops *ops,
    enum number_format format, const struct t2t_plan *plans, size_t count, size_t batch)
{
    const struct t2t_session_options options = {
        .batch = batch, .ops = ops, .device = {.threads = 1, .format = format}, .plans = plans, .plan_count = count};
    struct t2t_session *session;
    if (t2t_session_open(&session, model, &options)) fail_msg("%s", t2t_last_error());
    return session;
}

static struct t2t_plan plan_of(const struct t2t_model *model, struct attention_config config, size_t first, size_t last)
{
    struct t2t_plan plan;
    t2t_plan_exact(model, &plan);
    for (size_t layer = first; layer < last; layer++)
        if (t2t_plan_set(model, &plan, layer, config)) fail_msg("%s", t2t_last_error());
    return plan;
}

/* Largest difference over the standard deviation of what is wanted. */
static double deviation(const float *found, const float *wanted, size_t count)
{
    double largest = 0, mean = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        const double off = fabs((double)found[i] - (double)wanted[i]);
        if (!(off <= largest)) largest = off;
        mean += (double)wanted[i] / (double)count;
    }
    for (size_t i = 0; i < count; i++)
        squares += ((double)wanted[i] - mean) * ((double)wanted[i] - mean) / (double)count;
    return largest / sqrt(squares);
}

/* Both devices, all plans in turn, all batches. */
static double compare(
    const struct t2t_model *model, enum number_format format, const struct t2t_plan *plans, size_t count)
{
    struct t2t_session *host = open_session(model, NULL, FORMAT_FLOAT32, plans, count, BATCH);
    struct t2t_session *cuda = open_session(model, t2t_cuda_ops(), format, plans, count, BATCH);
    const bool whole = format == FORMAT_FLOAT32;
    const double most = whole ? 1e-4 : 3e-2;
    double worst = 0;
    for (size_t turn = 0; turn < (whole ? 2 * count : count); turn++)
        for (size_t batch = 1; batch <= BATCH; batch += 2) {
            float wanted[BATCH * CLASSES], found[BATCH * CLASSES];
            t2t_session_use(host, turn % count);
            t2t_session_use(cuda, turn % count);
            assert_int_equal(t2t_forward(host, pictures[0], place, batch, wanted), T2T_OK);
            if (t2t_forward(cuda, pictures[0], place, batch, found)) fail_msg("%s", t2t_last_error());
            const double off = deviation(found, wanted, batch * CLASSES);
            if (!(off <= most)) fail_msg("plan %zu, batch %zu: off by %.1e deviations", turn % count, batch, off);
            if (off > worst) worst = off;
            const struct t2t_costs *costs = t2t_session_costs(cuda);
            for (size_t layer = 0; layer < costs->layers; layer++)
                assert_true(costs->layer[layer].attention_seconds > 0 &&
                            costs->layer[layer].seconds > costs->layer[layer].attention_seconds);
        }
    t2t_session_close(host);
    t2t_session_close(cuda);
    return worst;
}

/* Each method in the token layers, then in the blocks. */
static void compare_methods(
    const struct t2t_model *model, enum number_format format, const struct attention_config *configs, size_t count)
{
    struct t2t_plan *plans = malloc(2 * count * sizeof *plans);
    assert_non_null(plans);
    for (size_t i = 0; i < count; i++) {
        plans[2 * i] = plan_of(model, configs[i], 0, 2);
        plans[2 * i + 1] = plan_of(model, configs[i], 2, 4);
    }
    print_message("  %s: at most %.1e standard deviations off\n", number_format_name(format),
        compare(model, format, plans, 2 * count));
    free(plans);
}

#define PILOT(BUCKET, SAMPLES)                                                                                         \
    {                                                                                                                  \
        .kind = ATTENTION_KDEFORMER, .projections = 4, .bucket = (BUCKET), .samples = (SAMPLES),                       \
        .sampling = KDE_SYSTEMATIC, .probability = KDE_PILOT, .pilot = 8, .sample_groups = 4                           \
    }

static void every_method_equals_the_cpu(void **state)
{
    (void)state;
    struct t2t_model *model = model_of(T2T_TOKENS_TRANSFORMER);
    static const struct attention_config configs[] = {{.kind = ATTENTION_EXACT}, {.kind = ATTENTION_MEAN},
        {.kind = ATTENTION_PERFORMER, .features = 20}, {.kind = ATTENTION_REFORMER, .bucket = 9, .rounds = 2},
        {.kind = ATTENTION_SCATTERBRAIN, .window = 7, .features = 12}, PILOT(8, 6),
        {.kind = ATTENTION_KDEFORMER, .projections = 4, .bucket = 8, .samples = 6}};
    compare_methods(model, FORMAT_FLOAT32, configs, sizeof configs / sizeof *configs);
    t2t_model_free(model);
}

/* Turing, a device that is supported, has none. */
static bool has_bfloat16(void)
{
    const struct layer_device_options options = {.format = FORMAT_BFLOAT16};
    struct layer_device *device;
    const enum t2t_status status = t2t_cuda_ops()->open(&device, &options);
    if (!status) t2t_cuda_ops()->close(device);
    if (status && !strstr(t2t_last_error(), "needs compute capability")) fail_msg("%s", t2t_last_error());
    return !status;
}

/* Rounded products give a q or k another hash now and then, and its query other keys: methods that hash are compared at
 * sizes where a single key matters little. (cuda_operations compares them at all sizes, from the same q and k.) */
static void every_method_in_half_precision(void **state)
{
    (void)state;
    struct t2t_model *model = model_of(T2T_TOKENS_TRANSFORMER);
    static const struct attention_config configs[] = {{.kind = ATTENTION_EXACT}, {.kind = ATTENTION_MEAN},
        {.kind = ATTENTION_PERFORMER, .features = 20}, {.kind = ATTENTION_REFORMER, .bucket = 80, .rounds = 4},
        {.kind = ATTENTION_SCATTERBRAIN, .window = 7, .features = 12}, PILOT(64, 250),
        {.kind = ATTENTION_KDEFORMER, .projections = 4, .bucket = 64, .samples = 1000}};
    compare_methods(model, FORMAT_FLOAT16, configs, sizeof configs / sizeof *configs);
    if (has_bfloat16()) compare_methods(model, FORMAT_BFLOAT16, configs, sizeof configs / sizeof *configs);
    t2t_model_free(model);
}

static void token_performer_equals_the_cpu(void **state)
{
    (void)state;
    struct t2t_model *model = model_of(T2T_TOKENS_PERFORMER);
    struct t2t_plan plan;
    t2t_plan_exact(model, &plan);
    for (enum number_format format = FORMAT_FLOAT32; format <= FORMAT_FLOAT16; format++)
        if (format != FORMAT_BFLOAT16 || has_bfloat16())
            print_message(
                "  %s: %.1e standard deviations off\n", number_format_name(format), compare(model, format, &plan, 1));
    t2t_model_free(model);
}

struct seen {
    char stages[256];
    double sum;
};

static void see(void *context, const char *stage, size_t first_image, struct matrix output)
{
    struct seen *seen = context;
    assert_int_equal(first_image, 0);
    strcat(seen->stages, stage);
    strcat(seen->stages, " ");
    for (size_t row = 0; row < output.batch * output.tokens; row++)
        for (size_t c = 0; c < output.channels; c++) seen->sum += fabs((double)output.data[row * output.stride + c]);
}

static struct seen seen_on(const struct t2t_model *model, const struct layer_ops *ops)
{
    struct t2t_plan plan;
    struct seen seen = {.sum = 0};
    float logits[CLASSES];
    t2t_plan_exact(model, &plan);
    const struct t2t_session_options options = {.batch = 1,
        .ops = ops,
        .device = {.threads = 1},
        .plans = &plan,
        .plan_count = 1,
        .observer = see,
        .observer_context = &seen};
    struct t2t_session *session;
    assert_int_equal(t2t_session_open(&session, model, &options), T2T_OK);
    assert_int_equal(t2t_forward(session, pictures[0], place, 1, logits), T2T_OK);
    t2t_session_close(session);
    return seen;
}

static void observers_see_the_same(void **state)
{
    (void)state;
    struct t2t_model *model = model_of(T2T_TOKENS_TRANSFORMER);
    const struct seen host = seen_on(model, NULL), cuda = seen_on(model, t2t_cuda_ops());
    assert_string_equal(host.stages, cuda.stages);
    assert_true(fabs(host.sum / cuda.sum - 1) < 1e-5);
    t2t_model_free(model);
}

static void nan_is_named(void **state)
{
    (void)state;
    struct t2t_model *model = model_of(T2T_TOKENS_TRANSFORMER);
    struct t2t_plan plan;
    t2t_plan_exact(model, &plan);
    struct t2t_session *session = open_session(model, t2t_cuda_ops(), FORMAT_FLOAT32, &plan, 1, BATCH);
    float logits[BATCH * CLASSES], spoilt[BATCH][PIXELS];
    memcpy(spoilt, pictures, sizeof spoilt);
    spoilt[1][100] = NAN;
    assert_int_equal(t2t_forward(session, spoilt[0], place, BATCH, logits), T2T_NOT_FINITE);
    assert_non_null(strstr(t2t_last_error(), "soft_split0 for picture 1"));
    assert_int_equal(t2t_forward(session, pictures[0], place, BATCH, logits), T2T_OK);
    t2t_session_close(session);
    t2t_model_free(model);
}

static void what_it_cannot_run_is_refused(void **state)
{
    (void)state;
    struct t2t_model *model = model_of(T2T_TOKENS_TRANSFORMER);
    const struct attention_config configs[] = {
        {.kind = ATTENTION_KDE_THEORY, .projections = 3, .bucket = 4, .samples = 4}, {.kind = ATTENTION_KDEFORMER,
                                                                                         .projections = 4,
                                                                                         .bucket = 8,
                                                                                         .samples = 6,
                                                                                         .sampling = KDE_SYSTEMATIC,
                                                                                         .probability = KDE_PILOT,
                                                                                         .pilot = 8,
                                                                                         .target_error = 0.1F}};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        const struct t2t_plan plan = plan_of(model, configs[i], 0, 1);
        const struct t2t_session_options options = {.batch = 1, .ops = t2t_cuda_ops(), .plans = &plan, .plan_count = 1};
        struct t2t_session *session;
        assert_int_equal(t2t_session_open(&session, model, &options), T2T_BAD_USAGE);
        assert_non_null(strstr(t2t_last_error(), "--device cpu"));
        assert_null(session);
    }
    const struct t2t_plan plan = plan_of(model, (struct attention_config){.kind = ATTENTION_EXACT}, 0, 4);
    const struct t2t_session_options options = {
        .batch = 21846, .ops = t2t_cuda_ops(), .plans = &plan, .plan_count = 1}; /* three heads: 65538 */
    struct t2t_session *session;
    assert_int_equal(t2t_session_open(&session, model, &options), T2T_BAD_USAGE);
    assert_non_null(strstr(t2t_last_error(), "exact takes batches of at most 21845 images on the cuda device"));
    t2t_model_free(model);
}

#ifndef T2T_REAL_DEVICE /* which is what it is */
/* Nor has cuDNN an engine for it: exact attention is the device's own. */
static void turing_has_no_bfloat16(void **state)
{
    (void)state;
    struct layer_device *device;
    struct t2t_plan plan;
    struct t2t_model *model = model_of(T2T_TOKENS_TRANSFORMER);
    const struct layer_device_options bfloat16 = {.format = FORMAT_BFLOAT16};
    assert_true(has_bfloat16());
    t2t_emulation_capability(75);
    assert_false(has_bfloat16());
    assert_int_equal(t2t_cuda_ops()->open(&device, &bfloat16), T2T_NO_RESOURCE);
    assert_non_null(strstr(t2t_last_error(), "bfloat16 needs compute capability 8.0; use --dtype float16"));
    t2t_plan_exact(model, &plan);
    print_message("  float16: %.1e standard deviations off\n", compare(model, FORMAT_FLOAT16, &plan, 1));
    t2t_emulation_capability(80);
    t2t_model_free(model);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_equals_the_cpu),
        cmocka_unit_test(every_method_in_half_precision),
        cmocka_unit_test(token_performer_equals_the_cpu),
        cmocka_unit_test(observers_see_the_same),
        cmocka_unit_test(nan_is_named),
        cmocka_unit_test(what_it_cannot_run_is_refused),
#ifndef T2T_REAL_DEVICE
        cmocka_unit_test(turing_has_no_bfloat16),
#endif
    };
    for (uint64_t i = 0; i < BATCH; i++) synthetic_picture(SIZE, i + 1, pictures[i]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
