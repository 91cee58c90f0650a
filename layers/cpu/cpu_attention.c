/* The CPU's implementations of the attention methods as a table, and what they share. */
#include "layers/cpu/cpu_attention.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "layers/base/clock.h"

/* Each runs twice: with an arena that only measures, and with memory. */
static void (*const implementations[ATTENTION_KINDS])(const struct cpu_attention *, struct t2t_arena *) = {
    [ATTENTION_EXACT] = t2t_exact_attention,
    [ATTENTION_KDEFORMER] = t2t_kde_attention,
    [ATTENTION_PERFORMER] = t2t_favor_attention,
    [ATTENTION_REFORMER] = t2t_reformer_attention,
    [ATTENTION_SCATTERBRAIN] = t2t_scatterbrain_attention,
    [ATTENTION_KDE_THEORY] = t2t_kde_theory_attention,
    [ATTENTION_MEAN] = t2t_mean_attention,
};

size_t t2t_cpu_attention_scratch(const struct attention_kernels *kernels, size_t threads,
    const struct attention_shape *shape, const struct attention_config *config, size_t batch)
{
    const struct attention_call call = {.shape = *shape, .config = *config, .batch = batch};
    const struct cpu_attention attention = {.kernels = kernels, .threads = threads, .call = &call};
    struct t2t_arena measuring = {0};
    implementations[config->kind](&attention, &measuring);
    return measuring.peak;
}

void t2t_cpu_attention(const struct attention_kernels *kernels, size_t threads, const struct attention_call *call)
{
    const struct cpu_attention attention = {.kernels = kernels, .threads = threads, .call = call};
    const size_t bytes = t2t_cpu_attention_scratch(kernels, threads, &call->shape, &call->config, call->batch);
    struct t2t_arena arena = {.memory = call->scratch, .capacity = bytes};
    assert(call->scratch || bytes == 0);
    implementations[call->config.kind](&attention, &arena);
}

struct head_view t2t_head_view(const struct attention_call *call, size_t unit)
{
    const struct attention_shape *shape = &call->shape;
    const size_t image = unit / shape->heads, head = unit % shape->heads;
    return (struct head_view){
        .q = call->q + image * shape->queries * call->q_stride + head * shape->head_dim,
        .k = call->k + image * shape->keys * call->k_stride + head * shape->head_dim,
        .v = call->v + image * shape->keys * call->v_stride + head * shape->value_dim,
        .out = call->out + image * shape->queries * call->out_stride + head * shape->value_dim,
    };
}

bool t2t_in_bfloat16(const struct cpu_attention *attention)
{
    return attention->call->config.format == FORMAT_BFLOAT16 && attention->kernels->bfloat16;
}

size_t t2t_this_thread(void)
{
    return (size_t)omp_get_thread_num();
}

double t2t_squares(const float *x, size_t dim)
{
    enum { PARTS = 8 }; /* sums that do not wait for each other */
    double part[PARTS] = {0}, sum = 0;
    size_t c = 0;
    for (; c + PARTS <= dim; c += PARTS)
        for (size_t i = 0; i < PARTS; i++) part[i] += (double)x[c + i] * (double)x[c + i];
    for (; c < dim; c++) sum += (double)x[c] * (double)x[c];
    for (size_t i = 0; i < PARTS; i++) sum += part[i];
    return sum;
}

double t2t_step_begin(const struct attention_call *call)
{
    return call->step_seconds ? t2t_now() : 0;
}

double t2t_step_end(const struct attention_call *call, enum attention_step step, double begin)
{
    if (!call->step_seconds) return 0;
    const double now = t2t_now();
#pragma omp atomic
    call->step_seconds[step] += now - begin;
    return now;
}

struct query_tile t2t_take_tile(
    struct t2t_arena *arena, const struct attention_kernels *kernels, const struct attention_shape *shape)
{
    const size_t lanes = kernels->lanes;
    struct query_tile tile = {.head_dim = shape->head_dim, .value_dim = shape->value_dim};
    tile.query = t2t_arena_take(arena, shape->head_dim * lanes, sizeof *tile.query);
    tile.maximum = t2t_arena_take(arena, lanes, sizeof *tile.maximum);
    tile.sum = t2t_arena_take(arena, lanes, sizeof *tile.sum);
    tile.value = t2t_arena_take(arena, shape->value_dim * lanes, sizeof *tile.value);
    tile.scores = t2t_arena_take(arena, T2T_MOST_KEYS * lanes, sizeof *tile.scores);
    return tile;
}

static void begin_softmax(const struct attention_kernels *kernels, const struct query_tile *tile)
{
    for (size_t i = 0; i < kernels->lanes; i++) tile->maximum[i] = -INFINITY;
    memset(tile->sum, 0, kernels->lanes * sizeof *tile->sum);
    memset(tile->value, 0, tile->value_dim * kernels->lanes * sizeof *tile->value);
}

/* Exponentials are powers of 2. */
static float base_2(float scale)
{
    static const double log2_e = 1.4426950408889634;
    return (float)(log2_e * (double)scale);
}

void t2t_begin_tile(const struct attention_kernels *kernels, const struct query_tile *tile, const float *const *rows,
    size_t count, float scale)
{
    kernels->load_queries(rows, count, tile->head_dim, base_2(scale), tile->query);
    begin_softmax(kernels, tile);
}

void t2t_begin_bfloat16_tile(const struct attention_kernels *kernels, const struct query_tile *tile,
    const float *const *rows, size_t count, float scale)
{
    kernels->bfloat16->load_queries(rows, count, tile->head_dim, base_2(scale), (bfloat16_pair *)(void *)tile->query);
    begin_softmax(kernels, tile);
}

static size_t unit_count(const struct cpu_attention *attention)
{
    return attention->call->batch * attention->call->shape.heads;
}

size_t t2t_units_at_a_time(const struct cpu_attention *attention)
{
    const size_t units = unit_count(attention);
    return units < attention->threads ? units : attention->threads;
}

static void run_whole_units(
    const struct cpu_attention *attention, const struct unit_step *steps, size_t count, const void *method)
{
    const size_t units = unit_count(attention);
#pragma omp parallel for num_threads((int)attention->threads) schedule(dynamic)
    for (size_t unit = 0; unit < units; unit++) {
        const struct task_place place = {.unit = unit, .memory = t2t_this_thread(), .thread = t2t_this_thread()};
        for (size_t step = 0; step < count; step++)
            for (size_t task = 0; task < steps[step].count; task++)
                steps[step].run(method, place, steps[step].first + task);
    }
}

static void run_shared_units(
    const struct cpu_attention *attention, const struct unit_step *steps, size_t count, const void *method)
{
    const size_t units = unit_count(attention);
#pragma omp parallel num_threads((int)attention->threads)
    for (size_t step = 0; step < count; step++) {
        const size_t tasks = units * steps[step].count;
#pragma omp for schedule(dynamic)
        for (size_t i = 0; i < tasks; i++) {
            const size_t unit = i / steps[step].count;
            const struct task_place place = {.unit = unit, .memory = unit, .thread = t2t_this_thread()};
            steps[step].run(method, place, steps[step].first + i % steps[step].count);
        }
    }
}

void t2t_run_units(
    const struct cpu_attention *attention, const struct unit_step *steps, size_t count, const void *method)
{
    if (unit_count(attention) < attention->threads)
        run_shared_units(attention, steps, count, method);
    else
        run_whole_units(attention, steps, count, method);
}
