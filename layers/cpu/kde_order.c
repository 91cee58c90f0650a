/* KDEformer's order of queries and keys: sorted by the place of their hash along the Gray sequence (Algorithm 3). */
#include <string.h>

#include "layers/cpu/cpu_attention.h"
#include "layers/cpu/kde.h"

struct kde_unit t2t_kde_take_order(struct t2t_arena *arena, const struct kde *kde)
{
    const size_t queries = kde->call->shape.queries, keys = kde->call->shape.keys;
    const size_t ranks = ((size_t)1 << kde->call->config.projections) + 1;
    struct kde_unit unit = {0};
    unit.q_code = t2t_arena_take(arena, queries, sizeof *unit.q_code);
    unit.k_code = t2t_arena_take(arena, keys, sizeof *unit.k_code);
    unit.q_start = t2t_arena_take(arena, ranks, sizeof *unit.q_start);
    unit.k_start = t2t_arena_take(arena, ranks, sizeof *unit.k_start);
    unit.q_order = t2t_arena_take(arena, queries, sizeof *unit.q_order);
    unit.k_order = t2t_arena_take(arena, keys, sizeof *unit.k_order);
    unit.k_position = t2t_arena_take(arena, keys, sizeof *unit.k_position);
    return unit;
}

uint16_t t2t_gray_rank(uint16_t code)
{
    unsigned rank = code;
    for (unsigned shift = 1; shift < 16; shift *= 2) rank ^= rank >> shift;
    return (uint16_t)rank;
}

/* Stable counting sort of rows by the Gray rank of their code. */
static void sort_by_code(uint16_t *code, size_t rows, size_t bits, uint32_t *start, uint32_t *order)
{
    const size_t ranks = (size_t)1 << bits;
    memset(start, 0, (ranks + 1) * sizeof *start);
    for (size_t i = 0; i < rows; i++) {
        code[i] = t2t_gray_rank(code[i]);
        start[code[i] + 1]++;
    }
    for (size_t rank = 0; rank < ranks; rank++) start[rank + 1] += start[rank];
    for (size_t i = 0; i < rows; i++) order[start[code[i]]++] = (uint32_t)i;
}

/* Codes and order of a unit's rows x [rows, head_dim], those of q or of k. */
static void order_rows(const struct kde *kde, size_t unit, const float *x, size_t stride, size_t rows, uint16_t *code,
    uint32_t *start, uint32_t *order)
{
    const struct attention_call *call = kde->call;
    const size_t dim = call->shape.head_dim, bits = call->config.projections;
    double clock = t2t_step_begin(call);
    kde->kernels->sign_hash(x, stride, rows, dim, call->draws.projection + unit * dim * bits, bits, code);
    clock = t2t_step_end(call, ATTENTION_STEP_HASH, clock);
    sort_by_code(code, rows, bits, start, order);
    t2t_step_end(call, ATTENTION_STEP_SORT, clock);
}

void t2t_kde_order_queries(const struct kde *kde, const struct kde_unit *memory, size_t unit)
{
    const struct attention_call *call = kde->call;
    order_rows(kde, unit, t2t_head_view(call, unit).q, call->q_stride, call->shape.queries, memory->q_code,
        memory->q_start, memory->q_order);
}

void t2t_kde_order_keys(const struct kde *kde, const struct kde_unit *memory, size_t unit)
{
    const struct attention_call *call = kde->call;
    order_rows(kde, unit, t2t_head_view(call, unit).k, call->k_stride, call->shape.keys, memory->k_code,
        memory->k_start, memory->k_order);
    const double clock = t2t_step_begin(call);
    for (size_t i = 0; i < call->shape.keys; i++) memory->k_position[memory->k_order[i]] = (uint32_t)i;
    t2t_step_end(call, ATTENTION_STEP_SORT, clock);
}
