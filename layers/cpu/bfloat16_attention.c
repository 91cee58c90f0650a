/* softmax(scale q k^T) v with q, k, v and the softmax's weights rounded to bfloat16, as exact_attention.c otherwise: keys
 * and values of an (image, head) are packed once, then groups of tiles of queries pass over them.
 */
#include "layers/cpu/cpu_attention.h"

enum { GROUP = 64 /* queries */, PACKED = T2T_KEY_BLOCK /* keys in a task: an even number */ };

/* One (image, head) as it is packed, and one thread's tiles. */
struct packed {
    bfloat16_pair *k, *v;
};

struct exact {
    const struct cpu_attention *attention;
    struct packed *packed;          /* [units at a time] */
    const struct query_tile *tiles; /* [threads, tile_count] */
    size_t tile_count;
};

static void pack(const void *method, struct task_place place, size_t task)
{
    const struct exact *exact = method;
    const struct attention_call *call = exact->attention->call;
    const struct bfloat16_kernels *kernels = exact->attention->kernels->bfloat16;
    const struct head_view head = t2t_head_view(call, place.unit);
    const struct packed *packed = &exact->packed[place.memory];
    const size_t first = task * PACKED, rest = call->shape.keys - first, count = rest < PACKED ? rest : PACKED;
    kernels->pack_keys(head.k + first * call->k_stride, call->k_stride, NULL, count, call->shape.head_dim,
        packed->k + first * t2t_pairs(call->shape.head_dim));
    kernels->pack_values(head.v + first * call->v_stride, call->v_stride, NULL, count, call->shape.value_dim,
        packed->v + first / 2 * call->shape.value_dim);
}

static void attend_group(const void *method, struct task_place place, size_t task)
{
    const struct exact *exact = method;
    const struct attention_kernels *kernels = exact->attention->kernels;
    const struct attention_call *call = exact->attention->call;
    const struct attention_shape *shape = &call->shape;
    const struct query_tile *tiles = exact->tiles + place.thread * exact->tile_count;
    const struct packed *packed = &exact->packed[place.memory];
    const struct head_view head = t2t_head_view(call, place.unit);
    const size_t first = task * GROUP, rest = shape->queries - first, count = rest < GROUP ? rest : GROUP;
    const size_t lanes = kernels->lanes, tile_count = (count + lanes - 1) / lanes;
    const float *rows[GROUP];
    float *out[GROUP];
    for (size_t i = 0; i < count; i++) {
        rows[i] = head.q + (first + i) * call->q_stride;
        out[i] = head.out + (first + i) * call->out_stride;
    }
    for (size_t t = 0; t < tile_count; t++)
        t2t_begin_bfloat16_tile(
            kernels, &tiles[t], rows + t * lanes, count - t * lanes < lanes ? count - t * lanes : lanes, shape->scale);
    for (size_t key = 0; key < shape->keys; key += T2T_KEY_BLOCK) {
        struct bfloat16_run run = {.k = packed->k + key * t2t_pairs(shape->head_dim),
            .v = packed->v + key / 2 * shape->value_dim,
            .keys = shape->keys - key < T2T_KEY_BLOCK ? shape->keys - key : T2T_KEY_BLOCK};
        for (size_t t = 0; t < tile_count; t++) {
            run.narrow = count - t * lanes <= lanes / 2;
            kernels->bfloat16->attend(&tiles[t], &run);
        }
    }
    for (size_t t = 0; t < tile_count; t++)
        kernels->store_values(&tiles[t], out + t * lanes, count - t * lanes < lanes ? count - t * lanes : lanes);
}

void t2t_bfloat16_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const struct attention_shape *shape = &attention->call->shape;
    const size_t in_flight = t2t_units_at_a_time(attention), tile_count = GROUP / attention->kernels->lanes;
    struct packed *packed = t2t_arena_take(arena, in_flight, sizeof *packed);
    struct query_tile *tiles = t2t_arena_take(arena, attention->threads * tile_count, sizeof *tiles);
    for (size_t i = 0; i < in_flight; i++) {
        const struct packed one = {.k = t2t_arena_take(arena, shape->keys * t2t_pairs(shape->head_dim), sizeof *one.k),
            .v = t2t_arena_take(arena, t2t_pairs(shape->keys) * shape->value_dim, sizeof *one.v)};
        if (packed) packed[i] = one;
    }
    for (size_t i = 0; i < attention->threads * tile_count; i++) {
        const struct query_tile tile = t2t_take_tile(arena, attention->kernels, shape);
        if (tiles) tiles[i] = tile;
    }
    if (!arena->memory) return;
    const struct exact exact = {.attention = attention, .packed = packed, .tiles = tiles, .tile_count = tile_count};
    const struct unit_step steps[] = {{.count = (shape->keys + PACKED - 1) / PACKED, .run = pack},
        {.count = (shape->queries + GROUP - 1) / GROUP, .run = attend_group}};
    t2t_run_units(attention, steps, sizeof steps / sizeof *steps, &exact);
}
