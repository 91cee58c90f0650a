/* Performer's FAVOR+ as two softmaxes (layers/methods.md), and Token_performer's own attention as it was trained. */
#include "layers/cuda/attend.cuh"
#include "layers/cuda/cuda_device.h"
#include "layers/cuda/favor.h"
#include "layers/cuda/range.h"
#include "layers/cuda/unit_rows.h"

namespace
{

constexpr int THREADS = 128;

/* ---- FAVOR+ ---- */

/* Queries attend to features, whose log-sums are biases. */
struct Biased {
    UnitRows q, k, v;
    const float *bias; /* [units, key_count] */
    float *out;
    size_t out_image, out_head, out_row;
    int heads, queries, key_count, head_dim, value_dim;
    float scale;

    __device__ int begin(Tile *tile) const
    {
        tile->unit = static_cast<int>(blockIdx.y);
        tile->first = static_cast<int>(blockIdx.x) * TILE_QUERIES;
        tile->count = min(TILE_QUERIES, queries - tile->first);
        return tile->count;
    }
    __device__ const float *query(const Tile &tile, int row) const { return q.at(tile.unit, tile.first + row); }
    __device__ int keys(const Tile &) const { return key_count; }
    __device__ Key key(const Tile &tile, int j) const
    {
        const size_t at = static_cast<size_t>(tile.unit) * static_cast<size_t>(key_count) + static_cast<size_t>(j);
        return {k.at(tile.unit, j), v.at(tile.unit, j), bias[at], 0};
    }
    __device__ float score(const Tile &, int, const Key &key, float product) const
    {
        return product * scale + key.bias;
    }
    __device__ void store(const Tile &tile, int row, int column, float value) const
    {
        out[static_cast<size_t>(tile.unit / heads) * out_image + static_cast<size_t>(tile.unit % heads) * out_head +
            static_cast<size_t>(tile.first + row) * out_row + static_cast<size_t>(column)] = value;
    }
    __device__ void store_sum(const Tile &, int, float) const {}
};

/* ---- Token_performer ---- */

/* phi(x)_f = exp(w_f.x - |x|^2 / 2) / sqrt(features): a warp a row of x, lanes over features. */
__global__ void __launch_bounds__(THREADS)
    features_of(const float *x, size_t stride, const float *w, size_t rows, int features, int dim, float *phi)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    const size_t row = static_cast<size_t>(blockIdx.x) * (THREADS / WARP) + threadIdx.x / WARP;
    if (row >= rows) return;
    const float *from = x + row * stride;
    float squares = 0;
    for (int c = lane; c < dim; c += WARP) squares += from[c] * from[c];
    squares = sum_over<WARP>(squares);
    for (int f = lane; f < features; f += WARP) {
        const float *weights = w + static_cast<size_t>(f) * static_cast<size_t>(dim);
        float dot = 0;
        for (int c = 0; c < dim; c++) dot += weights[c] * from[c];
        phi[row * static_cast<size_t>(features) + static_cast<size_t>(f)] =
            expf(dot - squares / 2) * rsqrtf(static_cast<float>(features));
    }
}

/* sums[image, f, c] = sum over tokens of phi_f v_c, and behind the last column of phi_f alone: float32 over runs of
 * tokens, float64 over runs. A block a feature and image, a thread a column. */
__global__ void __launch_bounds__(THREADS)
    sum_features(const float *phi, struct matrix v, int features, int dim, float *sums)
{
    constexpr size_t RUN = 112;
    const int f = static_cast<int>(blockIdx.x);
    const size_t image = blockIdx.y;
    for (int c = static_cast<int>(threadIdx.x); c <= dim; c += THREADS) {
        double total = 0;
        for (size_t begin = 0; begin < v.tokens; begin += RUN) {
            float run = 0;
            for (size_t t = begin; t < begin + RUN && t < v.tokens; t++) {
                const size_t row = image * v.tokens + t;
                const float value = c < dim ? v.data[row * v.stride + static_cast<size_t>(c)] : 1;
                run += phi[row * static_cast<size_t>(features) + static_cast<size_t>(f)] * value;
            }
            total += static_cast<double>(run);
        }
        sums[(image * static_cast<size_t>(features) + static_cast<size_t>(f)) * static_cast<size_t>(dim + 1) +
             static_cast<size_t>(c)] = static_cast<float>(total);
    }
}

/* A block a row of q, a thread a column. */
__global__ void __launch_bounds__(THREADS)
    answer(const float *phi, const float *sums, int features, int dim, struct matrix out)
{
    const size_t row = blockIdx.x, image = row / out.tokens, width = static_cast<size_t>(dim + 1);
    const float *own = phi + row * static_cast<size_t>(features);
    const float *of_image = sums + image * static_cast<size_t>(features) * width;
    for (int c = static_cast<int>(threadIdx.x); c < dim; c += THREADS) {
        float sum = 0, total = 0;
        for (int f = 0; f < features; f++) {
            sum += own[f] * of_image[static_cast<size_t>(f) * width + static_cast<size_t>(c)];
            total += own[f] * of_image[static_cast<size_t>(f) * width + static_cast<size_t>(dim)];
        }
        out.data[row * out.stride + static_cast<size_t>(c)] = sum / (total + 1e-8f);
    }
}

unsigned blocks_of_warps(size_t rows)
{
    return static_cast<unsigned>((rows + THREADS / WARP - 1) / (THREADS / WARP));
}

} /* namespace */

void t2t_cuda_performer(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena)
{
    const struct attention_shape *shape = &call->shape;
    const size_t units = call->batch * shape->heads, features = call->config.features;
    const float *w = t2t_cuda_upload(device, arena, call->draws.features, units * features * shape->head_dim);
    float *bias = static_cast<float *>(t2t_arena_take(arena, units * shape->keys, sizeof *bias));
    float *log_sum = static_cast<float *>(t2t_arena_take(arena, units * features, sizeof *log_sum));
    float *mean = static_cast<float *>(t2t_arena_take(arena, units * features * shape->value_dim, sizeof *mean));
    if (!arena->memory) return;
    const KeyRuns all = {1, 0, static_cast<int>(shape->keys), true};
    const Biased to_features = {query_rows(call), buffer_rows(w, features, shape->head_dim, true),
        buffer_rows(mean, features, shape->value_dim, true), log_sum, call->out, shape->queries * call->out_stride,
        shape->value_dim, call->out_stride, static_cast<int>(shape->heads), static_cast<int>(shape->queries),
        static_cast<int>(features), static_cast<int>(shape->head_dim), static_cast<int>(shape->value_dim),
        sqrtf(shape->scale) * LOG2_E};
    const Range step("sums of features");
    cudaError_t error = t2t_cuda_key_biases(call, bias, device->stream);
    if (!error) error = t2t_cuda_feature_sums(call, w, bias, all, mean, log_sum, device->stream);
    step.next("answers");
    if (!error) error = run_attend(to_features, tiles_of(shape->queries), units, shape->value_dim, device->stream);
    t2t_cuda_check(device, error, "performer");
}

size_t t2t_cuda_performer_scratch(struct layer_device *, size_t tokens, size_t dim, size_t features, size_t batch)
{
    return batch * features * (2 * tokens + dim + 1) * sizeof(float);
}

void t2t_cuda_performer_attention(struct layer_device *device, const float *w, size_t features, struct matrix k,
    struct matrix q, struct matrix v, struct matrix out, void *scratch)
{
    const size_t rows = q.batch * q.tokens, dim = q.channels;
    float *phi_k = static_cast<float *>(scratch), *phi_q = phi_k + rows * features, *sums = phi_q + rows * features;
    const int count = static_cast<int>(features), width = static_cast<int>(dim);
    const Range range("token performer");
    const Range step("features");
    cudaError_t error = launch(features_of, dim3(blocks_of_warps(rows)), dim3(THREADS), 0, device->stream, k.data,
        k.stride, w, rows, count, width, phi_k);
    if (!error)
        error = launch(features_of, dim3(blocks_of_warps(rows)), dim3(THREADS), 0, device->stream, q.data, q.stride, w,
            rows, count, width, phi_q);
    step.next("sums of features");
    if (!error)
        error = launch(sum_features, dim3(static_cast<unsigned>(features), static_cast<unsigned>(q.batch)),
            dim3(THREADS), 0, device->stream, phi_k, v, count, width, sums);
    step.next("answers");
    if (!error)
        error = launch(answer, dim3(static_cast<unsigned>(rows)), dim3(THREADS), 0, device->stream, phi_q, sums, count,
            width, out);
    t2t_cuda_check(device, error, "Token_performer's attention");
}
