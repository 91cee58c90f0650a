/* The features' side of FAVOR+: biases of keys, and features that attend to keys. */
#include "layers/cuda/favor.h"

namespace
{

constexpr int THREADS = 128;

/* A warp a key. */
__global__ void __launch_bounds__(THREADS) key_biases(UnitRows k, int keys, int dim, float factor, float *bias)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, unit = static_cast<int>(blockIdx.y);
    const int j = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
    if (j >= keys) return;
    const float *row = k.at(unit, j);
    float squares = 0;
    for (int c = lane; c < dim; c += WARP) squares += row[c] * row[c];
    squares = sum_over<WARP>(squares);
    if (lane == 0)
        bias[static_cast<size_t>(unit) * static_cast<size_t>(keys) + static_cast<size_t>(j)] = factor * squares;
}

/* A tile is up to 64 features, which see the keys of one run. */
struct FeatureSums {
    UnitRows w, k, v;
    const float *bias;
    float *mean, *log_sum;
    KeyRuns runs;
    int features, tiles, head_dim, value_dim;
    float scale;

    __device__ int begin(Tile *tile) const
    {
        tile->unit = static_cast<int>(blockIdx.y);
        tile->tag = static_cast<int>(blockIdx.x) / tiles; /* the run */
        tile->first = static_cast<int>(blockIdx.x) % tiles * TILE_QUERIES;
        tile->count = min(TILE_QUERIES, features - tile->first);
        return tile->count;
    }
    __device__ const float *query(const Tile &tile, int row) const { return w.at(tile.unit, tile.first + row); }
    __device__ int keys(const Tile &tile) const { return runs.end(tile.tag) - runs.begin(tile.tag); }
    __device__ Key key(const Tile &tile, int j) const
    {
        const int row = runs.begin(tile.tag) + j;
        const size_t at = static_cast<size_t>(tile.unit) * static_cast<size_t>(runs.keys) + static_cast<size_t>(row);
        return {k.at(tile.unit, row), v.at(tile.unit, row), bias[at], 0};
    }
    __device__ float score(const Tile &, int, const Key &key, float product) const
    {
        return product * scale + key.bias;
    }
    __device__ size_t slot(const Tile &tile, int row) const
    {
        return static_cast<size_t>(tile.unit * runs.count + tile.tag) * static_cast<size_t>(features) +
               static_cast<size_t>(tile.first + row);
    }
    __device__ void store(const Tile &tile, int row, int column, float value) const
    {
        mean[slot(tile, row) * static_cast<size_t>(value_dim) + static_cast<size_t>(column)] = value;
    }
    __device__ void store_sum(const Tile &tile, int row, float log2_of_sum) const
    {
        log_sum[slot(tile, row)] = log2_of_sum;
    }
};

} /* namespace */

cudaError_t t2t_cuda_key_biases(const struct attention_call *call, float *bias, cudaStream_t stream)
{
    const struct attention_shape *shape = &call->shape;
    const dim3 grid(static_cast<unsigned>((shape->keys + THREADS / WARP - 1) / (THREADS / WARP)),
        static_cast<unsigned>(call->batch * shape->heads));
    return launch(key_biases, grid, dim3(THREADS), 0, stream, key_rows(call), static_cast<int>(shape->keys),
        static_cast<int>(shape->head_dim), -shape->scale / 2 * LOG2_E, bias);
}

cudaError_t t2t_cuda_feature_sums(const struct attention_call *call, const float *w, const float *bias,
    const KeyRuns &runs, float *mean, float *log_sum, cudaStream_t stream)
{
    const struct attention_shape *shape = &call->shape;
    const size_t features = call->config.features, tiles = tiles_of(features);
    const FeatureSums sums = {buffer_rows(w, features, shape->head_dim, true), key_rows(call), value_rows(call), bias,
        mean, log_sum, runs, static_cast<int>(features), static_cast<int>(tiles), static_cast<int>(shape->head_dim),
        static_cast<int>(shape->value_dim), sqrtf(shape->scale) * LOG2_E};
    return run_attend(
        sums, static_cast<size_t>(runs.count) * tiles, call->batch * shape->heads, shape->value_dim, stream);
}
