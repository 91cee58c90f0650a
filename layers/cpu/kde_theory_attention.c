/* KDEformer's Algorithm 1: denominators and column norms of the softmax by kernel density estimates (Algorithm 2), then
 * sampled keys alone. For study; layers/kde-theory.md defines every step.
 *
 * Both estimates are one sum of weighted exponentials, with queries and keys in turn as its points: the points of the
 * matching bucket exactly, and of the others a systematic sample.
 */
#include <math.h>
#include <string.h>

#include "layers/cpu/kde.h"

/* Memory of one unit, an (image, head); logarithms are to base 2. */
struct theory_unit {
    struct kde_unit order;      /* hashes and orders alone */
    float *log_sum;             /* [queries] of the softmax's denominator, estimated */
    float *log_column;          /* [keys] of the squared norm of the softmax's column, estimated */
    float *norm;                /* [keys] |[v_j, 1]| */
    float *probability;         /* [keys] */
    uint64_t *cumulative;       /* [keys] */
    double *vectors;            /* [T2T_KDE_VECTORS (value_dim + 1)] */
    float *sample_k, *sample_v; /* [samples, head_dim], [samples, value_dim] */
    float *sample_weight;       /* [samples] log of 1 / (samples probability) */
};

/* Memory of one thread. */
struct theory_thread {
    struct query_tile sums, outputs; /* without values; with them */
    float *points;                   /* [block or samples, head_dim] */
    float *bias;                     /* [block or samples] */
};

struct theory {
    struct kde kde; /* kernels, call, blocks */
    struct theory_unit *units;
    struct theory_thread *threads;
};

/* One side of an estimate: rows of q or of k in their sorted order, `rows` to a block. */
struct side {
    const float *x;
    size_t stride, count, rows;
    const uint32_t *order;
    const float *log_sum; /* NULL; or of queries as points, which are then weighted by 1 / sum^2 */
};

static struct side query_side(const struct theory *theory, const struct theory_unit *memory, size_t unit)
{
    const struct attention_call *call = theory->kde.call;
    return (struct side){.x = t2t_head_view(call, unit).q,
        .stride = call->q_stride,
        .count = call->shape.queries,
        .rows = theory->kde.rows,
        .order = memory->order.q_order,
        .log_sum = memory->log_sum};
}

static struct side key_side(const struct theory *theory, const struct theory_unit *memory, size_t unit)
{
    const struct attention_call *call = theory->kde.call;
    return (struct side){.x = t2t_head_view(call, unit).k,
        .stride = call->k_stride,
        .count = call->shape.keys,
        .rows = theory->kde.bucket,
        .order = memory->order.k_order};
}

static struct kde_range block_of(const struct side *side, size_t block)
{
    const size_t first = block * side->rows, last = first + side->rows;
    return (struct kde_range){first < side->count ? first : side->count, last < side->count ? last : side->count};
}

static size_t fewer(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- Algorithm 2 ---- */

static void pack_point(const struct theory *theory, const struct theory_thread *own, const struct side *points,
    size_t position, float log_weight, size_t at)
{
    const size_t row = points->order[position], dim = theory->kde.call->shape.head_dim;
    memcpy(own->points + at * dim, points->x + row * points->stride, dim * sizeof(float));
    own->bias[at] = points->log_sum ? log_weight - 2 * points->log_sum[row] : log_weight;
}

/* Packs the points of a block. */
static size_t pack_block(
    const struct theory *theory, const struct theory_thread *own, const struct side *points, struct kde_range block)
{
    for (size_t i = block.first; i < block.last; i++) pack_point(theory, own, points, i, 0, i - block.first);
    return block.last - block.first;
}

/* Packs equally spaced points of the sorted order that begin at `uniform` of 2^32 of the spacing, less those of the
 * block: each of the others is there with probability samples / count. */
static size_t pack_samples(const struct theory *theory, const struct theory_thread *own, const struct side *points,
    struct kde_range block, uint32_t uniform)
{
    const size_t samples = fewer(theory->kde.samples, points->count);
    const float log_weight = (float)log2((double)points->count / (double)samples);
    size_t packed = 0;
    for (size_t i = 0; i < samples; i++) {
        const uint64_t place = ((uint64_t)i << 32 | uniform) / samples * points->count;
        const size_t position = (size_t)(place >> 32);
        if (position >= block.first && position < block.last) continue;
        pack_point(theory, own, points, position, log_weight, packed++);
    }
    return packed;
}

/* Takes the packed points into the sums of up to `lanes` rows. */
static void add_points(
    const struct theory *theory, const struct theory_thread *own, const struct query_tile *tile, size_t points)
{
    const size_t dim = theory->kde.call->shape.head_dim;
    const struct key_run run = {
        .k = own->points, .v = own->points, .k_stride = dim, .v_stride = dim, .keys = points, .bias = own->bias};
    theory->kde.kernels->attend(tile, &run);
}

/* result[y] = log of the sum over points x of weight_x exp(scale x.y), for the rows y of a block. */
static void estimate_block(const struct theory *theory, const struct theory_thread *own, const struct side *points,
    const struct side *rows, size_t block, float scale, uint32_t uniform, float *result)
{
    const struct attention_kernels *kernels = theory->kde.kernels;
    const struct kde_range at = block_of(rows, block), near = block_of(points, block);
    for (size_t first = at.first; first < at.last; first += kernels->lanes) {
        const size_t count = fewer(at.last - first, kernels->lanes);
        const float *y[T2T_MAX_LANES];
        for (size_t i = 0; i < count; i++) y[i] = rows->x + rows->order[first + i] * rows->stride;
        t2t_begin_tile(kernels, &own->sums, y, count, scale);
        add_points(theory, own, &own->sums, pack_block(theory, own, points, near));
        add_points(theory, own, &own->sums, pack_samples(theory, own, points, near, uniform));
        for (size_t i = 0; i < count; i++)
            result[rows->order[first + i]] = own->sums.maximum[i] + log2f(own->sums.sum[i]);
    }
}

/* ---- Algorithm 1 ---- */

static void order_rows(const void *method, struct task_place place, size_t task)
{
    const struct theory *theory = method;
    const struct theory_unit *memory = &theory->units[place.memory];
    if (task)
        t2t_kde_order_queries(&theory->kde, &memory->order, place.unit);
    else
        t2t_kde_order_keys(&theory->kde, &memory->order, place.unit);
}

static const uint32_t *uniforms(const struct theory *theory, size_t unit)
{
    return theory->kde.call->draws.sample_uniform + unit * (theory->kde.samples + 2);
}

static void estimate_sums(const void *method, struct task_place place, size_t block)
{
    const struct theory *theory = method;
    const struct theory_unit *memory = &theory->units[place.memory];
    const struct side keys = key_side(theory, memory, place.unit), queries = query_side(theory, memory, place.unit);
    estimate_block(theory, &theory->threads[place.thread], &keys, &queries, block, theory->kde.call->shape.scale,
        uniforms(theory, place.unit)[0], memory->log_sum);
}

static void estimate_columns(const void *method, struct task_place place, size_t block)
{
    const struct theory *theory = method;
    const struct theory_unit *memory = &theory->units[place.memory];
    const struct side keys = key_side(theory, memory, place.unit), queries = query_side(theory, memory, place.unit);
    estimate_block(theory, &theory->threads[place.thread], &queries, &keys, block, 2 * theory->kde.call->shape.scale,
        uniforms(theory, place.unit)[1], memory->log_column);
}

/* p_j in proportion to |column j of the softmax|^2 + (queries / keys) |[v_j, 1]|^2 / |[V, 1]|^2. */
static void find_probabilities(const struct theory *theory, const struct theory_unit *memory, size_t unit)
{
    const struct attention_call *call = theory->kde.call;
    const size_t keys = call->shape.keys;
    const double queries = (double)call->shape.queries;
    const double norm = t2t_kde_value_norms(theory->kde.kernels, t2t_head_view(call, unit).v, call->v_stride, keys,
        call->shape.value_dim, memory->norm, memory->vectors);
    const double share = queries / (double)keys / (norm * norm);
    double sum = 0;
    for (size_t pass = 0; pass < 2; pass++)
        for (size_t j = 0; j < keys; j++) {
            const double column = exp2((double)memory->log_column[j]); /* no weight of a softmax exceeds 1 */
            const double length = (double)memory->norm[j];
            const double p = (column < queries ? column : queries) + share * length * length;
            if (pass)
                memory->probability[j] = (float)(p / sum);
            else
                sum += p;
        }
}

static void draw_keys(const void *method, struct task_place place, size_t task)
{
    (void)task;
    const struct theory *theory = method;
    const struct theory_unit *memory = &theory->units[place.memory];
    const struct attention_call *call = theory->kde.call;
    const struct head_view head = t2t_head_view(call, place.unit);
    const size_t keys = call->shape.keys, dim = call->shape.head_dim, value_dim = call->shape.value_dim;
    find_probabilities(theory, memory, place.unit);
    t2t_kde_cumulate(memory->probability, keys, memory->cumulative);
    for (size_t s = 0; s < theory->kde.samples; s++) {
        const size_t key = t2t_kde_pick(memory->cumulative, keys, uniforms(theory, place.unit)[2 + s]);
        const uint64_t weight = memory->cumulative[key] - (key ? memory->cumulative[key - 1] : 0);
        const double share = (double)weight / (double)memory->cumulative[keys - 1];
        memcpy(memory->sample_k + s * dim, head.k + key * call->k_stride, dim * sizeof(float));
        memcpy(memory->sample_v + s * value_dim, head.v + key * call->v_stride, value_dim * sizeof(float));
        memory->sample_weight[s] = (float)-log2((double)theory->kde.samples * share);
    }
}

/* The sampled part of a tile's rows over their estimated sums. No weight of the softmax exceeds 1, so that a row weighs
 * no more than the rarest sampled key would alone in all samples. */
static void attend_tile(const void *method, struct task_place place, size_t tile)
{
    const struct theory *theory = method;
    const struct theory_unit *memory = &theory->units[place.memory];
    const struct query_tile *outputs = &theory->threads[place.thread].outputs;
    const struct attention_kernels *kernels = theory->kde.kernels;
    const struct attention_call *call = theory->kde.call;
    const struct head_view head = t2t_head_view(call, place.unit);
    const size_t value_dim = call->shape.value_dim, samples = theory->kde.samples, first = tile * kernels->lanes;
    const size_t count = fewer(call->shape.queries - first, kernels->lanes);
    const struct key_run run = {.k = memory->sample_k,
        .v = memory->sample_v,
        .k_stride = call->shape.head_dim,
        .v_stride = value_dim,
        .keys = samples,
        .bias = memory->sample_weight};
    const float *q[T2T_MAX_LANES];
    float *out[T2T_MAX_LANES], most = -INFINITY;
    for (size_t s = 0; s < samples; s++) most = fmaxf(most, memory->sample_weight[s] + log2f((float)samples));
    for (size_t i = 0; i < count; i++) {
        q[i] = head.q + (first + i) * call->q_stride;
        out[i] = head.out + (first + i) * call->out_stride;
    }
    t2t_begin_tile(kernels, outputs, q, count, call->shape.scale);
    kernels->attend(outputs, &run);
    kernels->store_values(outputs, out, count);
    for (size_t i = 0; i < count; i++) {
        const float mass = outputs->maximum[i] + log2f(outputs->sum[i]) - memory->log_sum[first + i];
        const float factor = exp2f(mass < most ? mass : most);
        for (size_t c = 0; c < value_dim; c++) out[i][c] *= factor;
    }
}

/* ---- memory ---- */

static struct theory_unit take_unit(struct t2t_arena *arena, const struct theory *theory)
{
    const struct attention_shape *shape = &theory->kde.call->shape;
    const size_t queries = shape->queries, keys = shape->keys, samples = theory->kde.samples;
    struct theory_unit unit = {.order = t2t_kde_take_order(arena, &theory->kde)};
    unit.log_sum = t2t_arena_take(arena, queries, sizeof *unit.log_sum);
    unit.log_column = t2t_arena_take(arena, keys, sizeof *unit.log_column);
    unit.norm = t2t_arena_take(arena, keys, sizeof *unit.norm);
    unit.probability = t2t_arena_take(arena, keys, sizeof *unit.probability);
    unit.cumulative = t2t_arena_take(arena, keys, sizeof *unit.cumulative);
    unit.vectors = t2t_arena_take(arena, T2T_KDE_VECTORS * (shape->value_dim + 1), sizeof *unit.vectors);
    unit.sample_k = t2t_arena_take(arena, samples * shape->head_dim, sizeof *unit.sample_k);
    unit.sample_v = t2t_arena_take(arena, samples * shape->value_dim, sizeof *unit.sample_v);
    unit.sample_weight = t2t_arena_take(arena, samples, sizeof *unit.sample_weight);
    return unit;
}

static struct theory_thread take_thread(struct t2t_arena *arena, const struct theory *theory)
{
    const struct kde *kde = &theory->kde;
    struct attention_shape without_values = kde->call->shape;
    without_values.value_dim = 0;
    size_t points = kde->samples > kde->rows ? kde->samples : kde->rows;
    if (kde->bucket > points) points = kde->bucket;
    struct theory_thread own;
    own.sums = t2t_take_tile(arena, kde->kernels, &without_values);
    own.outputs = t2t_take_tile(arena, kde->kernels, &kde->call->shape);
    own.points = t2t_arena_take(arena, points * kde->call->shape.head_dim, sizeof *own.points);
    own.bias = t2t_arena_take(arena, points, sizeof *own.bias);
    return own;
}

void t2t_kde_theory_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const size_t queries = attention->call->shape.queries, lanes = attention->kernels->lanes;
    struct theory theory = {.kde = t2t_kde_blocks(attention)};
    theory.units = t2t_arena_take(arena, t2t_units_at_a_time(attention), sizeof *theory.units);
    theory.threads = t2t_arena_take(arena, attention->threads, sizeof *theory.threads);
    for (size_t i = 0; i < t2t_units_at_a_time(attention); i++) {
        const struct theory_unit unit = take_unit(arena, &theory);
        if (theory.units) theory.units[i] = unit;
    }
    for (size_t i = 0; i < attention->threads; i++) {
        const struct theory_thread own = take_thread(arena, &theory);
        if (theory.threads) theory.threads[i] = own;
    }
    if (!arena->memory) return;
    const struct unit_step steps[] = {
        {.count = 2, .run = order_rows},
        {.count = theory.kde.blocks, .run = estimate_sums},
        {.count = theory.kde.blocks, .run = estimate_columns},
        {.count = 1, .run = draw_keys},
        {.count = (queries + lanes - 1) / lanes, .run = attend_tile},
    };
    t2t_run_units(attention, steps, sizeof steps / sizeof *steps, &theory);
}
