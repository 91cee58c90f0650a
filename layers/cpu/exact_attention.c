/* softmax(scale q k^T) v with a running softmax: scores exist for one tile of queries and one block of keys at a time.
 *
 * A task is a group of tiles of one (image, head), so that a block of keys is read once from memory for all of them.
 * Each query's arithmetic is its own: batch, threads and neighbours leave no trace in its bits. In bfloat16, keys and
 * values of an (image, head) are rounded and packed once before.
 */
#include "layers/cpu/cpu_attention.h"

enum { GROUP = 64 }; /* queries, a multiple of every set's lanes */

/* An (image, head) in bfloat16. */
struct packed {
    bfloat16_pair *k; /* [keys, pairs of head_dim] */
    bfloat16_pair *v; /* [blocks of keys, value pairs of a block, value_dim], each a run of its own */
};

struct exact {
    const struct cpu_attention *attention;
    struct packed *packed;    /* [units at a time]; NULL in float32 */
    struct query_tile *tiles; /* [threads, tile_count] */
    size_t tile_count;        /* of a group */
    size_t groups;            /* of an (image, head) */
};

static size_t fewer(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Packs a block of keys and its values. */
static void pack(const void *method, struct task_place place, size_t task)
{
    const struct exact *exact = method;
    const struct attention_call *call = exact->attention->call;
    const struct bfloat16_kernels *kernels = exact->attention->kernels->bfloat16;
    const struct head_view head = t2t_head_view(call, place.unit);
    const struct packed *packed = &exact->packed[place.memory];
    const size_t first = task * T2T_KEY_BLOCK, count = fewer(call->shape.keys - first, T2T_KEY_BLOCK);
    kernels->pack_keys(head.k + first * call->k_stride, call->k_stride, NULL, count, call->shape.head_dim,
        packed->k + first * t2t_pairs(call->shape.head_dim));
    kernels->pack_values(head.v + first * call->v_stride, call->v_stride, NULL, count, call->shape.value_dim, 0,
        packed->v + task * t2t_value_pairs(T2T_KEY_BLOCK) * call->shape.value_dim);
}

/* Takes a block of keys into the softmax of a tile. */
static void attend_block(const struct exact *exact, struct task_place place, const struct query_tile *tile,
    const struct head_view *head, size_t key, bool narrow)
{
    const struct attention_call *call = exact->attention->call;
    const struct attention_kernels *kernels = exact->attention->kernels;
    const size_t keys = fewer(call->shape.keys - key, T2T_KEY_BLOCK);
    if (exact->packed) {
        const struct packed *packed = &exact->packed[place.memory];
        const struct bfloat16_run run = {.k = packed->k + key * t2t_pairs(call->shape.head_dim),
            .v = packed->v + key / T2T_KEY_BLOCK * t2t_value_pairs(T2T_KEY_BLOCK) * call->shape.value_dim,
            .keys = keys,
            .narrow = narrow};
        kernels->bfloat16->attend(tile, &run);
    } else {
        const struct key_run run = {.k = head->k + key * call->k_stride,
            .v = head->v + key * call->v_stride,
            .k_stride = call->k_stride,
            .v_stride = call->v_stride,
            .keys = keys,
            .narrow = narrow};
        kernels->attend(tile, &run);
    }
}

static void attend_group(const void *method, struct task_place place, size_t task)
{
    const struct exact *exact = method;
    const struct attention_kernels *kernels = exact->attention->kernels;
    const struct attention_call *call = exact->attention->call;
    const struct query_tile *tiles = exact->tiles + place.thread * exact->tile_count;
    const struct head_view head = t2t_head_view(call, place.unit);
    const size_t first = task * GROUP, count = fewer(call->shape.queries - first, GROUP), lanes = kernels->lanes;
    const float *rows[GROUP];
    float *out[GROUP];
    for (size_t i = 0; i < count; i++) {
        rows[i] = head.q + (first + i) * call->q_stride;
        out[i] = head.out + (first + i) * call->out_stride;
    }
    for (size_t i = 0; i < count; i += lanes)
        (exact->packed ? t2t_begin_bfloat16_tile : t2t_begin_tile)(
            kernels, &tiles[i / lanes], rows + i, fewer(count - i, lanes), call->shape.scale);
    for (size_t key = 0; key < call->shape.keys; key += T2T_KEY_BLOCK)
        for (size_t i = 0; i < count; i += lanes)
            attend_block(exact, place, &tiles[i / lanes], &head, key, count - i <= lanes / 2);
    for (size_t i = 0; i < count; i += lanes)
        kernels->store_values(&tiles[i / lanes], out + i, fewer(count - i, lanes));
}

/* Groups of all units at once. */
static void attend_groups(const struct exact *exact, size_t units)
{
    const size_t tasks = units * exact->groups;
#pragma omp parallel for num_threads((int)exact->attention->threads) schedule(dynamic)
    for (size_t task = 0; task < tasks; task++)
        attend_group(exact, (struct task_place){.unit = task / exact->groups, .thread = t2t_this_thread()},
            task % exact->groups);
}

static struct packed *take_packed(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const struct attention_shape *shape = &attention->call->shape;
    const size_t in_flight = t2t_units_at_a_time(attention);
    const size_t blocks = (shape->keys + T2T_KEY_BLOCK - 1) / T2T_KEY_BLOCK;
    struct packed *packed = t2t_arena_take(arena, in_flight, sizeof *packed);
    for (size_t i = 0; i < in_flight; i++) {
        const struct packed one = {.k = t2t_arena_take(arena, shape->keys * t2t_pairs(shape->head_dim), sizeof *one.k),
            .v = t2t_arena_take(arena, blocks * t2t_value_pairs(T2T_KEY_BLOCK) * shape->value_dim, sizeof *one.v)};
        if (packed) packed[i] = one;
    }
    return packed;
}

void t2t_exact_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const struct attention_call *call = attention->call;
    struct exact exact = {.attention = attention,
        .tile_count = GROUP / attention->kernels->lanes,
        .groups = (call->shape.queries + GROUP - 1) / GROUP};
    const size_t tiles = attention->threads * exact.tile_count;
    if (t2t_in_bfloat16(attention)) exact.packed = take_packed(attention, arena);
    exact.tiles = t2t_arena_take(arena, tiles, sizeof *exact.tiles);
    for (size_t i = 0; i < tiles; i++) {
        const struct query_tile tile = t2t_take_tile(arena, attention->kernels, &call->shape);
        if (exact.tiles) exact.tiles[i] = tile;
    }
    if (!arena->memory) return;
    const struct unit_step steps[] = {{.count = (call->shape.keys + T2T_KEY_BLOCK - 1) / T2T_KEY_BLOCK, .run = pack},
        {.count = exact.groups, .run = attend_group}};
    if (exact.packed)
        t2t_run_units(attention, steps, sizeof steps / sizeof *steps, &exact);
    else
        attend_groups(&exact, call->batch * call->shape.heads);
}
