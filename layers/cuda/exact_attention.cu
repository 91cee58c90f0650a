/* Exact attention, and the mean of v as a control. */
#include "layers/cuda/attend_half.cuh"
#include "layers/cuda/cuda_device.h"
#include "layers/cuda/fused_attention.h"
#include "layers/cuda/kde.h"
#include "layers/cuda/unit_rows.h"

namespace
{

struct Exact {
    UnitRows q, k, v;
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
    __device__ Key key(const Tile &tile, int j) const { return {k.at(tile.unit, j), v.at(tile.unit, j), 0, 0}; }
    __device__ float score(const Tile &, int, const Key &, float product) const { return product * scale; }
    __device__ void store(const Tile &tile, int row, int column, float value) const
    {
        out[static_cast<size_t>(tile.unit / heads) * out_image + static_cast<size_t>(tile.unit % heads) * out_head +
            static_cast<size_t>(tile.first + row) * out_row + static_cast<size_t>(column)] = value;
    }
    __device__ void store_sum(const Tile &, int, float) const {}
};

constexpr int MEAN_THREADS = 256;

/* A column of one unit's values: its mean for `rows` rows. Sums over threads, then over warps. */
__global__ void __launch_bounds__(MEAN_THREADS)
    mean_of_values(UnitRows v, float *out, size_t out_image, size_t out_head, size_t out_row, int rows, int keys)
{
    SHARED_MEMORY(float, part);
    const int unit = static_cast<int>(blockIdx.y), column = static_cast<int>(blockIdx.x);
    const int thread = static_cast<int>(threadIdx.x);
    float sum = 0;
    for (int j = thread; j < keys; j += MEAN_THREADS) sum += v.at(unit, j)[column];
    sum = sum_over<WARP>(sum);
    if (thread % WARP == 0) part[thread / WARP] = sum;
    __syncthreads();
    float total = 0;
    for (int i = 0; i < MEAN_THREADS / WARP; i++) total += part[i];
    float *to = out + static_cast<size_t>(unit / v.heads) * out_image + static_cast<size_t>(unit % v.heads) * out_head;
    for (int i = thread; i < rows; i += MEAN_THREADS)
        to[static_cast<size_t>(i) * out_row + static_cast<size_t>(column)] = total / static_cast<float>(keys);
}

} /* namespace */

void t2t_cuda_exact(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena)
{
    const struct attention_shape *shape = &call->shape;
    if (const FusedPlan *plan = t2t_cuda_fused_plan(device, call)) {
        t2t_cuda_fused_attention(device, plan, call, arena);
        return;
    }
    if (!arena->memory) return;
    const Exact exact = {query_rows(call), key_rows(call), value_rows(call), call->out,
        shape->queries * call->out_stride, shape->value_dim, call->out_stride, static_cast<int>(shape->heads),
        static_cast<int>(shape->queries), static_cast<int>(shape->keys), static_cast<int>(shape->head_dim),
        static_cast<int>(shape->value_dim), shape->scale * LOG2_E};
    t2t_cuda_check(device,
        run_attend(call->config.format, exact, tiles_of(shape->queries), call->batch * shape->heads, shape->value_dim,
            device->stream),
        "exact attention");
}

static cudaError_t launch_mean(const struct attention_call *call, float *out, size_t out_image, size_t out_head,
    size_t out_row, size_t rows, cudaStream_t stream)
{
    const struct attention_shape *shape = &call->shape;
    const dim3 grid(static_cast<unsigned>(shape->value_dim), static_cast<unsigned>(call->batch * shape->heads));
    return launch(mean_of_values, grid, dim3(MEAN_THREADS), MEAN_THREADS / WARP * sizeof(float), stream,
        value_rows(call), out, out_image, out_head, out_row, static_cast<int>(rows), static_cast<int>(shape->keys));
}

void t2t_cuda_mean(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena)
{
    if (!arena->memory) return;
    t2t_cuda_check(device,
        launch_mean(call, call->out, call->shape.queries * call->out_stride, call->shape.value_dim, call->out_stride,
            call->shape.queries, device->stream),
        "the mean of v");
}

cudaError_t t2t_cuda_mean_value(const struct attention_call *call, float *mean, cudaStream_t stream)
{
    const size_t dim = call->shape.value_dim;
    return launch_mean(call, mean, call->shape.heads * dim, dim, dim, 1, stream);
}
