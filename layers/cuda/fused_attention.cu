/* Plans of a device, and the calls that run them. */
#include "layers/cuda/fused_attention.h"

#include <cstdio>
#include <cstring>
#include <memory>

#include "layers/cuda/cudnn_graph.h"

struct FusedPlan {
    GraphSizes sizes;
    enum number_format format;
    std::unique_ptr<CudnnGraph> graph; /* that has no plan where attend_half must do */
};

struct FusedPlans {
    const CudnnLibrary *library;
    cudnnHandle_t handle;
    std::vector<std::unique_ptr<FusedPlan>> plans;
};

namespace
{

constexpr size_t WORKSPACE_ALIGNMENT = 256;

/* Opens the library for the device's stream; plans stay empty where that fails. */
FusedPlans *open_plans(struct layer_device *device)
{
    FusedPlans *made = new FusedPlans();
    made->library = t2t_cudnn_library();
    if (made->library && made->library->create(&made->handle)) made->library = nullptr;
    if (made->library && made->library->set_stream(made->handle, device->stream)) {
        made->library->destroy(made->handle);
        made->library = nullptr;
    }
    return made;
}

bool fits(const FusedPlan &plan, const GraphSizes &sizes, enum number_format format)
{
    return plan.format == format && plan.sizes.batch >= sizes.batch && plan.sizes.heads == sizes.heads &&
           plan.sizes.queries == sizes.queries && plan.sizes.keys == sizes.keys &&
           plan.sizes.head_dim == sizes.head_dim && plan.sizes.value_dim == sizes.value_dim &&
           plan.sizes.packed == sizes.packed;
}

/* Whether q, k and v are columns of one matrix in this order, as a product makes them, or not there yet. */
bool is_packed(const struct attention_call *call)
{
    const size_t width = call->shape.heads * call->shape.head_dim;
    return !call->q || (call->k == call->q + width && call->v == call->k + width && call->k_stride == call->q_stride &&
                           call->v_stride == call->q_stride);
}

} /* namespace */

const FusedPlan *t2t_cuda_fused_plan(struct layer_device *device, const struct attention_call *call)
{
    const struct attention_shape *shape = &call->shape;
    const enum number_format format = call->config.format;
    /* rows of whole vectors of 16 bytes, as every engine wants them */
    if (format == FORMAT_FLOAT32 || shape->head_dim % 8 || shape->value_dim % 8 || !shape->value_dim) return nullptr;
    const bool packed = shape->queries == shape->keys;
    if (packed && !is_packed(call)) return nullptr; /* nobody's but tests' */
    if (!device->fused) device->fused = open_plans(device);
    FusedPlans *plans = device->fused;
    if (!plans->library) return nullptr;
    const GraphSizes sizes = {static_cast<int64_t>(call->batch), static_cast<int64_t>(shape->heads),
        static_cast<int64_t>(shape->queries), static_cast<int64_t>(shape->keys), static_cast<int64_t>(shape->head_dim),
        static_cast<int64_t>(shape->value_dim), packed};
    const FusedPlan *found = nullptr;
    for (const auto &plan : plans->plans)
        if (fits(*plan, sizes, format) && (!found || plan->sizes.batch < found->sizes.batch)) found = plan.get();
    if (!found) {
        std::unique_ptr<FusedPlan> made(new FusedPlan());
        made->sizes = sizes;
        made->format = format;
        made->graph.reset(new CudnnGraph(plans->library, sizes,
            format == FORMAT_FLOAT16 ? CUDNN_DATA_HALF : CUDNN_DATA_BFLOAT16, plans->handle, nullptr));
        found = made.get();
        plans->plans.push_back(std::move(made));
    }
    return found->graph->ok() ? found : nullptr;
}

void t2t_cuda_fused_attention(
    struct layer_device *device, const FusedPlan *plan, const struct attention_call *call, struct t2t_arena *arena)
{
    const struct attention_shape *shape = &call->shape;
    const size_t width = shape->heads * shape->head_dim, value_width = shape->heads * shape->value_dim;
    const size_t packed_width = 2 * width + value_width, planned = static_cast<size_t>(plan->sizes.batch);
    const struct {
        const float *data;
        size_t stride, rows, width; /* rows of an image */
    } apart[] = {{call->q, call->q_stride, shape->queries, width}, {call->k, call->k_stride, shape->keys, width},
        {call->v, call->v_stride, shape->keys, value_width}},
      together[] = {{call->q, call->q_stride, shape->queries, packed_width}};
    const bool packed = plan->sizes.packed;
    const auto *from = packed ? together : apart;
    uint16_t *factors = static_cast<uint16_t *>(t2t_arena_take(
        arena, planned * (shape->queries * width + shape->keys * (width + value_width)), sizeof *factors));
    uint16_t *out = static_cast<uint16_t *>(t2t_arena_take(arena, planned * shape->queries * value_width, sizeof *out));
    unsigned char *workspace =
        static_cast<unsigned char *>(t2t_arena_take(arena, plan->graph->workspace_bytes() + WORKSPACE_ALIGNMENT, 1));
    if (!arena->memory) return;
    workspace +=
        (WORKSPACE_ALIGNMENT - reinterpret_cast<uintptr_t>(workspace) % WORKSPACE_ALIGNMENT) % WORKSPACE_ALIGNMENT;
    cudaError_t error = cudaSuccess;
    uint16_t *next = factors;
    for (int i = 0; i < (packed ? 1 : 3) && !error; i++) {
        const size_t rows = call->batch * from[i].rows, image = from[i].rows * from[i].width;
        error = t2t_cuda_round_rows(
            plan->format, from[i].data, from[i].stride, rows, from[i].width, from[i].width, next, device->stream);
        if (!error && planned > call->batch)
            error = cudaMemsetAsync(
                next + call->batch * image, 0, (planned - call->batch) * image * sizeof *next, device->stream);
        next += planned * image;
    }
    t2t_cuda_check(device, error, "rounding for exact attention");
    const uint16_t *k = factors + (packed ? width : planned * shape->queries * width);
    const uint16_t *v = k + (packed ? width : planned * shape->keys * width);
    const cudnnStatus_t status = plan->graph->run(device->fused->handle, factors, k, v, out, shape->scale, workspace);
    if (status) t2t_cuda_fail(device, "exact attention by cuDNN", device->fused->library->error_string(status));
    t2t_cuda_check(device,
        t2t_cuda_widen_rows(
            plan->format, out, call->batch * shape->queries, value_width, call->out, call->out_stride, device->stream),
        "exact attention");
}

void t2t_cuda_fused_describe(char *text, size_t bytes)
{
    const CudnnLibrary *library = t2t_cudnn_library();
    const size_t version = library ? library->version() : 0;
    if (library) snprintf(text, bytes, ", cuDNN %zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
}

void t2t_cuda_fused_close(struct layer_device *device)
{
    FusedPlans *plans = device->fused;
    if (!plans) return;
    plans->plans.clear();
    if (plans->library) plans->library->destroy(plans->handle);
    delete plans;
}
