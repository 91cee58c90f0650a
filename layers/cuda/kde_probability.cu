/* KDEformer's probabilities of keys.
 *
 * By a pilot: the softmax rows of a few queries, or of all as an oracle, without a matrix of queries by keys. First each
 * pilot attends to all keys for its sum; then each key, in the place of a query, attends to the pilots with twice the
 * score and twice the sum taken off: that is the log of the sum of its squared weights.
 */
#include "layers/cuda/kde.h"
#include "layers/cuda/unit_rows.h"

namespace
{

constexpr int THREADS = 256;

/* Pilots of a group: one drawn from each of as many equal runs of the group's queries, or all of them. */
struct Pilots {
    UnitRows q;
    KdeSizes sizes;
    const uint32_t *q_order, *uniform; /* uniform NULL: all queries */

    __device__ int count(int group) const
    {
        const int queries = sizes.group_query(group + 1) - sizes.group_query(group);
        return uniform ? (queries ? sizes.pilots : 0) : queries;
    }
    __device__ const float *row(int unit, int group, int i) const
    {
        const unsigned long long first = static_cast<unsigned long long>(sizes.group_query(group));
        const unsigned long long queries = static_cast<unsigned long long>(sizes.group_query(group + 1)) - first;
        unsigned long long position = first + static_cast<unsigned long long>(i);
        if (uniform) {
            const size_t at = static_cast<size_t>((unit * sizes.groups + group) * sizes.pilots + i);
            const unsigned long long place = static_cast<unsigned long long>(i) << 32 | uniform[at];
            position = first + (place / static_cast<unsigned long long>(sizes.pilots) * queries >> 32);
        }
        return q.at(
            unit, static_cast<int>(q_order[static_cast<size_t>(unit) * static_cast<size_t>(sizes.queries) + position]));
    }
};

/* blockIdx.x: groups and tiles of pilots. */
struct PilotSums {
    Pilots pilots;
    UnitRows k;
    float *sum; /* [units, groups, pilots] */
    int tiles, head_dim, value_dim;
    float scale;

    __device__ int begin(Tile *tile) const
    {
        tile->unit = static_cast<int>(blockIdx.y);
        tile->tag = static_cast<int>(blockIdx.x) / tiles;
        tile->first = static_cast<int>(blockIdx.x) % tiles * TILE_QUERIES;
        tile->count = max(0, min(TILE_QUERIES, pilots.count(tile->tag) - tile->first));
        return tile->count;
    }
    __device__ const float *query(const Tile &tile, int row) const
    {
        return pilots.row(tile.unit, tile.tag, tile.first + row);
    }
    __device__ int keys(const Tile &) const { return pilots.sizes.keys; }
    __device__ Key key(const Tile &tile, int j) const { return {k.at(tile.unit, j), nullptr, 0, 0}; }
    __device__ float score(const Tile &, int, const Key &, float product) const { return product * scale; }
    __device__ void store(const Tile &, int, int, float) const {}
    __device__ void store_sum(const Tile &tile, int row, float log2_of_sum) const
    {
        sum[static_cast<size_t>(tile.unit * pilots.sizes.groups + tile.tag) * static_cast<size_t>(pilots.sizes.pilots) +
            static_cast<size_t>(tile.first + row)] = log2_of_sum;
    }
};

/* blockIdx.x: groups and tiles of keys, which stand where queries do. */
struct ColumnSquares {
    Pilots pilots;
    UnitRows k;
    const float *sum;
    float *column; /* [units, groups, keys] */
    int tiles, head_dim, value_dim;
    float scale;

    __device__ int begin(Tile *tile) const
    {
        tile->unit = static_cast<int>(blockIdx.y);
        tile->tag = static_cast<int>(blockIdx.x) / tiles;
        tile->first = static_cast<int>(blockIdx.x) % tiles * TILE_QUERIES;
        tile->count = min(TILE_QUERIES, pilots.sizes.keys - tile->first);
        return tile->count;
    }
    __device__ const float *query(const Tile &tile, int row) const { return k.at(tile.unit, tile.first + row); }
    __device__ int keys(const Tile &tile) const { return pilots.count(tile.tag); }
    __device__ Key key(const Tile &tile, int i) const
    {
        const size_t at =
            static_cast<size_t>(tile.unit * pilots.sizes.groups + tile.tag) * static_cast<size_t>(pilots.sizes.pilots) +
            static_cast<size_t>(i);
        return {pilots.row(tile.unit, tile.tag, i), nullptr, sum[at], 0};
    }
    __device__ float score(const Tile &, int, const Key &key, float product) const
    {
        return 2 * (product * scale - key.bias);
    }
    __device__ void store(const Tile &, int, int, float) const {}
    __device__ void store_sum(const Tile &tile, int row, float log2_of_sum) const
    {
        column[static_cast<size_t>(tile.unit * pilots.sizes.groups + tile.tag) *
                   static_cast<size_t>(pilots.sizes.keys) +
               static_cast<size_t>(tile.first + row)] = log2_of_sum;
    }
};

/* length_j = |v_j - mean|: a warp a key. */
__global__ void __launch_bounds__(THREADS) distances(UnitRows v, int keys, int dim, const float *mean, float *length)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, unit = static_cast<int>(blockIdx.y);
    const int j = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
    if (j >= keys) return;
    const float *row = v.at(unit, j), *centre = mean + static_cast<size_t>(unit) * static_cast<size_t>(dim);
    float squares = 0;
    for (int c = lane; c < dim; c += WARP) squares += (row[c] - centre[c]) * (row[c] - centre[c]);
    squares = sum_over<WARP>(squares);
    if (lane == 0)
        length[static_cast<size_t>(unit) * static_cast<size_t>(keys) + static_cast<size_t>(j)] = sqrtf(squares);
}

/* The sum over a block of 256 threads; every thread gets it. */
__device__ double sum_over_block(double x, double *part)
{
    x = sum_over<WARP>(x);
    __syncthreads();
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
    __syncthreads();
    double total = 0;
    for (int i = 0; i < THREADS / WARP; i++) total += part[i];
    return total;
}

enum Rule { BY_PILOT, BY_VALUE, EVEN };

/* p_j from what its key has: a block a unit and group. */
template <int rule>
__global__ void __launch_bounds__(THREADS)
    make_probabilities(KdeSizes sizes, const float *column, const float *length, const float *norm, float *probability)
{
    SHARED_MEMORY(double, part);
    constexpr float uniform_share = 0.3f; /* a key that no pilot saw is still found */
    const int unit = static_cast<int>(blockIdx.x) / sizes.groups, thread = static_cast<int>(threadIdx.x);
    const size_t keys = static_cast<size_t>(sizes.keys);
    float *p = probability + static_cast<size_t>(blockIdx.x) * keys;
    const float *own_column = column + static_cast<size_t>(blockIdx.x) * keys;
    const float *own_length = length + static_cast<size_t>(unit) * keys;
    const float even = 1 / static_cast<float>(sizes.keys);
    const auto wanted = [&](int j) {
        if (rule == BY_PILOT) return sqrtf(exp2f(own_column[j])) * own_length[j];
        if (rule == BY_VALUE) return own_length[j] / norm[unit] + even;
        return even;
    };
    double sum = 0;
    for (int j = thread; j < sizes.keys; j += THREADS) sum += static_cast<double>(wanted(j));
    const float total = static_cast<float>(sum_over_block(sum, part));
    for (int j = thread; j < sizes.keys; j += THREADS) {
        if (rule == BY_PILOT)
            p[j] = total > 0 ? (1 - uniform_share) * (wanted(j) / total) + uniform_share * even : even;
        else
            p[j] = wanted(j) / total;
    }
}

template <int rule> cudaError_t make(const KdeCall &kde)
{
    const KdeMemory &memory = kde.memory;
    return launch(make_probabilities<rule>,
        dim3(static_cast<unsigned>(kde.units * static_cast<size_t>(kde.sizes.groups))), dim3(THREADS),
        THREADS / WARP * sizeof(double), kde.device->stream, kde.sizes, static_cast<const float *>(memory.column),
        static_cast<const float *>(memory.length), static_cast<const float *>(memory.norm), memory.probability);
}

cudaError_t by_pilot(const KdeCall &kde)
{
    const KdeSizes &sizes = kde.sizes;
    const KdeMemory &memory = kde.memory;
    const cudaStream_t stream = kde.device->stream;
    const Pilots pilots = {query_rows(kde.call), sizes, memory.q_order, memory.pilot_uniform};
    const float scale = kde.call->shape.scale * LOG2_E;
    const size_t groups = static_cast<size_t>(sizes.groups);
    const size_t pilot_tiles = tiles_of(static_cast<size_t>(sizes.pilots)),
                 key_tiles = tiles_of(static_cast<size_t>(sizes.keys));
    const PilotSums sums = {
        pilots, key_rows(kde.call), memory.pilot_sum, static_cast<int>(pilot_tiles), sizes.head_dim, 0, scale};
    const ColumnSquares squares = {pilots, key_rows(kde.call), memory.pilot_sum, memory.column,
        static_cast<int>(key_tiles), sizes.head_dim, 0, scale};
    cudaError_t error = run_attend(sums, groups * pilot_tiles, kde.units, 0, stream);
    if (!error) error = run_attend(squares, groups * key_tiles, kde.units, 0, stream);
    if (!error) error = t2t_cuda_mean_value(kde.call, memory.mean, stream);
    const dim3 grid(
        static_cast<unsigned>((sizes.keys + THREADS / WARP - 1) / (THREADS / WARP)), static_cast<unsigned>(kde.units));
    if (!error)
        error = launch(distances, grid, dim3(THREADS), 0, stream, value_rows(kde.call), sizes.keys, sizes.value_dim,
            static_cast<const float *>(memory.mean), memory.length);
    return error ? error : make<BY_PILOT>(kde);
}

} /* namespace */

cudaError_t t2t_cuda_kde_probability(const KdeCall &kde)
{
    switch (kde.call->config.probability) {
    case KDE_VALUE: {
        const cudaError_t error = t2t_cuda_kde_value_norms(kde);
        return error ? error : make<BY_VALUE>(kde);
    }
    case KDE_UNIFORM: return make<EVEN>(kde);
    case KDE_PILOT:
    case KDE_COLUMN_NORM: break;
    }
    return by_pilot(kde);
}
