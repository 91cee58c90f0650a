/* Every operation of the CUDA device, emulated, against the CPU's on the same numbers: odd sizes, rows with gaps, several
 * schedules of threads and blocks. An argument, float16 or bfloat16, makes the device's a half-precision format; the CPU's
 * stays float32.
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
#include "layers/base/random.h"
#include "layers/cuda/cuda_ops.h"

enum { GAP = 3 /* floats between rows */ };

/* A device and what a test asked of it. */
struct bench {
    const struct layer_ops *ops;
    struct layer_device *device;
    void *memory[32];
    size_t count;
};

static struct bench host, cuda;
static enum number_format format; /* of the CUDA device */

/* How far a result may be off that is off by `whole` at most in float32. */
static double allowed(double whole, double float16)
{
    return format == FORMAT_FLOAT32 ? whole : format == FORMAT_FLOAT16 ? float16 : 8 * float16;
}

static void *own_memory(struct bench *bench, size_t bytes)
{
    void *memory = NULL;
    if (bench->ops->reserve)
        assert_int_equal(bench->ops->reserve(bench->device, bytes, &memory), T2T_OK);
    else
        memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
    assert_non_null(memory);
    assert_true(bench->count < sizeof bench->memory / sizeof *bench->memory);
    return bench->memory[bench->count++] = memory;
}

static void forget(struct bench *bench)
{
    while (bench->count)
        if (bench->ops->release)
            bench->ops->release(bench->device, bench->memory[--bench->count]);
        else
            free(bench->memory[--bench->count]);
}

static float *normal(size_t count, uint32_t what, double factor)
{
    float *values = malloc((count + 1) * sizeof *values);
    assert_non_null(values);
    t2t_random_normal((struct t2t_random_key){.seed = 5, .head = what, .purpose = T2T_RANDOM_TEST}, count, values);
    for (size_t i = 0; i < count; i++) values[i] = (float)(factor * (double)values[i]);
    return values;
}

/* The same numbers on both devices. */
static float *given(struct bench *bench, const float *values, size_t count)
{
    float *own = own_memory(bench, count * sizeof *own);
    if (bench->ops->input)
        bench->ops->input(bench->device, values, count, own);
    else
        memcpy(own, values, count * sizeof *own);
    return own;
}

static float *taken(struct bench *bench, const float *own, size_t count)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    if (bench->ops->output) {
        bench->ops->output(bench->device, own, count, values);
        if (bench->ops->finish(bench->device)) fail_msg("%s", t2t_last_error());
    } else {
        memcpy(values, own, count * sizeof *values);
    }
    return values;
}

/* Runs a test's operation on both devices and compares `count` floats that it leaves in the memory it returns. */
typedef float *operation(struct bench *bench, const void *arguments);

static double difference(operation *run, const void *arguments, size_t rows, size_t width, size_t stride)
{
    const size_t count = rows * stride;
    float *wanted = taken(&host, run(&host, arguments), count), *found = taken(&cuda, run(&cuda, arguments), count);
    double error = 0, size = 0;
    for (size_t row = 0; row < rows; row++)
        for (size_t c = 0; c < width; c++) {
            const double x = (double)wanted[row * stride + c], y = (double)found[row * stride + c];
            error += (x - y) * (x - y);
            size += x * x;
        }
    free(wanted);
    free(found);
    forget(&host);
    forget(&cuda);
    return sqrt(error / size);
}

static struct matrix matrix_of(float *data, size_t batch, size_t tokens, size_t channels, size_t stride)
{
    return (struct matrix){.data = data, .batch = batch, .tokens = tokens, .channels = channels, .stride = stride};
}

/* Room for a result, of which nothing may be read. */
static float *empty(struct bench *bench, size_t count)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) values[i] = NAN;
    float *own = given(bench, values, count);
    free(values);
    return own;
}

static float *random_given(struct bench *bench, size_t count, uint32_t what, double factor)
{
    float *values = normal(count, what, factor);
    float *own = given(bench, values, count);
    free(values);
    return own;
}

static void for_schedules(void (*test)(void))
{
    for (int policy = 0; policy < 3; policy++) {
        t2t_emulation_schedule((uint64_t)policy, policy);
        test();
    }
    t2t_emulation_schedule(0, 0);
}

/* ---- norms, splits, tokens ---- */

struct sizes {
    size_t batch, tokens, channels;
};

static float *run_norm(struct bench *bench, const void *arguments)
{
    const struct sizes *s = arguments;
    const size_t stride = s->channels + GAP, rows = s->batch * s->tokens;
    const struct matrix in =
        matrix_of(random_given(bench, rows * stride, 1, 2), s->batch, s->tokens, s->channels, stride);
    const struct matrix out =
        matrix_of(empty(bench, rows * s->channels), s->batch, s->tokens, s->channels, s->channels);
    bench->ops->layer_norm(
        bench->device, in, random_given(bench, s->channels, 2, 1), random_given(bench, s->channels, 3, 1), out);
    return out.data;
}

static void norms(void)
{
    static const struct sizes sizes[] = {{1, 1, 1}, {2, 5, 147}, {3, 9, 64}, {1, 33, 31}};
    for (size_t i = 1; i < sizeof sizes / sizeof *sizes; i++)
        assert_true(difference(run_norm, &sizes[i], sizes[i].batch * sizes[i].tokens, sizes[i].channels,
                        sizes[i].channels) < 2e-6);
}

struct split {
    struct soft_split_shape shape;
    size_t batch;
    bool tokens;
};

static size_t windows_of(const struct soft_split_shape *shape)
{
    const size_t grid = (shape->side + 2 * shape->padding - shape->kernel) / shape->stride + 1;
    return grid * grid;
}

static float *run_split(struct bench *bench, const void *arguments)
{
    const struct split *s = arguments;
    const struct soft_split_shape *shape = &s->shape;
    const size_t windows = windows_of(shape), width = shape->channels * shape->kernel * shape->kernel;
    const size_t area = shape->side * shape->side, stride = shape->channels + GAP;
    const struct matrix out = matrix_of(empty(bench, s->batch * windows * width), s->batch, windows, width, width);
    float *in = random_given(bench, s->batch * area * stride, 4, 1);
    if (s->tokens)
        bench->ops->soft_split_tokens(
            bench->device, shape, matrix_of(in, s->batch, area, shape->channels, stride), out);
    else
        bench->ops->soft_split_image(bench->device, shape, in, out);
    return out.data;
}

static void splits(void)
{
    static const struct split splits[] = {
        {{16, 3, 7, 4, 2}, 2, false}, {{8, 5, 3, 2, 1}, 3, true}, {{4, 64, 3, 2, 1}, 1, true}};
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        const struct soft_split_shape *shape = &splits[i].shape;
        const size_t width = shape->channels * shape->kernel * shape->kernel;
        assert_true(difference(run_split, &splits[i], splits[i].batch * windows_of(shape), width, width) == 0);
    }
}

static float *run_assembly(struct bench *bench, const void *arguments)
{
    const struct sizes *s = arguments;
    const size_t stride = s->channels + GAP;
    const struct matrix in =
        matrix_of(random_given(bench, s->batch * s->tokens * stride, 5, 1), s->batch, s->tokens, s->channels, stride);
    const struct matrix out = matrix_of(
        empty(bench, s->batch * (s->tokens + 1) * s->channels), s->batch, s->tokens + 1, s->channels, s->channels);
    bench->ops->assemble_tokens(bench->device, in, random_given(bench, s->channels, 6, 1),
        random_given(bench, (s->tokens + 1) * s->channels, 7, 1), out);
    return out.data;
}

static void assemblies(void)
{
    static const struct sizes sizes[] = {{1, 1, 1}, {3, 7, 33}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_true(difference(run_assembly, &sizes[i], sizes[i].batch * (sizes[i].tokens + 1), sizes[i].channels,
                        sizes[i].channels) == 0);
}

/* ---- products ---- */

struct product {
    struct linear_shape shape;
    size_t batch;
    bool bias, in_place, rounded; /* factors that half precision holds as they are, or must round */
};

/* Multiples of 1/32 below 4: eight bits hold them. */
static float *few_bits(float *values, size_t count, double factor)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(factor * fmax(-127, fmin(127, rint(32 * (double)values[i]))) / 32);
    return values;
}

static float *run_product(struct bench *bench, const void *arguments)
{
    const struct product *p = arguments;
    const struct linear_shape *shape = &p->shape;
    const size_t rows = shape->images * shape->tokens, in = shape->in_features, out = shape->out_features;
    const size_t stride = shape->residual_stride ? shape->residual_stride : out;
    float *weight = normal(in * out, 8, 1), *bias = normal(out, 9, 1), *factor = normal(rows * in, 10, 1);
    if (!p->rounded) {
        few_bits(weight, in * out, 0.125);
        few_bits(factor, rows * in, 1);
    }
    for (size_t i = p->batch * shape->tokens * in; i < rows * in; i++)
        factor[i] = NAN; /* of images that are not there */
    struct linear *linear;
    assert_int_equal(bench->ops->linear_open(bench->device, &linear, shape, weight, p->bias ? bias : NULL), T2T_OK);
    const struct matrix x = matrix_of(given(bench, factor, rows * in), p->batch, shape->tokens, in, in);
    const struct matrix before =
        matrix_of(random_given(bench, rows * stride, 11, 1), p->batch, shape->tokens, out, stride);
    const struct matrix y =
        p->in_place ? before : matrix_of(empty(bench, rows * out), p->batch, shape->tokens, out, out);
    bench->ops->linear(bench->device, linear, x, shape->residual_stride ? &before : NULL, y);
    if (bench->ops->finish) assert_int_equal(bench->ops->finish(bench->device), T2T_OK);
    bench->ops->linear_close(linear);
    free(weight);
    free(bias);
    free(factor);
    return y.data;
}

static void products(void)
{
    static const struct product products[] = {{{147, 192, 9, 2, ACTIVATION_NONE, 0}, 2, false, false, false},
        {{33, 20, 5, 3, ACTIVATION_GELU, 0}, 2, true, false, false}, /* fewer images than planned */
        {{20, 33, 5, 2, ACTIVATION_NONE, 33 + GAP + 1}, 2, true, false, false},
        {{64, 64, 7, 2, ACTIVATION_NONE, 64}, 1, true, true, false},
        {{147, 64, 9, 2, ACTIVATION_NONE, 0}, 2, true, false, true}};
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        const struct linear_shape *shape = &products[i].shape;
        const double error = difference(
            run_product, &products[i], products[i].batch * shape->tokens, shape->out_features, shape->out_features);
        const double most = products[i].rounded ? allowed(2e-6, 5e-4) : 2e-6;
        if (!(error < most)) fail_msg("product %zu: off by %.1e", i, error);
        if (products[i].rounded && format != FORMAT_FLOAT32) assert_true(error > 1e-5);
    }
}

/* ---- attention ---- */

struct attention_case {
    struct attention_shape shape;
    struct attention_config config;
    size_t batch;
};

static float *run_attention(struct bench *bench, const void *arguments)
{
    const struct attention_case *a = arguments;
    const struct attention_shape *shape = &a->shape;
    const size_t head_width = shape->heads * shape->head_dim + GAP, value_width = shape->heads * shape->value_dim;
    const struct attention_method *method = attention_method(a->config.kind);
    const struct attention_draw_counts counts =
        method->draw_counts ? method->draw_counts(shape, &a->config) : (struct attention_draw_counts){0};
    const size_t units = a->batch * shape->heads;
    static const uint64_t images[] = {3, 1, 4};
    if (method->check && method->check(shape, &a->config)) fail_msg("%s", t2t_last_error());
    if (bench->ops->attention_check && bench->ops->attention_check(shape, &a->config, a->batch))
        fail_msg("%s", t2t_last_error());
    struct attention_draw_memory draws = {.projection = malloc(units * counts.projection * sizeof(float) + 1),
        .sample_uniform = malloc(units * counts.sample_uniform * sizeof(uint32_t) + 1),
        .pilot_uniform = malloc(units * counts.pilot_uniform * sizeof(uint32_t) + 1),
        .features = malloc(units * counts.features * sizeof(float) + 1),
        .rotation = malloc(units * counts.rotation * sizeof(float) + 1)};
    struct attention_config config = a->config;
    if (bench == &cuda) config.format = format;
    attention_draw(shape, &config, 7, 1, images, a->batch, &draws);
    const size_t out_floats = a->batch * shape->queries * value_width;
    /* q, k and v as columns of one matrix, where there are as many of each */
    const bool together = config.kind == ATTENTION_EXACT && shape->queries == shape->keys;
    const size_t width = shape->heads * shape->head_dim, packed = 2 * width + value_width + GAP;
    const float *qkv = random_given(bench, together ? a->batch * shape->queries * packed : 1, 15, 1.3);
    struct attention_call call = {.shape = *shape,
        .config = config,
        .draws = {.projection = draws.projection,
            .sample_uniform = draws.sample_uniform,
            .pilot_uniform = draws.pilot_uniform,
            .features = draws.features,
            .rotation = draws.rotation},
        .batch = a->batch,
        .q = random_given(bench, a->batch * shape->queries * head_width, 12, 1.3),
        .k = random_given(bench, a->batch * shape->keys * head_width, 13, 1.3),
        .v = random_given(bench, a->batch * shape->keys * (value_width + GAP), 14, 1),
        .q_stride = head_width,
        .k_stride = head_width,
        .v_stride = value_width + GAP,
        .out = empty(bench, out_floats),
        .out_stride = value_width,
        .scratch = own_memory(bench, bench->ops->attention_scratch(bench->device, shape, &config, a->batch) + 64)};
    if (together) {
        call.q = qkv;
        call.k = qkv + width;
        call.v = qkv + 2 * width;
        call.q_stride = call.k_stride = call.v_stride = packed;
    }
    bench->ops->attention(bench->device, &call);
    free(draws.projection);
    free(draws.sample_uniform);
    free(draws.pilot_uniform);
    free(draws.features);
    free(draws.rotation);
    return call.out;
}

#define KDE(BUCKET, SAMPLES, SAMPLING, PROBABILITY, GROUPS)                                                            \
    {                                                                                                                  \
        .kind = ATTENTION_KDEFORMER, .projections = 5, .bucket = (BUCKET), .samples = (SAMPLES),                       \
        .sampling = (SAMPLING), .probability = (PROBABILITY), .pilot = 12, .sample_groups = (GROUPS)                   \
    }

/* heads, queries, keys, head_dim, value_dim, scale */
static const struct attention_case attentions[] = {
    {{1, 1, 1, 1, 1, 1}, {.kind = ATTENTION_EXACT}, 1},
    {{2, 65, 65, 64, 64, 0.125F}, {.kind = ATTENTION_EXACT}, 2},
    {{3, 70, 70, 16, 24, 0.3F}, {.kind = ATTENTION_EXACT}, 2},
    {{3, 70, 33, 12, 12, 0.3F}, {.kind = ATTENTION_EXACT}, 1},
    {{3, 70, 33, 16, 24, 0.3F}, {.kind = ATTENTION_EXACT}, 2},
    {{1, 20, 130, 100, 130, 0.1F}, {.kind = ATTENTION_EXACT}, 1}, /* more than one chunk of dimensions, of values */
    {{2, 37, 41, 12, 20, 0.3F}, {.kind = ATTENTION_MEAN}, 2},
    {{2, 101, 101, 64, 64, 0.125F}, {.kind = ATTENTION_PERFORMER, .features = 49}, 2},
    {{1, 33, 200, 7, 3, 0.4F}, {.kind = ATTENTION_PERFORMER, .features = 80}, 1},
    {{2, 101, 101, 64, 64, 0.125F}, {.kind = ATTENTION_REFORMER, .bucket = 16, .rounds = 2}, 2},
    {{1, 90, 90, 8, 12, 0.3F}, {.kind = ATTENTION_REFORMER, .bucket = 70, .rounds = 3},
        1}, /* padding, two tiles a chunk */
    {{1, 33, 33, 8, 8, 0.3F}, {.kind = ATTENTION_REFORMER, .bucket = 1, .rounds = 1}, 1},
    {{2, 201, 201, 64, 64, 0.125F}, {.kind = ATTENTION_SCATTERBRAIN, .window = 17, .features = 24}, 2},
    {{1, 90, 250, 7, 3, 0.4F}, {.kind = ATTENTION_SCATTERBRAIN, .window = 1, .features = 70},
        1}, /* two feature tiles */
    {{1, 250, 60, 12, 70, 0.3F}, {.kind = ATTENTION_SCATTERBRAIN, .window = 8, .features = 6}, 1},  /* empty windows */
    {{1, 70, 130, 12, 5, 30}, {.kind = ATTENTION_SCATTERBRAIN, .window = 3, .features = 2}, 1},     /* the floor */
    {{1, 70, 70, 12, 12, 0.3F}, {.kind = ATTENTION_SCATTERBRAIN, .window = 500, .features = 4}, 1}, /* exact */
    {{1, 300, 300, 32, 32, 0.2F}, KDE(32, 40, KDE_MULTINOMIAL, KDE_VALUE, 1), 1},
    {{2, 130, 130, 12, 20, 0.3F}, KDE(16, 25, KDE_SYSTEMATIC, KDE_PILOT, 4), 2},
    {{1, 130, 70, 12, 20, 0.3F}, KDE(16, 25, KDE_MULTINOMIAL, KDE_PILOT, 2), 1},
    {{1, 40, 200, 12, 12, 0.3F}, KDE(8, 61, KDE_SYSTEMATIC, KDE_COLUMN_NORM, 2), 1},
    {{1, 64, 300, 16, 9, 0.25F}, KDE(16, 30, KDE_SYSTEMATIC, KDE_UNIFORM, 1), 1},
    {{1, 64, 90, 16, 9, 0.25F}, KDE(16, 200, KDE_SYSTEMATIC, KDE_VALUE, 4), 1}, /* all keys certain */
    {{1, 5, 3, 7, 9, 0.4F}, KDE(2, 2, KDE_SYSTEMATIC, KDE_PILOT, 4), 1},        /* fewer blocks than groups */
    {{1, 50, 50, 7, 9, 0.4F}, KDE(16, 0, KDE_MULTINOMIAL, KDE_VALUE, 1), 1},    /* blocks alone */
    {{1, 300, 301, 16, 70, 0.25F},
        {.kind = ATTENTION_KDEFORMER,
            .projections = 11, /* a sort in two passes */
            .bucket = 32,
            .samples = 30,
            .sampling = KDE_SYSTEMATIC,
            .probability = KDE_VALUE,
            .sample_groups = 1},
        1},
};

static void attention_methods(void)
{
    double worst = 0;
    for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++) {
        const struct attention_shape *shape = &attentions[i].shape;
        const size_t width = shape->heads * shape->value_dim;
        const double error =
            difference(run_attention, &attentions[i], attentions[i].batch * shape->queries, width, width);
        if (!(error < allowed(5e-6, 1e-3)))
            fail_msg("case %zu, %s: off by %.1e", i, attention_method(attentions[i].config.kind)->name, error);
        if (error > worst) worst = error;
    }
    print_message("  worst %.1e\n", worst);
}

static float *run_performer(struct bench *bench, const void *arguments)
{
    const struct sizes *s = arguments;
    const size_t features = s->channels / 2, stride = 3 * s->channels, rows = s->batch * s->tokens;
    float *kqv = random_given(bench, rows * stride, 15, 0.7);
    const struct matrix out =
        matrix_of(empty(bench, rows * s->channels), s->batch, s->tokens, s->channels, s->channels);
    void *scratch = own_memory(
        bench, bench->ops->performer_scratch(bench->device, s->tokens, s->channels, features, s->batch) + 64);
    bench->ops->performer_attention(bench->device, random_given(bench, features * s->channels, 16, 0.5), features,
        matrix_of(kqv, s->batch, s->tokens, s->channels, stride),
        matrix_of(kqv + s->channels, s->batch, s->tokens, s->channels, stride),
        matrix_of(kqv + 2 * s->channels, s->batch, s->tokens, s->channels, stride), out, scratch);
    return out.data;
}

static void token_performer(void)
{
    static const struct sizes sizes[] = {{2, 250, 64}, {1, 7, 10}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_true(difference(run_performer, &sizes[i], sizes[i].batch * sizes[i].tokens, sizes[i].channels,
                        sizes[i].channels) < 3e-6);
}

#define SCHEDULED(TEST)                                                                                                \
    static void TEST##_of_any_schedule(void **state)                                                                   \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        for_schedules(TEST);                                                                                           \
    }
SCHEDULED(norms)
SCHEDULED(splits)
SCHEDULED(assemblies)
SCHEDULED(products)
SCHEDULED(attention_methods)
SCHEDULED(token_performer)

static int open_devices(void **state)
{
    (void)state;
    host.ops = &t2t_cpu_ops;
    cuda.ops = t2t_cuda_ops();
    const struct layer_device_options whole = {.threads = 1}, chosen = {.format = format};
    if (host.ops->open(&host.device, &whole)) return 1;
    if (cuda.ops->open(&cuda.device, &chosen) == T2T_OK) return 0;
    if (format != FORMAT_BFLOAT16 || !strstr(t2t_last_error(), "needs compute capability")) return 1;
    printf("skipped: %s\n", t2t_last_error()); /* Turing, which is supported without */
    exit(77);
}

static int close_devices(void **state)
{
    (void)state;
    host.ops->close(host.device);
    cuda.ops->close(cuda.device);
    return 0;
}

/* operations [FORMAT] [TEST]: a number format of the device; a pattern of names with * and ?. */
int main(int count, char **arguments)
{
    for (enum number_format named = FORMAT_FLOAT32; count > 1 && named <= FORMAT_FLOAT16; named++)
        if (strcmp(arguments[1], number_format_name(named)) == 0) {
            format = named;
            count--;
            arguments++;
            break;
        }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_of_any_schedule),
        cmocka_unit_test(splits_of_any_schedule),
        cmocka_unit_test(assemblies_of_any_schedule),
        cmocka_unit_test(products_of_any_schedule),
        cmocka_unit_test(attention_methods_of_any_schedule),
        cmocka_unit_test(token_performer_of_any_schedule),
    };
    if (count > 1) cmocka_set_test_filter(arguments[1]);
    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
