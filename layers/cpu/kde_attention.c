/* KDEformer's attention (Algorithm 3): a block diagonal over queries and keys sorted by hash, plus sampled keys.
 * layers/kdeformer.md defines every step; what is random arrives with the call.
 *
 * Where there are at least as many (image, head) units as threads, a thread takes a unit from hash to output while its
 * q, k, v are in its cache; otherwise threads share the steps of a unit. The arithmetic is the same in both.
 */
#include <string.h>

#include "layers/cpu/kde.h"

/* ---- blocks ---- */

/* Buckets that a target error chooses from: all smaller than the keys. */
static size_t bucket_choices(const struct kde *kde)
{
    enum { MOST_CHOICES = 3 };
    size_t choices = 1;
    while (choices < MOST_CHOICES && kde->bucket << choices < kde->call->shape.keys) choices++;
    return choices;
}

/* The group that a block belongs to. */
static size_t group_of(const struct kde *kde, size_t block)
{
    size_t group = 0;
    while (block >= t2t_kde_group_blocks(kde, group).last) group++;
    return group;
}

/* Samples lie in front of a block, one run of keys with it; pairs of bfloat16 do not straddle them. */
static size_t held(const struct kde *kde, const struct kde_unit *memory, size_t group)
{
    const size_t taken = memory->taken[group];
    return kde->bfloat16 ? 2 * t2t_pairs(taken) : taken;
}

/* Brings a group's samples to the thread's memory. */
static void hold_samples(
    const struct kde *kde, const struct kde_unit *memory, const struct kde_thread *own, size_t group)
{
    const struct attention_shape *shape = &kde->call->shape;
    const size_t dim = shape->head_dim, value_dim = shape->value_dim, taken = memory->taken[group];
    const float *k = memory->sample_k + group * kde->samples * dim,
                *v = memory->sample_v + group * kde->samples * value_dim;
    if (!kde->bfloat16) {
        memcpy(own->k, k, taken * dim * sizeof *k);
        memcpy(own->v, v, taken * value_dim * sizeof *v);
        return;
    }
    kde->kernels->bfloat16->pack_keys(k, dim, NULL, taken, dim, own->packed_k);
    kde->kernels->bfloat16->pack_values(v, value_dim, NULL, taken, value_dim, 0, own->packed_v);
    if (taken % 2 == 0) return; /* else a key that nobody sees, whose value is 0 */
    memset(own->packed_k + taken * t2t_pairs(dim), 0, t2t_pairs(dim) * sizeof *own->packed_k);
    own->bias[taken] = T2T_HIDDEN;
}

/* Packs the keys of sorted positions begin ... end - 1 behind the samples and says which samples are among them. */
static void gather_block(const struct kde *kde, const struct kde_unit *memory, const struct kde_thread *own,
    const struct head_view *head, size_t group, size_t begin, size_t end)
{
    const struct attention_call *call = kde->call;
    const uint32_t *position = memory->sample_position + group * kde->samples;
    const float *weight = memory->sample_weight + group * kde->samples;
    const size_t dim = call->shape.head_dim, value_dim = call->shape.value_dim, before = held(kde, memory, group);
    const uint32_t *order = memory->k_order + begin;
    if (kde->bfloat16) {
        kde->kernels->bfloat16->pack_keys(
            head->k, call->k_stride, order, end - begin, dim, own->packed_k + before * t2t_pairs(dim));
        kde->kernels->bfloat16->pack_values(
            head->v, call->v_stride, order, end - begin, value_dim, before, own->packed_v);
    } else {
        kde->kernels->gather_rows(head->k, call->k_stride, order, end - begin, dim, own->k + before * dim);
        kde->kernels->gather_rows(head->v, call->v_stride, order, end - begin, value_dim, own->v + before * value_dim);
    }
    for (size_t s = 0; s < memory->taken[group]; s++) {
        const bool inside = position[s] >= begin && position[s] < end;
        own->bias[s] = inside ? T2T_HIDDEN : weight[s]; /* the block itself counts it */
    }
    for (size_t i = 0; i < end - begin; i++) own->bias[before + i] = 0;
}

/* The softmax of some queries over their group's samples and a block: `keys` in the thread's memory. */
static void attend_tile(
    const struct kde *kde, const struct kde_thread *own, size_t keys, const float *const *q, size_t count)
{
    const struct attention_shape *shape = &kde->call->shape;
    const bool narrow = count <= kde->kernels->lanes / 2;
    if (kde->bfloat16) {
        const struct bfloat16_run run = {
            .k = own->packed_k, .v = own->packed_v, .keys = keys, .bias = own->bias, .narrow = narrow};
        t2t_begin_bfloat16_tile(kde->kernels, &own->tile, q, count, shape->scale);
        kde->kernels->bfloat16->attend(&own->tile, &run);
    } else {
        const struct key_run run = {.k = own->k,
            .v = own->v,
            .k_stride = shape->head_dim,
            .v_stride = shape->value_dim,
            .keys = keys,
            .bias = own->bias,
            .narrow = narrow};
        t2t_begin_tile(kde->kernels, &own->tile, q, count, shape->scale);
        kde->kernels->attend(&own->tile, &run);
    }
}

/* The thread holds the samples of the block's group. */
static void attend_block(const struct kde *kde, const struct kde_unit *memory, const struct kde_thread *own,
    size_t unit, size_t group, size_t block)
{
    const struct attention_call *call = kde->call;
    const struct attention_shape *shape = &call->shape;
    const struct head_view head = t2t_head_view(call, unit);
    const size_t begin = block * kde->bucket;
    const size_t end = begin + kde->bucket < shape->keys ? begin + kde->bucket : shape->keys;
    const size_t last = (block + 1) * kde->rows < shape->queries ? (block + 1) * kde->rows : shape->queries;
    const double clock = t2t_step_begin(call);
    gather_block(kde, memory, own, &head, group, begin, end);
    for (size_t first = block * kde->rows; first < last; first += kde->kernels->lanes) {
        const float *q[T2T_MAX_LANES];
        float *out[T2T_MAX_LANES];
        const size_t count = last - first < kde->kernels->lanes ? last - first : kde->kernels->lanes;
        for (size_t i = 0; i < count; i++) {
            const size_t query = memory->q_order[first + i];
            q[i] = head.q + query * call->q_stride;
            out[i] = head.out + query * call->out_stride;
        }
        attend_tile(kde, own, held(kde, memory, group) + end - begin, q, count);
        kde->kernels->store_values(&own->tile, out, count);
    }
    t2t_step_end(call, ATTENTION_STEP_BLOCKS, clock);
}

/* ---- memory and threads ---- */

static struct kde_unit take_unit(struct t2t_arena *arena, const struct kde *kde)
{
    const struct attention_call *call = kde->call;
    const size_t keys = call->shape.keys, samples = kde->groups * kde->samples;
    const size_t scored = t2t_kde_needs_pilot(&call->config) && samples ? keys : 0;
    const size_t weighed = samples ? keys : 0;
    struct kde_unit unit = t2t_kde_take_order(arena, kde);
    unit.vectors = t2t_arena_take(arena, T2T_KDE_VECTORS * (call->shape.value_dim + 1), sizeof *unit.vectors);
    unit.scores = t2t_arena_take(arena, scored * kde->kernels->lanes, sizeof *unit.scores);
    unit.squares = t2t_arena_take(arena, scored * T2T_QUARTERS, sizeof *unit.squares);
    unit.distance = t2t_arena_take(arena, scored, sizeof *unit.distance);
    const size_t foretold = call->config.target_error > 0 ? scored : 0;
    unit.choice = t2t_arena_take(arena, 1, sizeof *unit.choice);
    unit.pilot_out =
        t2t_arena_take(arena, foretold ? kde->kernels->lanes * call->shape.value_dim : 0, sizeof *unit.pilot_out);
    unit.pilot_size = t2t_arena_take(arena, kde->groups, sizeof *unit.pilot_size);
    unit.pilot_query =
        t2t_arena_take(arena, foretold ? kde->kernels->lanes * call->shape.value_dim : 0, sizeof *unit.pilot_query);
    unit.product = t2t_arena_take(arena, foretold * kde->kernels->lanes, sizeof *unit.product);
    unit.largest = t2t_arena_take(arena, foretold * T2T_QUARTERS, sizeof *unit.largest);
    unit.moved = t2t_arena_take(arena, foretold * T2T_QUARTERS, sizeof *unit.moved);
    unit.most_moved = t2t_arena_take(arena, foretold * T2T_QUARTERS, sizeof *unit.most_moved);
    unit.inside = t2t_arena_take(arena, kde->choices * kde->groups * foretold, sizeof *unit.inside);
    unit.terms = t2t_arena_take(arena, 3 * foretold, sizeof *unit.terms);
    unit.probability = t2t_arena_take(arena, kde->groups * weighed, sizeof *unit.probability);
    unit.cumulative = t2t_arena_take(arena, kde->groups * weighed, sizeof *unit.cumulative);
    unit.sample = t2t_arena_take(arena, samples, sizeof *unit.sample);
    unit.sample_position = t2t_arena_take(arena, samples, sizeof *unit.sample_position);
    unit.sample_k = t2t_arena_take(arena, samples * call->shape.head_dim, sizeof *unit.sample_k);
    unit.sample_v = t2t_arena_take(arena, samples * call->shape.value_dim, sizeof *unit.sample_v);
    unit.sample_weight = t2t_arena_take(arena, samples, sizeof *unit.sample_weight);
    unit.taken = t2t_arena_take(arena, kde->groups, sizeof *unit.taken);
    return unit;
}

static struct kde_thread take_thread(struct t2t_arena *arena, const struct kde *kde)
{
    struct kde_thread own;
    own.tile = t2t_take_tile(arena, kde->kernels, &kde->call->shape);
    const struct attention_shape *shape = &kde->call->shape;
    const size_t keys = 2 * t2t_pairs(kde->samples) + (kde->bucket << (kde->choices - 1));
    const size_t plain = kde->bfloat16 ? 0 : keys, packed = kde->bfloat16 ? keys : 0;
    own.k = t2t_arena_take(arena, plain * shape->head_dim, sizeof *own.k);
    own.v = t2t_arena_take(arena, plain * shape->value_dim, sizeof *own.v);
    own.packed_k = t2t_arena_take(arena, packed * t2t_pairs(shape->head_dim), sizeof *own.packed_k);
    own.packed_v = t2t_arena_take(arena, t2t_value_pairs(packed) * shape->value_dim, sizeof *own.packed_v);
    own.bias = t2t_arena_take(arena, keys, sizeof *own.bias);
    return own;
}

/* What a unit took, for reports. */
static void tell_taken(const struct kde *kde, const struct kde_unit *memory)
{
    struct attention_taken *taken = kde->call->taken;
    if (!taken) return;
    const struct kde sized = t2t_kde_with_bucket(kde, memory->choice->bucket);
    double samples = 0; /* of all queries */
    for (size_t group = 0; group < kde->groups; group++) {
        const struct kde_range queries = t2t_kde_group_queries(&sized, group);
        samples += (double)(queries.last - queries.first) * (double)memory->taken[group];
    }
    const struct attention_taken own = {.units = 1,
        .unmet = memory->choice->met ? 0 : 1,
        .bucket = (double)sized.bucket,
        .samples = samples / (double)kde->call->shape.queries};
#pragma omp critical(t2t_kde_taken)
    attention_taken_add(taken, &own);
}

/* Units in parallel. */
static void attend_whole_units(const struct kde *kde, size_t threads, size_t units)
{
#pragma omp parallel for num_threads((int)threads) schedule(dynamic)
    for (size_t unit = 0; unit < units; unit++) {
        const struct kde_unit *memory = &kde->units[t2t_this_thread()];
        const struct kde_thread *own = &kde->threads[t2t_this_thread()];
        t2t_kde_order_queries(kde, memory, unit);
        t2t_kde_order_keys(kde, memory, unit);
        t2t_kde_prepare_samples(kde, memory, &own->tile, unit);
        const struct kde sized = t2t_kde_with_bucket(kde, memory->choice->bucket);
        for (size_t group = 0; group < kde->groups; group++) {
            const struct kde_range blocks = t2t_kde_group_blocks(&sized, group);
            t2t_kde_draw_samples(&sized, memory, unit, group);
            hold_samples(&sized, memory, own, group);
            for (size_t block = blocks.first; block < blocks.last; block++)
                attend_block(&sized, memory, own, unit, group, block);
        }
        tell_taken(kde, memory);
    }
}

/* The steps of each unit in parallel. A pilot waits for the order of queries, other probabilities are made meanwhile. */
static void attend_shared_units(const struct kde *kde, size_t threads, size_t units)
{
    const bool waits = t2t_kde_needs_pilot(&kde->call->config);
#pragma omp parallel num_threads((int)threads)
    {
        const struct kde_thread *own = &kde->threads[t2t_this_thread()];
#pragma omp for schedule(dynamic)
        for (size_t task = 0; task < 2 * units; task++) {
            const size_t unit = task / 2;
            const struct kde_unit *memory = &kde->units[unit];
            if (task % 2) {
                t2t_kde_order_queries(kde, memory, unit);
            } else {
                t2t_kde_order_keys(kde, memory, unit);
                if (!waits) t2t_kde_prepare_samples(kde, memory, &own->tile, unit);
            }
        }
        if (waits) {
#pragma omp for schedule(dynamic)
            for (size_t unit = 0; unit < units; unit++)
                t2t_kde_prepare_samples(kde, &kde->units[unit], &own->tile, unit);
        }
#pragma omp for schedule(dynamic)
        for (size_t task = 0; task < units * kde->groups; task++)
            t2t_kde_draw_samples(kde, &kde->units[task / kde->groups], task / kde->groups, task % kde->groups);
        size_t holding = units * kde->groups; /* nothing */
#pragma omp for schedule(dynamic)
        for (size_t task = 0; task < units * kde->blocks; task++) { /* of the smallest buckets: the most */
            const size_t unit = task / kde->blocks, block = task % kde->blocks;
            const struct kde_unit *memory = &kde->units[unit];
            const struct kde sized = t2t_kde_with_bucket(kde, memory->choice->bucket);
            if (block >= sized.blocks) continue;
            const size_t group = group_of(&sized, block);
            if (holding != unit * kde->groups + group) hold_samples(&sized, memory, own, group);
            holding = unit * kde->groups + group;
            attend_block(&sized, memory, own, unit, group, block);
        }
    }
    for (size_t unit = 0; unit < units; unit++) tell_taken(kde, &kde->units[unit]);
}

void t2t_kde_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const struct attention_call *call = attention->call;
    const struct attention_config *config = &call->config;
    const size_t threads = attention->threads, units = call->batch * call->shape.heads, keys = call->shape.keys;
    const size_t in_flight = t2t_units_at_a_time(attention);
    struct kde kde = t2t_kde_blocks(attention);
    kde.groups = attention_sample_groups(config);
    kde.bfloat16 = t2t_in_bfloat16(attention);
    if (config->sampling == KDE_SYSTEMATIC && !call->draws.sample_key && kde.samples > keys) kde.samples = keys;
    if (kde.blocks == 1) kde.samples = 0; /* the block is everything */
    if (config->target_error > 0) kde.choices = bucket_choices(&kde);
    kde.units = t2t_arena_take(arena, in_flight, sizeof *kde.units);
    kde.threads = t2t_arena_take(arena, threads, sizeof *kde.threads);
    for (size_t i = 0; i < in_flight; i++) {
        const struct kde_unit unit = take_unit(arena, &kde);
        if (kde.units) kde.units[i] = unit;
    }
    for (size_t i = 0; i < threads; i++) {
        const struct kde_thread own = take_thread(arena, &kde);
        if (kde.threads) kde.threads[i] = own;
    }
    if (!arena->memory) return;
    if (units < threads)
        attend_shared_units(&kde, threads, units);
    else
        attend_whole_units(&kde, threads, units);
}
