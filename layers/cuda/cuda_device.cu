/* The CUDA device as a table of operations, and the function that the module is found by. */
#include <cstdio>
#include <cstring>
#include <new>

#include "layers/cuda/cuda_device.h"
#include "layers/cuda/fused_attention.h"
#include "layers/cuda/range.h"

extern "C" {
#include "layers/cuda/cuda_ops.h"
}

void t2t_cuda_fail(struct layer_device *device, const char *what, const char *why)
{
    if (!*device->failure) snprintf(device->failure, sizeof device->failure, "%s: %s", what, why);
}

void t2t_cuda_check(struct layer_device *device, cudaError_t error, const char *what)
{
    if (error) t2t_cuda_fail(device, what, cudaGetErrorString(error));
}

namespace
{

/* ---- opening and closing ---- */

void cuda_close(struct layer_device *device)
{
    if (!device) return;
    if (device->stream) cudaStreamSynchronize(device->stream);
    t2t_cuda_graph_close(device);
    t2t_cuda_fused_close(device);
    t2t_cuda_input_close(device);
    for (void *pinned : device->pinned) cudaFreeHost(pinned);
    for (float *constant : device->constants) cudaFree(constant);
    for (cudaEvent_t tick : device->ticks) cudaEventDestroy(tick);
    cudaFree(device->workspace);
    cudaFree(device->factors);
    if (device->products) cublasLtDestroy(device->products);
    if (device->stream) cudaStreamDestroy(device->stream);
    delete device;
}

enum t2t_status cannot_open(struct layer_device *device, const char *what, const char *why)
{
    cuda_close(device);
    return t2t_fail(T2T_NO_RESOURCE, "cuda: %s: %s", what, why);
}

enum t2t_status cuda_open(struct layer_device **device, const struct layer_device_options *options)
{
    *device = nullptr;
    struct layer_device *made = new (std::nothrow) struct layer_device();
    if (!made) return t2t_fail_memory("a device", sizeof *made);
    made->format = options->format;
    made->tf32 = options->tf32 && options->format == FORMAT_FLOAT32;
    made->graph = options->graph;
    made->ordinal = static_cast<int>(options->ordinal);
    made->workspace_bytes = 32 << 20;
    cudaDeviceProp properties;
    cudaError_t error = cudaSetDevice(made->ordinal);
    if (!error) error = cudaGetDeviceProperties(&properties, made->ordinal);
    if (!error) error = cudaStreamCreateWithFlags(&made->stream, cudaStreamNonBlocking);
    if (!error) error = cudaMalloc(&made->workspace, made->workspace_bytes);
    if (error) return cannot_open(made, "the device cannot be used", cudaGetErrorString(error));
    if (made->format == FORMAT_BFLOAT16 && !t2t_cuda_has_bfloat16(properties))
        return cannot_open(made, properties.name, T2T_NO_BFLOAT16);
    const cublasStatus_t status = cublasLtCreate(&made->products);
    if (status) return cannot_open(made, "cuBLASLt cannot be used", cublasLtGetStatusString(status));
    char library[32] = "";
    if (made->format != FORMAT_FLOAT32) t2t_cuda_fused_describe(library, sizeof library);
    snprintf(made->description, sizeof made->description, "%.160s (cuda:%zu), compute capability %d.%d%s%s%s",
        properties.name, options->ordinal, properties.major, properties.minor, made->tf32 ? ", TF32 products" : "",
        library, made->graph ? ", CUDA graphs" : "");
    *device = made;
    return T2T_OK;
}

const char *cuda_describe(const struct layer_device *device)
{
    return device->description;
}

size_t cuda_threads(const struct layer_device *)
{
    return 0;
}

/* ---- memory ---- */

enum t2t_status cuda_reserve(struct layer_device *, size_t bytes, void **memory)
{
    const cudaError_t error = cudaMalloc(memory, bytes);
    if (!error) return T2T_OK;
    *memory = nullptr;
    return t2t_fail(
        T2T_NO_RESOURCE, "cuda: %.1f MB of the device's memory: %s", 1e-6 * (double)bytes, cudaGetErrorString(error));
}

void cuda_release(struct layer_device *, void *memory)
{
    cudaFree(memory);
}

enum t2t_status cuda_reserve_draws(struct layer_device *device, size_t bytes, void **memory)
{
    const cudaError_t error = cudaHostAlloc(memory, bytes ? bytes : 1, cudaHostAllocDefault);
    if (!error) {
        device->pinned.push_back(*memory);
        return T2T_OK;
    }
    *memory = nullptr;
    return t2t_fail(
        T2T_NO_RESOURCE, "cuda: %.1f MB of pinned memory: %s", 1e-6 * (double)bytes, cudaGetErrorString(error));
}

enum t2t_status cuda_constant(struct layer_device *device, const float *host, size_t count, const float **own)
{
    float *made = nullptr;
    cudaError_t error = cudaMalloc(reinterpret_cast<void **>(&made), count * sizeof *made);
    if (error)
        return t2t_fail(
            T2T_NO_RESOURCE, "cuda: memory for a weight of %zu numbers: %s", count, cudaGetErrorString(error));
    device->constants.push_back(made);
    error = cudaMemcpyAsync(made, host, count * sizeof *made, cudaMemcpyHostToDevice, device->stream);
    if (!error) error = cudaStreamSynchronize(device->stream);
    *own = made;
    return error ? t2t_fail(T2T_NO_RESOURCE, "cuda: copying a weight: %s", cudaGetErrorString(error)) : T2T_OK;
}

void cuda_output(struct layer_device *device, const float *own, size_t count, float *host)
{
    t2t_cuda_check(device, cudaMemcpyAsync(host, own, count * sizeof *own, cudaMemcpyDeviceToHost, device->stream),
        "copying results");
}

/* ---- time and errors ---- */

void cuda_tick(struct layer_device *device, size_t number)
{
    while (device->ticks.size() <= number) {
        cudaEvent_t made;
        const cudaError_t error = cudaEventCreateWithFlags(&made, cudaEventDefault);
        t2t_cuda_check(device, error, "an event");
        if (error) return;
        device->ticks.push_back(made);
    }
    /* In a graph a node of its own: every launch records it anew. */
    const unsigned flags = device->recording ? cudaEventRecordExternal : cudaEventRecordDefault;
    t2t_cuda_check(device, cudaEventRecordWithFlags(device->ticks[number], device->stream, flags), "an event");
}

/* Asked for after finish(), which told of moments that could not be recorded: those have no time. */
double cuda_seconds(struct layer_device *device, size_t from, size_t to)
{
    float ms = 0;
    if (from >= device->ticks.size() || to >= device->ticks.size()) return 0;
    return cudaEventElapsedTime(&ms, device->ticks[from], device->ticks[to]) ? 0 : 1e-3 * static_cast<double>(ms);
}

void cuda_range(struct layer_device *, const char *name)
{
    if (name)
        T2T_RANGE_BEGIN(name);
    else
        T2T_RANGE_END();
}

enum t2t_status cuda_finish(struct layer_device *device)
{
    t2t_cuda_check(device, cudaStreamSynchronize(device->stream), "the forward");
    if (!*device->failure) return T2T_OK;
    const enum t2t_status status = t2t_fail(T2T_NO_RESOURCE, "cuda: %s", device->failure);
    *device->failure = 0;
    return status;
}

/* ---- attention ---- */

typedef void Method(struct layer_device *, const struct attention_call *, struct t2t_arena *);

Method *method_of(enum attention_kind kind)
{
    switch (kind) {
    case ATTENTION_EXACT: return t2t_cuda_exact;
    case ATTENTION_KDEFORMER: return t2t_cuda_kdeformer;
    case ATTENTION_PERFORMER: return t2t_cuda_performer;
    case ATTENTION_REFORMER: return t2t_cuda_reformer;
    case ATTENTION_MEAN: return t2t_cuda_mean;
    case ATTENTION_SCATTERBRAIN: return t2t_cuda_scatterbrain;
    case ATTENTION_KDE_THEORY:
    case ATTENTION_KINDS: break;
    }
    return nullptr;
}

/* A launch has an (image, head), of reformer one of a round, along its second dimension. */
constexpr size_t MOST_UNITS = 65535;

enum t2t_status cuda_attention_check(
    const struct attention_shape *shape, const struct attention_config *config, size_t batch)
{
    const size_t units = shape->heads * (config->kind == ATTENTION_REFORMER ? config->rounds : 1);
    const char *name = attention_method(config->kind)->name;
    if (!method_of(config->kind))
        return t2t_fail(T2T_BAD_USAGE, "%s does not run on the cuda device; use --device cpu", name);
    if (config->target_error > 0)
        return t2t_fail(T2T_BAD_USAGE, "%s's target error is not met on the cuda device; use --device cpu", name);
    if (batch * units > MOST_UNITS)
        return t2t_fail(
            T2T_BAD_USAGE, "%s takes batches of at most %zu images on the cuda device", name, MOST_UNITS / units);
    return T2T_OK;
}

size_t cuda_attention_scratch(struct layer_device *device, const struct attention_shape *shape,
    const struct attention_config *config, size_t batch)
{
    struct attention_call call = {};
    call.shape = *shape;
    call.config = *config;
    call.batch = batch;
    struct t2t_arena measuring = {};
    method_of(config->kind)(device, &call, &measuring);
    return measuring.peak;
}

void cuda_attention(struct layer_device *device, const struct attention_call *call)
{
    const Range range(attention_method(call->config.kind)->name);
    struct t2t_arena arena = {};
    static unsigned char nothing[64]; /* methods without scratch are told apart from measuring */
    arena.memory = call->scratch ? static_cast<unsigned char *>(call->scratch) : nothing;
    arena.capacity = cuda_attention_scratch(device, &call->shape, &call->config, call->batch);
    method_of(call->config.kind)(device, call, &arena);
}

struct layer_ops make_ops()
{
    struct layer_ops ops = {};
    ops.name = "cuda";
    ops.open = cuda_open;
    ops.close = cuda_close;
    ops.describe = cuda_describe;
    ops.threads = cuda_threads;
    ops.reserve = cuda_reserve;
    ops.release = cuda_release;
    ops.constant = cuda_constant;
    ops.reserve_draws = cuda_reserve_draws;
    ops.input_open = t2t_cuda_input_open;
    ops.input = t2t_cuda_input;
    ops.input_ahead = t2t_cuda_input_ahead;
    ops.output = cuda_output;
    ops.graph_begin = t2t_cuda_graph_begin;
    ops.graph_end = t2t_cuda_graph_end;
    ops.range = cuda_range;
    ops.tick = cuda_tick;
    ops.seconds = cuda_seconds;
    ops.finish = cuda_finish;
    ops.linear_open = t2t_cuda_linear_open;
    ops.linear_close = t2t_cuda_linear_close;
    ops.linear = t2t_cuda_linear;
    ops.layer_norm = t2t_cuda_layer_norm;
    ops.soft_split_image = t2t_cuda_soft_split_image;
    ops.soft_split_tokens = t2t_cuda_soft_split_tokens;
    ops.assemble_tokens = t2t_cuda_assemble_tokens;
    ops.attention_check = cuda_attention_check;
    ops.attention_scratch = cuda_attention_scratch;
    ops.attention = cuda_attention;
    ops.performer_scratch = t2t_cuda_performer_scratch;
    ops.performer_attention = t2t_cuda_performer_attention;
    return ops;
}

} /* namespace */

extern "C" const struct layer_ops *t2t_cuda_ops(void)
{
    static const struct layer_ops ops = make_ops();
    return &ops;
}
