/* attend.cuh's softmax in half precision on tensor cores, for the same Sources: 16 queries a warp, 64 keys at a time.
 *
 * q (times the Source's scale), k and v are rounded as they come into shared memory, weights before they multiply v; the
 * sums of products and of weights, the running maximum and what is stored are float32. A Source's score() is asked with a
 * product of 0, and what it says is where the tensor cores' sum begins: a score must be the scale times the product, plus
 * what does not depend on the product, or -INFINITY.
 */
#ifndef T2T_LAYERS_CUDA_ATTEND_HALF_CUH
#define T2T_LAYERS_CUDA_ATTEND_HALF_CUH

#include "layers/cuda/attend.cuh"
#include "layers/cuda/mma.cuh"

extern "C" {
#include "layers/attention.h"
}

namespace attend_half_parts
{

constexpr int KEYS = 64, CHUNK = 64;             /* dimensions of q and k at a time */
constexpr int STRIDE = CHUNK + 8;                /* 16 bytes apart: the eight rows of a matrix in all banks */
constexpr int STEP = 16;                         /* dimensions, or keys, that one product of tensor cores sums over */
constexpr int GROUPS = 8;                        /* of eight keys, of eight columns of v */
constexpr int ROWS = ATTEND_THREADS / WARP * 16; /* of a block */
static_assert(ROWS == TILE_QUERIES && TILE_VALUES == GROUPS * 8 && KEYS == GROUPS * 8, "tiles are attend.cuh's");

struct Shared {
    uint2 q[TILE_QUERIES][STRIDE / 4], k[KEYS][STRIDE / 4], v[KEYS][STRIDE / 4]; /* four numbers each */
    Key key[KEYS];
};

__device__ __forceinline__ int whole_steps(int count)
{
    return (count + STEP - 1) / STEP * STEP;
}

/* Columns first ... first + CHUNK - 1 of 64 rows, as many as whole steps take: zeros beyond a row's `columns` and beyond
 * `count` rows. */
template <class Half, class RowOf>
__device__ __forceinline__ void load_rows(
    uint2 (*to)[STRIDE / 4], int count, int first, int columns, float factor, const RowOf &row_of)
{
    const int width = whole_steps(min(CHUNK, columns - first));
    for (int i = static_cast<int>(threadIdx.x); i < 64 * (CHUNK / 4); i += ATTEND_THREADS) {
        const int row = i / (CHUNK / 4), c = i % (CHUNK / 4) * 4;
        if (c >= width) continue;
        to[row][c / 4] = row < count ? round_four<Half>(row_of(row), first + c, columns, factor) : make_uint2(0, 0);
    }
}

/* score += q k^T over `dims` dimensions in shared memory. */
template <class Half>
__device__ __forceinline__ void add_products(const Shared *shared, int dims, float (&score)[GROUPS][4])
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, first = static_cast<int>(threadIdx.x) / WARP * 16;
#pragma unroll
    for (int c = 0; c < CHUNK; c += STEP) {
        if (c >= dims) break;
        uint32_t q[4], k[4];
        load_matrices<false>(q, &shared->q[first + lane % 16][c / 4 + lane / 16 * 2]);
#pragma unroll
        for (int j = 0; j < GROUPS; j += 2) {
            load_matrices<false>(k, &shared->k[j * 8 + lane % 8 + lane / 16 * 8][c / 4 + lane / 8 % 2 * 2]);
            multiply_add<Half>(score[j], q, {k[0], k[1]});
            multiply_add<Half>(score[j + 1], q, {k[2], k[3]});
        }
    }
}

/* value += weight v; a sum of scores lies across a warp as a factor of the next product does. */
template <class Half>
__device__ __forceinline__ void add_values(
    const Shared *shared, int keys, int values, const float (&weight)[GROUPS][4], float (&value)[GROUPS][4])
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
#pragma unroll
    for (int j = 0; j < GROUPS; j += 2) {
        if (j * 8 >= keys) break;
        const uint32_t rounded[4] = {round_pair<Half>(weight[j][0], weight[j][1]),
            round_pair<Half>(weight[j][2], weight[j][3]), round_pair<Half>(weight[j + 1][0], weight[j + 1][1]),
            round_pair<Half>(weight[j + 1][2], weight[j + 1][3])};
#pragma unroll
        for (int c = 0; c < GROUPS; c += 2) {
            if (c * 8 >= values) break;
            uint32_t v[4];
            load_matrices<true>(v, &shared->v[j * 8 + lane % 16][c * 2 + lane / 16 * 2]);
            multiply_add<Half>(value[c], rounded, {v[0], v[1]});
            multiply_add<Half>(value[c + 1], rounded, {v[2], v[3]});
        }
    }
}

} /* namespace attend_half_parts */

template <class Half, class Source> __global__ void __launch_bounds__(ATTEND_THREADS, 3) attend_half(Source source)
{
    using namespace attend_half_parts;
    SHARED_MEMORY(Shared, shared);
    Tile tile;
    const int queries = source.begin(&tile);
    if (!queries) return; /* the whole block */
    const int thread = static_cast<int>(threadIdx.x), lane = thread % WARP;
    const int first_row = thread / WARP * 16 + lane / 4, across = lane % 4 * 2; /* (row, column) of a lane's numbers */
    const int keys = source.keys(tile), head_dim = source.head_dim;
    const int first_value = static_cast<int>(blockIdx.z) * TILE_VALUES;
    const int values = min(TILE_VALUES, source.value_dim - first_value);
    float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}; /* of rows first_row and first_row + 8 */
    float value[GROUPS][4] = {};
    for (int begin = 0; begin < keys; begin += KEYS) {
        const int count = min(KEYS, keys - begin);
        /* keys of the tile before were read before its last barrier, its values are until this one */
        if (thread < count) shared->key[thread] = source.key(tile, begin + thread);
        __syncthreads();
        if (values > 0)
            load_rows<Half>(
                shared->v, count, first_value, source.value_dim, 1, [&](int j) { return shared->key[j].v; });
        float score[GROUPS][4];
#pragma unroll
        for (int j = 0; j < GROUPS; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int key = j * 8 + across + i % 2, row = first_row + i / 2 * 8;
                score[j][i] = key < count && row < queries ? source.score(tile, row, shared->key[key], 0) : -INFINITY;
            }
        for (int first = 0; first < head_dim; first += CHUNK) {
            if (first) __syncthreads();
            if (begin == 0 || head_dim > CHUNK)
                load_rows<Half>(shared->q, queries, first, head_dim, source.scale,
                    [&](int row) { return source.query(tile, row); });
            load_rows<Half>(shared->k, count, first, head_dim, 1, [&](int j) { return shared->key[j].k; });
            __syncthreads();
            add_products<Half>(shared, head_dim - first, score);
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float largest = maximum[r], added = 0;
#pragma unroll
            for (int j = 0; j < GROUPS; j++) largest = fmaxf(largest, fmaxf(score[j][2 * r], score[j][2 * r + 1]));
            largest = max_over<4>(largest);
            const float shift = largest == -INFINITY ? 0 : largest; /* nothing seen yet */
            const float rescale = power_of_two(maximum[r] - shift);
#pragma unroll
            for (int j = 0; j < GROUPS; j++)
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    score[j][i] = power_of_two(score[j][i] - shift);
                    added += score[j][i];
                    value[j][i] *= rescale;
                }
            sum[r] = sum[r] * rescale + added; /* of this lane's keys */
            maximum[r] = largest;
        }
        add_values<Half>(shared, count, values, score, value);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int row = first_row + 8 * r;
        const float total = sum_over<4>(sum[r]);
        if (row >= queries) continue;
#pragma unroll
        for (int c = 0; c < GROUPS; c++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (c * 8 + across + i < values)
                    source.store(tile, row, first_value + c * 8 + across + i, value[c][2 * r + i] / total);
        if (across == 0 && blockIdx.z == 0) source.store_sum(tile, row, maximum[r] + log2f(total));
    }
}

/* Launches over a grid of tiles x units, with factors of the format. */
template <class Source>
cudaError_t run_attend(
    enum number_format format, const Source &source, size_t tiles, size_t units, size_t value_dim, cudaStream_t stream)
{
    if (format == FORMAT_FLOAT32) return run_attend(source, tiles, units, value_dim, stream);
    const unsigned columns = static_cast<unsigned>((value_dim + TILE_VALUES - 1) / TILE_VALUES);
    return launch(format == FORMAT_FLOAT16 ? attend_half<__half, Source> : attend_half<__nv_bfloat16, Source>,
        dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(units), columns ? columns : 1), dim3(ATTEND_THREADS),
        sizeof(attend_half_parts::Shared), stream, source);
}

#endif
