/* Counting sorts by 8 bits at a time, the lower first. Each warp owns a run of the rows; a row's rank among equals of its
 * warp's 32 comes from __match_any_sync, the offsets of codes and warps from a scan over the block. */
#include "layers/cuda/sort_codes.cuh"

namespace
{

constexpr int THREADS = 256, WARPS = THREADS / WARP, DIGITS = 256;

struct Counts {
    int count[WARPS][DIGITS]; /* rows of a digit in a warp's run, then where the next of them goes */
    int of_warp[WARPS];
};

/* Counts become places: digit by digit, and within one warp by warp. A thread a digit. */
__device__ void make_places(Counts *counts)
{
    const int thread = static_cast<int>(threadIdx.x), lane = thread % WARP, warp = thread / WARP;
    int total = 0;
    for (int w = 0; w < WARPS; w++) {
        const int count = counts->count[w][thread];
        counts->count[w][thread] = total;
        total += count;
    }
    int before = total;
    for (int distance = 1; distance < WARP; distance *= 2) {
        const int other = __shfl_up_sync(WHOLE_WARP, before, static_cast<unsigned>(distance));
        if (lane >= distance) before += other;
    }
    if (lane == WARP - 1) counts->of_warp[warp] = before;
    __syncthreads();
    before -= total;
    for (int w = 0; w < warp; w++) before += counts->of_warp[w];
    for (int w = 0; w < WARPS; w++) counts->count[w][thread] += before;
}

__global__ void __launch_bounds__(THREADS)
    sort_by_digit(const uint16_t *code, int rows, int shift, const uint32_t *from, uint32_t *to)
{
    SHARED_MEMORY(Counts, counts);
    const int thread = static_cast<int>(threadIdx.x), lane = thread % WARP, warp = thread / WARP;
    const size_t list = static_cast<size_t>(blockIdx.x) * static_cast<size_t>(rows);
    const int each = ((rows + WARPS - 1) / WARPS + WARP - 1) / WARP * WARP;
    const int begin = warp * each, end = min(rows, begin + each);
    const auto row_at = [&](int i) { return from ? from[list + static_cast<size_t>(i)] : static_cast<uint32_t>(i); };
    const auto digit_of = [&](uint32_t row) { return code[list + row] >> shift & (DIGITS - 1); };
    for (int i = thread; i < WARPS * DIGITS; i += THREADS) counts->count[i / DIGITS][i % DIGITS] = 0;
    __syncthreads();
    for (int i = begin + lane; i < end; i += WARP) atomicAdd(&counts->count[warp][digit_of(row_at(i))], 1);
    __syncthreads();
    make_places(counts);
    __syncthreads();
    for (int i = begin; i < end; i += WARP) {
        const bool there = i + lane < end;
        const uint32_t row = there ? row_at(i + lane) : 0;
        const int digit = there ? digit_of(row) : DIGITS + lane; /* no two idle lanes match */
        const unsigned same = __match_any_sync(WHOLE_WARP, digit);
        const int rank = __popc(same & ((1u << lane) - 1u));
        const int place = there ? counts->count[warp][digit] + rank : 0;
        __syncwarp(); /* all have read before one adds */
        if (there && rank == 0) counts->count[warp][digit] += __popc(same);
        __syncwarp();
        if (there) to[list + static_cast<size_t>(place)] = row;
    }
}

} /* namespace */

cudaError_t t2t_cuda_sort_codes(
    const uint16_t *code, size_t lists, int rows, int bits, uint32_t *order, uint32_t *other, cudaStream_t stream)
{
    const dim3 grid(static_cast<unsigned>(lists)), block(THREADS);
    const uint32_t *none = nullptr;
    uint32_t *const first = bits > 8 ? other : order;
    cudaError_t error = launch(sort_by_digit, grid, block, sizeof(Counts), stream, code, rows, 0, none, first);
    if (!error && bits > 8)
        error = launch(sort_by_digit, grid, block, sizeof(Counts), stream, code, rows, 8,
            static_cast<const uint32_t *>(first), order);
    return error;
}
