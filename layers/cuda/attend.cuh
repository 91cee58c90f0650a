/* softmax(scores) v for a tile of queries over keys that come in any order: what every attention here runs on.
 *
 * A block of 128 threads takes 64 queries and 64 columns of v; keys come 32 at a time through shared memory, scores stay
 * in registers, and a running maximum and sum make the softmax (Milakov and Gimelshein 2018; Dao et al. 2022). float32
 * throughout. Which rows are queries and keys, their biases and which pairs see each other is the Source's to say:
 *
 *   struct Source {
 *       __device__ int begin(Tile *tile) const;                      queries of this block's tile, 0 for none
 *       __device__ const float *query(const Tile &, int row) const;
 *       __device__ int keys(const Tile &) const;
 *       __device__ Key key(const Tile &, int j) const;
 *       __device__ float score(const Tile &, int row, const Key &, float product) const;    base 2, -INFINITY hides
 *       __device__ void store(const Tile &, int row, int column, float value) const;
 *       __device__ void store_sum(const Tile &, int row, float log2_of_sum) const;
 *       int head_dim, value_dim;                                     value_dim 0: sums alone
 *   };
 * blockIdx.z counts the columns of v in runs of 64, blockIdx.x and y are the Source's.
 */
#ifndef T2T_LAYERS_CUDA_ATTEND_CUH
#define T2T_LAYERS_CUDA_ATTEND_CUH

#include "layers/cuda/device.cuh"

constexpr int TILE_QUERIES = 64, TILE_KEYS = 32, TILE_VALUES = 64, ATTEND_THREADS = 128;

struct Tile {
    int unit, first, count; /* (image, head); of the queries, in the Source's own order */
    int tag;                /* what else the Source wants to know */
};

struct Key {
    const float *k, *v; /* rows */
    float bias;         /* base 2 */
    int tag;            /* for score() */
};

namespace attend_parts
{

constexpr int CHUNK = 64;                                 /* dimensions of q and k at a time */
constexpr int ACROSS = 8, DOWN = ATTEND_THREADS / ACROSS; /* threads over keys and values, over queries */
constexpr int ROWS = TILE_QUERIES / DOWN, COLUMNS = TILE_KEYS / ACROSS, VALUES = TILE_VALUES / ACROSS;
constexpr int STRIDE = CHUNK + 4, WEIGHT_STRIDE = TILE_KEYS + 4; /* 16 bytes apart: no two rows in one bank */

struct Shared {
    float q[TILE_QUERIES][STRIDE], k[TILE_KEYS][STRIDE];
    float v[TILE_KEYS][TILE_VALUES];
    float weight[TILE_QUERIES][WEIGHT_STRIDE];
    Key key[TILE_KEYS];
};

/* Dimensions first ... first + CHUNK - 1 of `rows` rows, zeros beyond the row's end and beyond `count` rows. */
template <class RowOf>
__device__ __forceinline__ void load_rows(
    float (*to)[STRIDE], int rows, int count, int first, int head_dim, const RowOf &row_of)
{
    for (int i = static_cast<int>(threadIdx.x); i < rows * CHUNK; i += ATTEND_THREADS) {
        const int row = i / CHUNK, c = first + i % CHUNK;
        to[row][i % CHUNK] = row < count && c < head_dim ? row_of(row)[c] : 0;
    }
}

/* score[i][j] += q . k over the chunk in shared memory. */
__device__ __forceinline__ void add_products(const Shared *shared, int dims, float (&score)[ROWS][COLUMNS])
{
    const int down = static_cast<int>(threadIdx.x) / ACROSS, across = static_cast<int>(threadIdx.x) % ACROSS;
#pragma unroll 1 /* 64 products a turn; more turns at once would not fit the registers */
    for (int c = 0; c < dims; c += 4) {
        float4 q[ROWS], k[COLUMNS];
        for (int i = 0; i < ROWS; i++) q[i] = *reinterpret_cast<const float4 *>(&shared->q[down + DOWN * i][c]);
        for (int j = 0; j < COLUMNS; j++) k[j] = *reinterpret_cast<const float4 *>(&shared->k[across + ACROSS * j][c]);
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++)
                score[i][j] += q[i].x * k[j].x + q[i].y * k[j].y + q[i].z * k[j].z + q[i].w * k[j].w;
    }
}

} /* namespace attend_parts */

template <class Source> __global__ void __launch_bounds__(ATTEND_THREADS, 3) attend(Source source)
{
    using namespace attend_parts;
    SHARED_MEMORY(Shared, shared);
    Tile tile;
    const int queries = source.begin(&tile);
    if (!queries) return; /* the whole block */
    const int thread = static_cast<int>(threadIdx.x), down = thread / ACROSS, across = thread % ACROSS;
    const int keys = source.keys(tile), head_dim = source.head_dim;
    const int first_value = static_cast<int>(blockIdx.z) * TILE_VALUES;
    const int values = min(TILE_VALUES, source.value_dim - first_value);
    float maximum[ROWS], sum[ROWS], value[ROWS][VALUES];
    for (int i = 0; i < ROWS; i++) {
        maximum[i] = -INFINITY;
        sum[i] = 0;
        for (int c = 0; c < VALUES; c++) value[i][c] = 0;
    }
    for (int begin = 0; begin < keys; begin += TILE_KEYS) {
        const int count = min(TILE_KEYS, keys - begin);
        float score[ROWS][COLUMNS] = {};
        __syncthreads(); /* the tile before is done with */
        if (thread < count) shared->key[thread] = source.key(tile, begin + thread);
        __syncthreads();
        for (int i = thread; values > 0 && i < TILE_KEYS * TILE_VALUES; i += ATTEND_THREADS) {
            const int j = i / TILE_VALUES, c = i % TILE_VALUES;
            shared->v[j][c] = j < count && c < values ? shared->key[j].v[first_value + c] : 0;
        }
        for (int first = 0; first < head_dim; first += CHUNK) {
            if (first) __syncthreads();
            if (begin == 0 || head_dim > CHUNK)
                load_rows(shared->q, TILE_QUERIES, queries, first, head_dim,
                    [&](int row) { return source.query(tile, row); });
            load_rows(shared->k, TILE_KEYS, count, first, head_dim, [&](int row) { return shared->key[row].k; });
            __syncthreads();
            add_products(shared, min(CHUNK, head_dim - first), score);
        }
        for (int i = 0; i < ROWS; i++) {
            const int row = down + DOWN * i;
            float largest = maximum[i];
            for (int j = 0; j < COLUMNS; j++) {
                const int key = across + ACROSS * j;
                score[i][j] =
                    key < count && row < queries ? source.score(tile, row, shared->key[key], score[i][j]) : -INFINITY;
                largest = fmaxf(largest, score[i][j]);
            }
            largest = max_over<ACROSS>(largest);
            const float shift = largest == -INFINITY ? 0 : largest; /* nothing seen yet */
            const float rescale = exp2f(maximum[i] - shift);
            float added = 0;
            for (int j = 0; j < COLUMNS; j++) {
                const float weight = exp2f(score[i][j] - shift);
                shared->weight[row][across + ACROSS * j] = weight;
                added += weight;
            }
            sum[i] = sum[i] * rescale + sum_over<ACROSS>(added);
            maximum[i] = largest;
            for (int c = 0; c < VALUES; c++) value[i][c] *= rescale;
        }
        __syncwarp(); /* a row's weights are written and read by the same eight lanes */
        for (int j = 0; values > 0 && j < count; j++) {
            float v[VALUES];
            for (int c = 0; c < VALUES; c++) v[c] = shared->v[j][across + ACROSS * c];
            for (int i = 0; i < ROWS; i++) {
                const float weight = shared->weight[down + DOWN * i][j];
                for (int c = 0; c < VALUES; c++) value[i][c] += weight * v[c];
            }
        }
    }
    for (int i = 0; i < ROWS; i++) {
        const int row = down + DOWN * i;
        if (row >= queries) continue;
        for (int c = 0; c < VALUES; c++)
            if (across + ACROSS * c < values)
                source.store(tile, row, first_value + across + ACROSS * c, value[i][c] / sum[i]);
        if (across == 0 && blockIdx.z == 0) source.store_sum(tile, row, maximum[i] + log2f(sum[i]));
    }
}

/* Launches over a grid of tiles x units. */
template <class Source>
cudaError_t run_attend(const Source &source, size_t tiles, size_t units, size_t value_dim, cudaStream_t stream)
{
    const unsigned columns = static_cast<unsigned>((value_dim + TILE_VALUES - 1) / TILE_VALUES);
    return launch(attend<Source>,
        dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(units), columns ? columns : 1), dim3(ATTEND_THREADS),
        sizeof(attend_parts::Shared), stream, source);
}

/* Rows of one matrix of a call: those of (image, head) number `unit`. */
struct UnitRows {
    const float *data;
    size_t image, head, row; /* floats from one to the next */
    int heads;
    __device__ const float *at(int unit, int index) const
    {
        return data + static_cast<size_t>(unit / heads) * image + static_cast<size_t>(unit % heads) * head +
               static_cast<size_t>(index) * row;
    }
};

#endif
