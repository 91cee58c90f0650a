/* Reformer (layers/methods.md): rounds of hashing, chunks on one ring, rounds joined by their log-sums. */
#include "layers/cuda/attend_half.cuh"
#include "layers/cuda/cuda_device.h"
#include "layers/cuda/range.h"
#include "layers/cuda/sort_codes.cuh"
#include "layers/cuda/unit_rows.h"

namespace
{

constexpr int THREADS = 128;

/* Sizes of a call. */
struct Rounds {
    int tokens, padded, bucket, rounds, half; /* half of the hash values; one value a chunk */
    int head_dim, value_dim;
};

/* unit_key [units, tokens, head_dim]: queries at unit length. A warp a row. */
__global__ void __launch_bounds__(THREADS) unit_keys(UnitRows q, Rounds sizes, float *unit_key)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, unit = static_cast<int>(blockIdx.y);
    const int token = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
    if (token >= sizes.tokens) return;
    const float *row = q.at(unit, token);
    float squares = 0;
    for (int c = lane; c < sizes.head_dim; c += WARP) squares += row[c] * row[c];
    const float length = fmaxf(sqrtf(sum_over<WARP>(squares)), 1e-12f);
    const size_t at = static_cast<size_t>(unit) * static_cast<size_t>(sizes.tokens) + static_cast<size_t>(token);
    for (int c = lane; c < sizes.head_dim; c += WARP)
        unit_key[at * static_cast<size_t>(sizes.head_dim) + static_cast<size_t>(c)] = row[c] / length;
}

/* code [units, rounds, padded]: the first place of the largest among [x R, -x R], products in float64 so that every
 * device hashes alike. A thread a token; blockIdx.y counts units and rounds. */
__global__ void __launch_bounds__(THREADS) hash_tokens(UnitRows q, const float *rotation, Rounds sizes, uint16_t *code)
{
    const int list = static_cast<int>(blockIdx.y), unit = list / sizes.rounds;
    const int token = static_cast<int>(blockIdx.x) * THREADS + static_cast<int>(threadIdx.x);
    if (token >= sizes.padded) return;
    const float *r = rotation + static_cast<size_t>(list) * static_cast<size_t>(sizes.head_dim * sizes.half);
    double best = -INFINITY, lowest = INFINITY;
    int place = 0, lowest_place = 0;
    for (int b = 0; b < sizes.half; b++) {
        double product = 0;
        if (token < sizes.tokens) {
            const float *row = q.at(unit, token);
            for (int c = 0; c < sizes.head_dim; c++)
                product += static_cast<double>(row[c]) * static_cast<double>(r[c * sizes.half + b]);
        }
        if (product > best) {
            best = product;
            place = b;
        }
        if (product < lowest) {
            lowest = product;
            lowest_place = b;
        }
    }
    if (-lowest > best) place = sizes.half + lowest_place;
    code[static_cast<size_t>(list) * static_cast<size_t>(sizes.padded) + static_cast<size_t>(token)] =
        static_cast<uint16_t>(place);
}

/* A tile is up to 64 tokens of a chunk, which see their own chunk and the one before it on the ring. */
struct Chunks {
    UnitRows q, k, v;
    const uint32_t *ring; /* [units, rounds, padded] */
    float *out, *sum;     /* [units, rounds, tokens, value_dim], [units, rounds, tokens] */
    Rounds sizes;
    int tiles_a_chunk, head_dim, value_dim;
    float scale;

    __device__ int place_of(const Tile &tile, int row) const { return tile.first + row; }
    __device__ uint32_t token_at(int unit, int place) const
    {
        return ring[static_cast<size_t>(unit) * static_cast<size_t>(sizes.rounds * sizes.padded) +
                    static_cast<size_t>(place)];
    }
    __device__ int begin(Tile *tile) const
    {
        const int round = static_cast<int>(blockIdx.y) % sizes.rounds;
        const int chunk = static_cast<int>(blockIdx.x) / tiles_a_chunk;
        const int inside = static_cast<int>(blockIdx.x) % tiles_a_chunk * TILE_QUERIES;
        tile->unit = static_cast<int>(blockIdx.y) / sizes.rounds;
        tile->tag = round * sizes.padded + chunk * sizes.bucket; /* where the chunk begins on the ring */
        tile->first = tile->tag + inside;
        tile->count = min(TILE_QUERIES, sizes.bucket - inside);
        return tile->count;
    }
    __device__ const float *query(const Tile &tile, int row) const
    {
        const int token = static_cast<int>(token_at(tile.unit, place_of(tile, row)));
        return q.at(tile.unit, min(token, sizes.tokens - 1)); /* padding asks nothing */
    }
    __device__ int keys(const Tile &) const { return 2 * sizes.bucket; }
    __device__ Key key(const Tile &tile, int j) const
    {
        const int all = sizes.rounds * sizes.padded;
        const int token = static_cast<int>(token_at(tile.unit, (tile.tag + all - sizes.bucket + j) % all));
        const int row = min(token, sizes.tokens - 1);
        return {k.at(tile.unit, row), v.at(tile.unit, row), 0, token};
    }
    __device__ float score(const Tile &tile, int row, const Key &key, float product) const
    {
        if (key.tag >= sizes.tokens) return -INFINITY; /* padding is no key */
        if (key.tag == static_cast<int>(token_at(tile.unit, place_of(tile, row)))) return -5e4f * LOG2_E;
        return product * scale;
    }
    __device__ size_t slot(const Tile &tile, uint32_t token) const
    {
        const int round = tile.tag / sizes.padded;
        return static_cast<size_t>(tile.unit * sizes.rounds + round) * static_cast<size_t>(sizes.tokens) + token;
    }
    __device__ void store(const Tile &tile, int row, int column, float value) const
    {
        const uint32_t token = token_at(tile.unit, place_of(tile, row));
        if (token < static_cast<uint32_t>(sizes.tokens))
            out[slot(tile, token) * static_cast<size_t>(value_dim) + static_cast<size_t>(column)] = value;
    }
    __device__ void store_sum(const Tile &tile, int row, float log2_of_sum) const
    {
        const uint32_t token = token_at(tile.unit, place_of(tile, row));
        if (token < static_cast<uint32_t>(sizes.tokens)) sum[slot(tile, token)] = log2_of_sum;
    }
};

/* Rounds with weights proportional to their sums of exponentials: one softmax over all that a token saw. A warp a token. */
__global__ void __launch_bounds__(THREADS) join_rounds(const float *part, const float *sum, Rounds sizes, int heads,
    float *out, size_t out_image, size_t out_head, size_t out_row)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, unit = static_cast<int>(blockIdx.y);
    const int token = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
    if (token >= sizes.tokens) return;
    const size_t first = static_cast<size_t>(unit * sizes.rounds) * static_cast<size_t>(sizes.tokens);
    const auto slot = [&](int round) {
        return first + static_cast<size_t>(round) * static_cast<size_t>(sizes.tokens) + static_cast<size_t>(token);
    };
    float largest = -INFINITY, total = 0;
    for (int round = 0; round < sizes.rounds; round++) largest = fmaxf(largest, sum[slot(round)]);
    for (int round = 0; round < sizes.rounds; round++) total += exp2f(sum[slot(round)] - largest);
    float *to = out + static_cast<size_t>(unit / heads) * out_image + static_cast<size_t>(unit % heads) * out_head +
                static_cast<size_t>(token) * out_row;
    for (int c = lane; c < sizes.value_dim; c += WARP) {
        float value = 0;
        for (int round = 0; round < sizes.rounds; round++)
            value += exp2f(sum[slot(round)] - largest) *
                     part[slot(round) * static_cast<size_t>(sizes.value_dim) + static_cast<size_t>(c)];
        to[c] = value / total;
    }
}

int bits_of(int values)
{
    int bits = 1;
    while (1 << bits < values) bits++;
    return bits;
}

template <class T> T *take(struct t2t_arena *arena, size_t count)
{
    return static_cast<T *>(t2t_arena_take(arena, count, sizeof(T)));
}

} /* namespace */

void t2t_cuda_reformer(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena)
{
    const struct attention_shape *shape = &call->shape;
    const size_t units = call->batch * shape->heads, rounds = call->config.rounds, tokens = shape->queries;
    const size_t buckets = attention_buckets(tokens, call->config.bucket), padded = buckets * call->config.bucket;
    const size_t lists = units * rounds;
    const float *rotation =
        t2t_cuda_upload(device, arena, call->draws.rotation, lists * shape->head_dim * (buckets / 2));
    float *unit_key = take<float>(arena, units * tokens * shape->head_dim);
    uint16_t *code = take<uint16_t>(arena, lists * padded);
    uint32_t *ring = take<uint32_t>(arena, lists * padded), *other = take<uint32_t>(arena, lists * padded);
    float *part = take<float>(arena, lists * tokens * shape->value_dim), *sum = take<float>(arena, lists * tokens);
    if (!arena->memory) return;
    const Rounds sizes = {static_cast<int>(tokens), static_cast<int>(padded), static_cast<int>(call->config.bucket),
        static_cast<int>(rounds), static_cast<int>(buckets / 2), static_cast<int>(shape->head_dim),
        static_cast<int>(shape->value_dim)};
    const dim3 warps(
        static_cast<unsigned>((tokens + THREADS / WARP - 1) / (THREADS / WARP)), static_cast<unsigned>(units));
    const dim3 threads(static_cast<unsigned>((padded + THREADS - 1) / THREADS), static_cast<unsigned>(lists));
    const size_t tiles = tiles_of(call->config.bucket);
    const Chunks chunks = {query_rows(call), buffer_rows(unit_key, tokens, shape->head_dim, true), value_rows(call),
        ring, part, sum, sizes, static_cast<int>(tiles), sizes.head_dim, sizes.value_dim, shape->scale * LOG2_E};
    const Range step("hash");
    cudaError_t error = launch(unit_keys, warps, dim3(THREADS), 0, device->stream, query_rows(call), sizes, unit_key);
    if (!error)
        error = launch(hash_tokens, threads, dim3(THREADS), 0, device->stream, query_rows(call), rotation, sizes, code);
    step.next("sort");
    if (!error)
        error = t2t_cuda_sort_codes(
            code, lists, sizes.padded, bits_of(static_cast<int>(buckets)), ring, other, device->stream);
    step.next("chunks");
    if (!error)
        error = run_attend(call->config.format, chunks, buckets * tiles, lists, shape->value_dim, device->stream);
    step.next("join rounds");
    if (!error)
        error = launch(join_rounds, warps, dim3(THREADS), 0, device->stream, part, sum, sizes,
            static_cast<int>(shape->heads), call->out, tokens * call->out_stride, shape->value_dim, call->out_stride);
    t2t_cuda_check(device, error, "reformer");
}
