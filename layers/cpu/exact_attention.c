/* softmax(scale q k^T) v with a running softmax: scores exist for one tile of queries and one block of keys at a time.
 *
 * A task is a group of tiles of one (image, head), so that a block of keys is read once from memory for all of them.
 * Each query's arithmetic is its own: batch, threads and neighbours leave no trace in its bits.
 */
#include "layers/cpu/cpu_attention.h"

enum { GROUP = 64 }; /* queries, a multiple of every set's lanes */

static size_t tiles_in_group(const struct attention_kernels *kernels)
{
    return GROUP / kernels->lanes;
}

/* Queries first ... first + count - 1 of one (image, head). */
static void attend_group(
    const struct cpu_attention *attention, const struct query_tile *tiles, size_t unit, size_t first, size_t count)
{
    const struct attention_kernels *kernels = attention->kernels;
    const struct attention_call *call = attention->call;
    const struct head_view head = t2t_head_view(call, unit);
    const size_t lanes = kernels->lanes, tile_count = (count + lanes - 1) / lanes;
    const float *rows[GROUP];
    float *out[GROUP];
    for (size_t i = 0; i < count; i++) {
        rows[i] = head.q + (first + i) * call->q_stride;
        out[i] = head.out + (first + i) * call->out_stride;
    }
    for (size_t t = 0; t < tile_count; t++)
        t2t_begin_tile(kernels, &tiles[t], rows + t * lanes, count - t * lanes < lanes ? count - t * lanes : lanes,
            call->shape.scale);
    for (size_t key = 0; key < call->shape.keys; key += T2T_KEY_BLOCK) {
        const size_t rest = call->shape.keys - key;
        struct key_run run = {.k = head.k + key * call->k_stride,
            .v = head.v + key * call->v_stride,
            .k_stride = call->k_stride,
            .v_stride = call->v_stride,
            .keys = rest < T2T_KEY_BLOCK ? rest : T2T_KEY_BLOCK};
        for (size_t t = 0; t < tile_count; t++) {
            run.narrow = count - t * lanes <= lanes / 2;
            kernels->attend(&tiles[t], &run);
        }
    }
    for (size_t t = 0; t < tile_count; t++)
        kernels->store_values(&tiles[t], out + t * lanes, count - t * lanes < lanes ? count - t * lanes : lanes);
}

void t2t_exact_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    if (t2t_in_bfloat16(attention)) {
        t2t_bfloat16_attention(attention, arena);
        return;
    }
    const struct attention_call *call = attention->call;
    const size_t queries = call->shape.queries, groups = (queries + GROUP - 1) / GROUP;
    const size_t tile_count = tiles_in_group(attention->kernels);
    struct query_tile *const tiles = t2t_arena_take(arena, attention->threads * tile_count, sizeof *tiles);
    for (size_t t = 0; t < attention->threads * tile_count; t++) {
        const struct query_tile tile = t2t_take_tile(arena, attention->kernels, &call->shape);
        if (tiles) tiles[t] = tile;
    }
    if (!tiles) return;
    const size_t tasks = call->batch * call->shape.heads * groups;
#pragma omp parallel num_threads((int)attention->threads)
    {
        const struct query_tile *own = tiles + t2t_this_thread() * tile_count;
#pragma omp for schedule(dynamic)
        for (size_t task = 0; task < tasks; task++) {
            const size_t first = task % groups * GROUP;
            attend_group(attention, own, task / groups, first, queries - first < GROUP ? queries - first : GROUP);
        }
    }
}
