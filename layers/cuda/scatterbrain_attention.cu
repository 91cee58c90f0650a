/* ScatterBrain (layers/methods.md): the keys of a query's window exactly, all others by features.
 *
 * A tile is 64 queries. Keys before the windows of all of them are sums by features, and so are those behind; both come
 * from runs of 64 keys that a scan joins. The 63 other keys outside of a query's window are weighed one by one. That is
 * two softmaxes, near and far, which are joined where the floor of 1e-24 applies to the far one. */
#include "layers/cuda/attend_half.cuh"
#include "layers/cuda/cuda_device.h"
#include "layers/cuda/favor.h"
#include "layers/cuda/range.h"
#include "layers/cuda/unit_rows.h"

namespace
{

constexpr int THREADS = 128, ROWS_A_BLOCK = THREADS / WARP;
constexpr int BETWEEN = TILE_QUERIES - 1; /* keys of a tile's windows that are outside of a query's own */

/* Windows of a call: query i sees keys i - left ... i - left + window - 1. */
struct Windows {
    int queries, keys, left, window, features;

    __device__ int key_at(int place) const { return place < 0 ? 0 : place < keys ? place : keys; }
    /* the keys of a tile's windows */
    __device__ int begin(int first) const { return key_at(first - left); }
    __device__ int end(int first) const { return key_at(first - left + BETWEEN + window); }
    __device__ bool inside(int query, int key) const { return key >= query - left && key < query - left + window; }
};

/* to [units, features, dim]: the drawn half of the rows, then the same negated. */
__global__ void __launch_bounds__(THREADS) both_signs(const float *drawn, size_t half, size_t count, float *to)
{
    const size_t i = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= count) return;
    const size_t unit = i / (2 * half), place = i % (2 * half);
    to[i] = place < half ? drawn[unit * half + place] : -drawn[unit * half + place - half];
}

/* scores [units, rows, features] = factor w_f.x, and the bias of a row where there are biases: a warp a row, lanes over
 * features. */
__global__ void __launch_bounds__(THREADS) feature_scores(
    UnitRows x, UnitRows w, const float *bias, int rows, int features, int dim, float factor, float *scores)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, unit = static_cast<int>(blockIdx.y);
    const int row = static_cast<int>(blockIdx.x) * ROWS_A_BLOCK + static_cast<int>(threadIdx.x) / WARP;
    if (row >= rows) return;
    const float *from = x.at(unit, row);
    const size_t at = static_cast<size_t>(unit) * static_cast<size_t>(rows) + static_cast<size_t>(row);
    for (int f = lane; f < features; f += WARP) {
        const float *weights = w.at(unit, f);
        float dot = 0;
        for (int c = 0; c < dim; c++) dot += weights[c] * from[c];
        scores[at * static_cast<size_t>(features) + static_cast<size_t>(f)] = factor * dot + (bias ? bias[at] : 0);
    }
}

/* score [units, queries, BETWEEN] = log2 sum over features of both scores, for the keys of the tile's windows outside of
 * the query's own: those before it, then those behind. A warp a query, lanes over keys. */
__global__ void __launch_bounds__(THREADS)
    between_scores(const float *query_scores, const float *key_scores, Windows windows, float *score)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, unit = static_cast<int>(blockIdx.y);
    const int query = static_cast<int>(blockIdx.x) * ROWS_A_BLOCK + static_cast<int>(threadIdx.x) / WARP;
    if (query >= windows.queries) return;
    const int before = query % TILE_QUERIES, first = query - before - windows.left;
    const size_t features = static_cast<size_t>(windows.features);
    const size_t at = static_cast<size_t>(unit) * static_cast<size_t>(windows.queries) + static_cast<size_t>(query);
    const float *own = query_scores + at * features;
    for (int i = lane; i < BETWEEN; i += WARP) {
        const int key = first + i + (i < before ? 0 : windows.window);
        if (key < 0 || key >= windows.keys) continue; /* never read */
        const float *other =
            key_scores +
            (static_cast<size_t>(unit) * static_cast<size_t>(windows.keys) + static_cast<size_t>(key)) * features;
        float largest = -INFINITY, sum = 0;
        for (int f = 0; f < windows.features; f++) largest = fmaxf(largest, own[f] + other[f]);
        const float shift = largest == -INFINITY ? 0 : largest;
        for (int f = 0; f < windows.features; f++) sum += exp2f(own[f] + other[f] - shift);
        score[at * BETWEEN + static_cast<size_t>(i)] = shift + log2f(sum);
    }
}

/* Runs become all keys up to each border, or with `backward` all behind it: float64 along the runs. A block a feature and
 * unit, a thread a column and one more for the log-sums; runs without keys have no mean. */
__global__ void __launch_bounds__(THREADS)
    scan_runs(const float *run_sum, int runs, int features, int value_dim, bool backward, float *mean, float *log_sum)
{
    const size_t feature = blockIdx.x, unit = blockIdx.y;
    for (int c = static_cast<int>(threadIdx.x); c <= value_dim; c += THREADS) {
        float top = -INFINITY; /* of the runs' log-sums so far: sums are relative to it */
        double sum = 0, value = 0;
        for (int i = 0; i < runs; i++) {
            const size_t run = static_cast<size_t>(backward ? runs - 1 - i : i);
            const size_t at = (unit * static_cast<size_t>(runs) + run) * static_cast<size_t>(features) + feature;
            float *own = mean + at * static_cast<size_t>(value_dim) + static_cast<size_t>(c);
            const float added = run_sum[at];
            if (!(added == -INFINITY)) {
                if (!(added <= top)) {
                    const double shrink = static_cast<double>(exp2f(top - added));
                    sum *= shrink;
                    value *= shrink;
                    top = added;
                }
                const double weight = static_cast<double>(exp2f(added - top));
                sum += weight;
                if (c < value_dim) value += weight * static_cast<double>(*own);
            }
            if (c < value_dim)
                *own = sum > 0 ? static_cast<float>(value) / static_cast<float>(sum) : 0;
            else
                log_sum[at] = top + log2f(static_cast<float>(sum));
        }
    }
}

/* What near and far have in common: a tile of queries, and where results go. */
struct WindowTile {
    UnitRows q, k, v;
    Windows windows;
    float *out, *sum; /* rows as below; [units, queries] */
    size_t out_image, out_head, out_row;
    int heads, head_dim, value_dim;
    float scale;

    __device__ int begin(Tile *tile) const
    {
        tile->unit = static_cast<int>(blockIdx.y);
        tile->first = static_cast<int>(blockIdx.x) * TILE_QUERIES;
        tile->count = min(TILE_QUERIES, windows.queries - tile->first);
        return tile->count;
    }
    __device__ const float *query(const Tile &tile, int row) const { return q.at(tile.unit, tile.first + row); }
    __device__ Key window_key(const Tile &tile, int j) const
    {
        const int row = windows.begin(tile.first) + j;
        return {k.at(tile.unit, row), v.at(tile.unit, row), 0, row};
    }
    __device__ void store(const Tile &tile, int row, int column, float value) const
    {
        out[static_cast<size_t>(tile.unit / heads) * out_image + static_cast<size_t>(tile.unit % heads) * out_head +
            static_cast<size_t>(tile.first + row) * out_row + static_cast<size_t>(column)] = value;
    }
    __device__ void store_sum(const Tile &tile, int row, float log2_of_sum) const
    {
        sum[static_cast<size_t>(tile.unit) * static_cast<size_t>(windows.queries) +
            static_cast<size_t>(tile.first + row)] = log2_of_sum;
    }
};

struct Near : WindowTile {
    __device__ int keys(const Tile &tile) const { return windows.end(tile.first) - windows.begin(tile.first); }
    __device__ Key key(const Tile &tile, int j) const { return window_key(tile, j); }
    __device__ float score(const Tile &tile, int row, const Key &key, float product) const
    {
        return windows.inside(tile.first + row, key.tag) ? product * scale : -INFINITY;
    }
};

/* Keys: the features with the sums before, with the sums behind, then the keys of the tile's windows. */
struct Far : WindowTile {
    UnitRows w;
    const float *mean[2], *log_sum[2]; /* before, behind: [units, tiles, features, ...] */
    const float *between;
    int tiles;

    __device__ int keys(const Tile &tile) const
    {
        return 2 * windows.features + windows.end(tile.first) - windows.begin(tile.first);
    }
    __device__ Key key(const Tile &tile, int j) const
    {
        if (j >= 2 * windows.features) return window_key(tile, j - 2 * windows.features);
        const int behind = j >= windows.features, feature = behind ? j - windows.features : j;
        const size_t at =
            static_cast<size_t>(tile.unit * tiles + tile.first / TILE_QUERIES) * static_cast<size_t>(windows.features) +
            static_cast<size_t>(feature);
        return {w.at(tile.unit, feature), mean[behind] + at * static_cast<size_t>(value_dim), log_sum[behind][at], -1};
    }
    __device__ float score(const Tile &tile, int row, const Key &key, float product) const
    {
        if (key.tag < 0) return product * scale + key.bias;
        const int query = tile.first + row;
        if (windows.inside(query, key.tag)) return -INFINITY;
        const int place = key.tag - (tile.first - windows.left);
        const size_t at =
            static_cast<size_t>(tile.unit) * static_cast<size_t>(windows.queries) + static_cast<size_t>(query);
        return between[at * BETWEEN + static_cast<size_t>(place < row ? place : place - windows.window)];
    }
};

/* out = (near + far) / (their sums, the far one at least 1e-24), in float64 with |x|^2 / 2 and the number of features
 * undone. A softmax that saw nothing has no mean. A warp a query; `out` holds the near mean. */
__global__ void __launch_bounds__(THREADS)
    join_near_and_far(Near near, const float *far_mean, const float *far_sum, float half_scale)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, unit = static_cast<int>(blockIdx.y);
    const int query = static_cast<int>(blockIdx.x) * ROWS_A_BLOCK + static_cast<int>(threadIdx.x) / WARP;
    if (query >= near.windows.queries) return;
    const double log2_floor = -79.726274277296695; /* of 1e-24 */
    const size_t at =
        static_cast<size_t>(unit) * static_cast<size_t>(near.windows.queries) + static_cast<size_t>(query);
    const float *row = near.q.at(unit, query);
    double squares = 0;
    for (int c = lane; c < near.head_dim; c += WARP)
        squares += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    squares = sum_over<WARP>(squares);
    const double close = static_cast<double>(near.sum[at]);
    const double far = static_cast<double>(far_sum[at]) -
                       1.4426950408889634 * static_cast<double>(half_scale) * squares -
                       log2(static_cast<double>(near.windows.features));
    double top = close > far ? close : far;
    if (top < log2_floor) top = log2_floor;
    const double near_weight = exp2(close - top), far_weight = exp2(far - top), least = exp2(log2_floor - top);
    const double total = near_weight + (far_weight < least ? least : far_weight);
    float *to = near.out + static_cast<size_t>(unit / near.heads) * near.out_image +
                static_cast<size_t>(unit % near.heads) * near.out_head + static_cast<size_t>(query) * near.out_row;
    for (int c = lane; c < near.value_dim; c += WARP) {
        double value = close == -INFINITY ? 0 : near_weight * static_cast<double>(to[c]);
        if (!(far == -INFINITY))
            value += far_weight *
                     static_cast<double>(far_mean[at * static_cast<size_t>(near.value_dim) + static_cast<size_t>(c)]);
        to[c] = static_cast<float>(value / total);
    }
}

/* Memory of a call. */
struct Memory {
    float *w, *bias, *query_scores, *key_scores, *between;
    float *run_sum, *mean[2], *log_sum[2]; /* before, behind */
    float *far_mean, *far_sum, *near_sum;
};

float *take(struct t2t_arena *arena, size_t count)
{
    return static_cast<float *>(t2t_arena_take(arena, count, sizeof(float)));
}

Memory take_memory(const struct attention_call *call, struct t2t_arena *arena)
{
    const struct attention_shape *shape = &call->shape;
    const size_t units = call->batch * shape->heads, features = call->config.features;
    const size_t sums = units * tiles_of(shape->queries) * features;
    Memory memory = {};
    memory.w = take(arena, units * features * shape->head_dim);
    memory.bias = take(arena, units * shape->keys);
    memory.query_scores = take(arena, units * shape->queries * features);
    memory.key_scores = take(arena, units * shape->keys * features);
    memory.between = take(arena, units * shape->queries * BETWEEN);
    memory.run_sum = take(arena, sums);
    for (int side = 0; side < 2; side++) {
        memory.mean[side] = take(arena, sums * shape->value_dim);
        memory.log_sum[side] = take(arena, sums);
    }
    memory.far_mean = take(arena, units * shape->queries * shape->value_dim);
    memory.far_sum = take(arena, units * shape->queries);
    memory.near_sum = take(arena, units * shape->queries);
    return memory;
}

dim3 warps_of(size_t rows, size_t units)
{
    return dim3(static_cast<unsigned>((rows + ROWS_A_BLOCK - 1) / ROWS_A_BLOCK), static_cast<unsigned>(units));
}

/* w of both signs, the scores of queries and keys, and those between. */
cudaError_t weigh(const struct attention_call *call, const float *drawn, const Memory &memory, const Windows &windows,
    cudaStream_t stream)
{
    const struct attention_shape *shape = &call->shape;
    const size_t units = call->batch * shape->heads, half = call->config.features / 2 * shape->head_dim;
    const dim3 block(THREADS), queries = warps_of(shape->queries, units);
    const int dim = static_cast<int>(shape->head_dim);
    const float factor = sqrtf(shape->scale) * LOG2_E, *none = nullptr;
    const UnitRows w = buffer_rows(memory.w, call->config.features, shape->head_dim, true);
    cudaError_t error = launch(both_signs, dim3(static_cast<unsigned>((2 * units * half + THREADS - 1) / THREADS)),
        block, 0, stream, drawn, half, 2 * units * half, memory.w);
    if (!error) error = t2t_cuda_key_biases(call, memory.bias, stream);
    if (!error)
        error = launch(feature_scores, queries, block, 0, stream, query_rows(call), w, none, windows.queries,
            windows.features, dim, factor, memory.query_scores);
    if (!error)
        error = launch(feature_scores, warps_of(shape->keys, units), block, 0, stream, key_rows(call), w, memory.bias,
            windows.keys, windows.features, dim, factor, memory.key_scores);
    if (!error)
        error = launch(
            between_scores, queries, block, 0, stream, memory.query_scores, memory.key_scores, windows, memory.between);
    return error;
}

/* Sums by features of all keys before the windows of each tile, and of all behind. */
cudaError_t sum_sides(
    const struct attention_call *call, const Memory &memory, const Windows &windows, cudaStream_t stream)
{
    const int tiles = static_cast<int>(tiles_of(call->shape.queries));
    const int starts[2] = {-TILE_QUERIES - windows.left, BETWEEN + windows.window - windows.left};
    const dim3 grid(static_cast<unsigned>(windows.features), static_cast<unsigned>(call->batch * call->shape.heads));
    cudaError_t error = cudaSuccess;
    for (int side = 0; side < 2 && !error; side++) {
        const KeyRuns runs = {tiles, starts[side], windows.keys, side == 1};
        error = t2t_cuda_feature_sums(call, memory.w, memory.bias, runs, memory.mean[side], memory.run_sum, stream);
        if (!error)
            error = launch(scan_runs, grid, dim3(THREADS), 0, stream, memory.run_sum, tiles, windows.features,
                static_cast<int>(call->shape.value_dim), side == 1, memory.mean[side], memory.log_sum[side]);
    }
    return error;
}

} /* namespace */

void t2t_cuda_scatterbrain(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena)
{
    const struct attention_shape *shape = &call->shape;
    const size_t units = call->batch * shape->heads, features = call->config.features, tiles = tiles_of(shape->queries);
    const float *drawn = t2t_cuda_upload(device, arena, call->draws.features, units * features / 2 * shape->head_dim);
    const Memory memory = take_memory(call, arena);
    if (!arena->memory) return;
    const Windows windows = {static_cast<int>(shape->queries), static_cast<int>(shape->keys),
        static_cast<int>(call->config.window / 2), static_cast<int>(call->config.window), static_cast<int>(features)};
    Near near = {};
    near.q = query_rows(call);
    near.k = key_rows(call);
    near.v = value_rows(call);
    near.windows = windows;
    near.out = call->out;
    near.sum = memory.near_sum;
    near.out_image = shape->queries * call->out_stride;
    near.out_head = shape->value_dim;
    near.out_row = call->out_stride;
    near.heads = static_cast<int>(shape->heads);
    near.head_dim = static_cast<int>(shape->head_dim);
    near.value_dim = static_cast<int>(shape->value_dim);
    near.scale = shape->scale * LOG2_E;
    Far far = {};
    static_cast<WindowTile &>(far) = near;
    far.out = memory.far_mean;
    far.sum = memory.far_sum;
    far.heads = 1;
    far.out_image = shape->queries * shape->value_dim;
    far.out_row = shape->value_dim;
    far.scale = sqrtf(shape->scale) * LOG2_E;
    far.w = buffer_rows(memory.w, features, shape->head_dim, true);
    for (int side = 0; side < 2; side++) {
        far.mean[side] = memory.mean[side];
        far.log_sum[side] = memory.log_sum[side];
    }
    far.between = memory.between;
    far.tiles = static_cast<int>(tiles);
    const Range step("features");
    cudaError_t error = weigh(call, drawn, memory, windows, device->stream);
    step.next("sums of features");
    if (!error) error = sum_sides(call, memory, windows, device->stream);
    step.next("near keys");
    if (!error) error = run_attend(call->config.format, near, tiles, units, shape->value_dim, device->stream);
    step.next("far keys");
    if (!error) error = run_attend(far, tiles, units, shape->value_dim, device->stream);
    step.next("join");
    if (!error)
        error = launch(join_near_and_far, warps_of(shape->queries, units), dim3(THREADS), 0, device->stream, near,
            memory.far_mean, memory.far_sum, shape->scale / 2);
    t2t_cuda_check(device, error, "scatterbrain");
}
