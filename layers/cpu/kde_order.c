/* KDEformer's order of queries and keys: sorted by the place of their hash along the Gray sequence (Algorithm 3). */
#include <string.h>

#include "layers/cpu/cpu_attention.h"
#include "layers/cpu/kde.h"

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

void t2t_kde_order_queries(const struct kde *kde, const struct kde_unit *memory, size_t unit)
{
    const struct attention_call *call = kde->call;
    const size_t rows = call->shape.queries, dim = call->shape.head_dim, bits = call->config.projections;
    kde->kernels->sign_hash(t2t_head_view(call, unit).q, call->q_stride, rows, dim,
        call->draws.projection + unit * dim * bits, bits, memory->q_code);
    sort_by_code(memory->q_code, rows, bits, memory->q_start, memory->q_order);
}

void t2t_kde_order_keys(const struct kde *kde, const struct kde_unit *memory, size_t unit)
{
    const struct attention_call *call = kde->call;
    const size_t rows = call->shape.keys, dim = call->shape.head_dim, bits = call->config.projections;
    kde->kernels->sign_hash(t2t_head_view(call, unit).k, call->k_stride, rows, dim,
        call->draws.projection + unit * dim * bits, bits, memory->k_code);
    sort_by_code(memory->k_code, rows, bits, memory->k_start, memory->k_order);
    for (size_t i = 0; i < rows; i++) memory->k_position[memory->k_order[i]] = (uint32_t)i;
}
