/* KDEformer's order: signs of random projections, their place along the Gray sequence, a stable sort. */
#include "layers/cuda/kde.h"
#include "layers/cuda/sort_codes.cuh"
#include "layers/cuda/unit_rows.h"

namespace
{

constexpr int THREADS = 128, MOST_BITS = 16;

/* A warp a row, lanes over dimensions. */
__global__ void __launch_bounds__(THREADS)
    hash_rows(UnitRows x, int rows, int dim, const float *projection, int bits, uint16_t *code)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, unit = static_cast<int>(blockIdx.y);
    const int row = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
    if (row >= rows) return;
    const float *from = x.at(unit, row);
    const float *p = projection + static_cast<size_t>(unit) * static_cast<size_t>(dim * bits);
    unsigned word = 0;
    for (int b = 0; b < bits; b++) {
        float product = 0;
        for (int c = lane; c < dim; c += WARP) product += from[c] * p[c * bits + b];
        if (sum_over<WARP>(product) > 0) word |= 1u << b;
    }
    unsigned place = word; /* the inverse of i xor i / 2 */
    for (int shift = 1; shift < MOST_BITS; shift *= 2) place ^= place >> shift;
    if (lane == 0)
        code[static_cast<size_t>(unit) * static_cast<size_t>(rows) + static_cast<size_t>(row)] =
            static_cast<uint16_t>(place);
}

__global__ void __launch_bounds__(THREADS) find_positions(const uint32_t *order, int keys, uint32_t *position)
{
    const int i = static_cast<int>(blockIdx.x) * THREADS + static_cast<int>(threadIdx.x);
    const size_t unit = static_cast<size_t>(blockIdx.y) * static_cast<size_t>(keys);
    if (i < keys) position[unit + order[unit + static_cast<size_t>(i)]] = static_cast<uint32_t>(i);
}

cudaError_t order_rows(const KdeCall &kde, const UnitRows &x, int rows, uint16_t *code, uint32_t *order)
{
    const unsigned units = static_cast<unsigned>(kde.units);
    const dim3 grid(static_cast<unsigned>((rows + THREADS / WARP - 1) / (THREADS / WARP)), units);
    const cudaError_t error = launch(hash_rows, grid, dim3(THREADS), 0, kde.device->stream, x, rows, kde.sizes.head_dim,
        kde.memory.projection, kde.sizes.projections, code);
    return error ? error
                 : t2t_cuda_sort_codes(
                       code, kde.units, rows, kde.sizes.projections, order, kde.memory.other, kde.device->stream);
}

} /* namespace */

cudaError_t t2t_cuda_kde_order(const KdeCall &kde)
{
    const int keys = kde.sizes.keys;
    const KdeMemory &memory = kde.memory;
    cudaError_t error = order_rows(kde, query_rows(kde.call), kde.sizes.queries, memory.q_code, memory.q_order);
    if (!error) error = order_rows(kde, key_rows(kde.call), keys, memory.k_code, memory.k_order);
    const dim3 grid(static_cast<unsigned>((keys + THREADS - 1) / THREADS), static_cast<unsigned>(kde.units));
    if (!error)
        error = launch(find_positions, grid, dim3(THREADS), 0, kde.device->stream,
            static_cast<const uint32_t *>(memory.k_order), keys, memory.k_position);
    return error;
}
