/* Soft splits, token assembly, LayerNorm, GELU, rounding: a thread an element, or a warp a row. */
#include "layers/cuda/cuda_device.h"
#include "layers/cuda/device.cuh"
#include "layers/cuda/half.cuh"

namespace
{

constexpr int THREADS = 256;

unsigned blocks_for(size_t count, int each)
{
    return static_cast<unsigned>((count + static_cast<size_t>(each) - 1) / static_cast<size_t>(each));
}

__device__ __forceinline__ size_t thread_number()
{
    return static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

/* ---- LayerNorm ---- */

__global__ void __launch_bounds__(THREADS) layer_norm(const float *in, size_t in_stride, const float *weight,
    const float *bias, float *out, size_t out_stride, size_t rows, int channels)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    const size_t row = thread_number() / WARP;
    if (row >= rows) return; /* whole warps */
    const float *x = in + row * in_stride;
    float *y = out + row * out_stride;
    float sum = 0, squares = 0;
    for (int c = lane; c < channels; c += WARP) sum += x[c];
    const float mean = sum_over<WARP>(sum) / static_cast<float>(channels);
    for (int c = lane; c < channels; c += WARP) squares += (x[c] - mean) * (x[c] - mean);
    const float variance = sum_over<WARP>(squares) / static_cast<float>(channels);
    const float scale = 1 / sqrtf(variance + 1e-5f);
    for (int c = lane; c < channels; c += WARP) y[c] = (x[c] - mean) * scale * weight[c] + bias[c];
}

/* ---- soft splits ---- */

struct Split {
    int side, channels, kernel, stride, padding, grid;
};

/* Source of element `channel` of a window: false outside of the picture. */
__device__ __forceinline__ bool source_of(const Split &split, size_t window, int channel, int *c, int *y, int *x)
{
    const int area = split.kernel * split.kernel, inside = channel % area, grid = split.grid;
    const int place = static_cast<int>(window % static_cast<size_t>(grid * grid));
    *c = channel / area;
    *y = place / grid * split.stride + inside / split.kernel - split.padding;
    *x = place % grid * split.stride + inside % split.kernel - split.padding;
    return *y >= 0 && *y < split.side && *x >= 0 && *x < split.side;
}

/* `tokens`: the picture is rows of channels [side * side, channels], else planes [channels, side, side]. */
template <bool tokens>
__global__ void __launch_bounds__(THREADS)
    soft_split(Split split, const float *in, size_t in_stride, float *out, size_t out_stride, size_t windows)
{
    const int width = split.channels * split.kernel * split.kernel;
    const size_t element = thread_number(), window = element / static_cast<size_t>(width);
    if (window >= windows) return;
    const int channel = static_cast<int>(element % static_cast<size_t>(width));
    const size_t image = window / static_cast<size_t>(split.grid * split.grid);
    const size_t area = static_cast<size_t>(split.side) * static_cast<size_t>(split.side);
    int c, y, x;
    float value = 0;
    if (source_of(split, window, channel, &c, &y, &x)) {
        const size_t pixel = static_cast<size_t>(y) * static_cast<size_t>(split.side) + static_cast<size_t>(x);
        value = tokens ? in[(image * area + pixel) * in_stride + static_cast<size_t>(c)]
                       : in[(image * static_cast<size_t>(split.channels) + static_cast<size_t>(c)) * area + pixel];
    }
    out[window * out_stride + static_cast<size_t>(channel)] = value;
}

Split split_of(const struct soft_split_shape *shape)
{
    const size_t grid = (shape->side + 2 * shape->padding - shape->kernel) / shape->stride + 1;
    return {static_cast<int>(shape->side), static_cast<int>(shape->channels), static_cast<int>(shape->kernel),
        static_cast<int>(shape->stride), static_cast<int>(shape->padding), static_cast<int>(grid)};
}

/* ---- tokens ---- */

__global__ void __launch_bounds__(THREADS)
    assemble_tokens(const float *tokens, size_t in_stride, const float *class_token, const float *positions, float *out,
        size_t out_stride, size_t rows, size_t length, size_t channels)
{
    const size_t element = thread_number(), row = element / channels, c = element % channels;
    if (row >= rows) return;
    const size_t image = row / length, t = row % length;
    const float from = t ? tokens[(image * (length - 1) + t - 1) * in_stride + c] : class_token[c];
    out[row * out_stride + c] = from + positions[t * channels + c];
}

/* x Phi(x): cuBLASLt's epilogue is the tanh form, another function. */
__global__ void __launch_bounds__(THREADS) gelu(float *x, size_t count)
{
    const size_t i = thread_number();
    if (i < count) x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678118654752f));
}

/* Rows of `channels` as dense rows of `width`, a multiple of four, with zeros behind: four numbers a thread. */
template <class Half>
__global__ void __launch_bounds__(THREADS)
    round_rows(const float *in, size_t in_stride, int channels, int width, uint2 *out, size_t rows)
{
    const size_t number = thread_number(), fours = static_cast<size_t>(width / 4), row = number / fours;
    if (row >= rows) return;
    const int first = static_cast<int>(number % fours) * 4;
    out[number] = round_four<Half>(in + row * in_stride, first, channels, 1);
}

/* The way back, a number a thread. */
template <class Half>
__global__ void __launch_bounds__(THREADS)
    widen_rows(const Half *in, size_t channels, float *out, size_t out_stride, size_t rows)
{
    const size_t number = thread_number(), row = number / channels;
    if (row < rows) out[row * out_stride + number % channels] = static_cast<float>(in[number]);
}

} /* namespace */

void t2t_cuda_layer_norm(
    struct layer_device *device, struct matrix in, const float *weight, const float *bias, struct matrix out)
{
    const size_t rows = in.batch * in.tokens;
    t2t_cuda_check(device,
        launch(layer_norm, dim3(blocks_for(rows, THREADS / WARP)), dim3(THREADS), 0, device->stream, in.data, in.stride,
            weight, bias, out.data, out.stride, rows, static_cast<int>(in.channels)),
        "layer_norm");
}

void t2t_cuda_soft_split_image(
    struct layer_device *device, const struct soft_split_shape *shape, const float *images, struct matrix out)
{
    const size_t windows = out.batch * out.tokens;
    t2t_cuda_check(device,
        launch(soft_split<false>, dim3(blocks_for(windows * out.channels, THREADS)), dim3(THREADS), 0, device->stream,
            split_of(shape), images, 0, out.data, out.stride, windows),
        "soft_split_image");
}

void t2t_cuda_soft_split_tokens(
    struct layer_device *device, const struct soft_split_shape *shape, struct matrix in, struct matrix out)
{
    const size_t windows = out.batch * out.tokens;
    t2t_cuda_check(device,
        launch(soft_split<true>, dim3(blocks_for(windows * out.channels, THREADS)), dim3(THREADS), 0, device->stream,
            split_of(shape), in.data, in.stride, out.data, out.stride, windows),
        "soft_split_tokens");
}

void t2t_cuda_assemble_tokens(struct layer_device *device, struct matrix tokens, const float *class_token,
    const float *positions, struct matrix out)
{
    const size_t rows = out.batch * out.tokens;
    t2t_cuda_check(device,
        launch(assemble_tokens, dim3(blocks_for(rows * out.channels, THREADS)), dim3(THREADS), 0, device->stream,
            tokens.data, tokens.stride, class_token, positions, out.data, out.stride, rows, out.tokens, out.channels),
        "assemble_tokens");
}

void t2t_cuda_gelu(struct layer_device *device, float *x, size_t count)
{
    t2t_cuda_check(
        device, launch(gelu, dim3(blocks_for(count, THREADS)), dim3(THREADS), 0, device->stream, x, count), "gelu");
}

cudaError_t t2t_cuda_round_rows(enum number_format format, const float *in, size_t in_stride, size_t rows,
    size_t channels, size_t width, void *out, cudaStream_t stream)
{
    return launch(format == FORMAT_BFLOAT16 ? round_rows<__nv_bfloat16> : round_rows<__half>,
        dim3(blocks_for(rows * width / 4, THREADS)), dim3(THREADS), 0, stream, in, in_stride,
        static_cast<int>(channels), static_cast<int>(width), static_cast<uint2 *>(out), rows);
}

cudaError_t t2t_cuda_widen_rows(enum number_format format, const void *in, size_t rows, size_t channels, float *out,
    size_t out_stride, cudaStream_t stream)
{
    const dim3 grid(blocks_for(rows * channels, THREADS));
    if (format == FORMAT_BFLOAT16)
        return launch(widen_rows<__nv_bfloat16>, grid, dim3(THREADS), 0, stream, static_cast<const __nv_bfloat16 *>(in),
            channels, out, out_stride, rows);
    return launch(widen_rows<__half>, grid, dim3(THREADS), 0, stream, static_cast<const __half *>(in), channels, out,
        out_stride, rows);
}

cudaError_t t2t_cuda_has_code(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, gelu);
}
