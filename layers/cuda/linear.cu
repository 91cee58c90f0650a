/* Products with weights by cuBLASLt, bias in its epilogue, the residual as what the product is added to.
 *
 * Row-major y [rows, out] = x [rows, in] W^T is, column by column, y^T = W x^T. The algorithm for the planned number of
 * images is chosen when the product opens; another number, as of a last batch, chooses its own when it first comes.
 */
#include <cstdio>
#include <cstring>
#include <new>

#include "layers/cuda/cuda_device.h"

namespace
{

struct Algorithm {
    size_t rows;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
};

} /* namespace */

struct linear {
    struct layer_device *device;
    struct linear_shape shape;
    float *weight, *bias; /* on the device; bias or NULL */
    cublasLtMatmulDesc_t product;
    std::vector<Algorithm> algorithms;
};

namespace
{

/* The layouts of a call. */
struct Layouts {
    cublasLtMatrixLayout_t weight = nullptr, in = nullptr, residual = nullptr, out = nullptr;
    ~Layouts()
    {
        for (cublasLtMatrixLayout_t layout : {weight, in, residual, out})
            if (layout) cublasLtMatrixLayoutDestroy(layout);
    }
};

cublasStatus_t make_layouts(
    Layouts *layouts, const struct linear_shape *shape, size_t rows, size_t residual_stride, size_t out_stride)
{
    const uint64_t in = shape->in_features, out = shape->out_features;
    cublasStatus_t status = cublasLtMatrixLayoutCreate(&layouts->weight, CUDA_R_32F, in, out, static_cast<int64_t>(in));
    if (!status) status = cublasLtMatrixLayoutCreate(&layouts->in, CUDA_R_32F, in, rows, static_cast<int64_t>(in));
    if (!status)
        status = cublasLtMatrixLayoutCreate(
            &layouts->residual, CUDA_R_32F, out, rows, static_cast<int64_t>(residual_stride));
    if (!status)
        status = cublasLtMatrixLayoutCreate(&layouts->out, CUDA_R_32F, out, rows, static_cast<int64_t>(out_stride));
    return status;
}

cublasStatus_t describe(struct linear *made)
{
    const cublasComputeType_t type = made->device->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cublasStatus_t status = cublasLtMatmulDescCreate(&made->product, type, CUDA_R_32F);
    if (!status)
        status =
            cublasLtMatmulDescSetAttribute(made->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (!status && made->bias)
        status =
            cublasLtMatmulDescSetAttribute(made->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (!status && made->bias)
        status = cublasLtMatmulDescSetAttribute(
            made->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &made->bias, sizeof made->bias);
    return status;
}

/* The library's best guess for `rows` rows. Columns of a wider matrix begin at any float. */
cublasStatus_t choose(struct linear *made, const Layouts &layouts, size_t rows)
{
    const uint64_t workspace = made->device->workspace_bytes;
    const uint32_t alignment = sizeof(float);
    cublasLtMatmulPreference_t preference = nullptr;
    cublasLtMatmulHeuristicResult_t best = {};
    int found = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    if (!status)
        status = cublasLtMatmulPreferenceSetAttribute(
            preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    for (cublasLtMatmulPreferenceAttributes_t which : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
             CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
        if (!status) status = cublasLtMatmulPreferenceSetAttribute(preference, which, &alignment, sizeof alignment);
    if (!status)
        status = cublasLtMatmulAlgoGetHeuristic(made->device->products, made->product, layouts.weight, layouts.in,
            layouts.residual, layouts.out, preference, 1, &best, &found);
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    if (!status && !found) status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (!status) made->algorithms.push_back({rows, best.algo, best.workspaceSize});
    return status;
}

const Algorithm *find(const struct linear *linear, size_t rows)
{
    for (const Algorithm &algorithm : linear->algorithms)
        if (algorithm.rows == rows) return &algorithm;
    return nullptr;
}

cudaError_t copy_to_device(struct layer_device *device, const float *host, size_t count, float **own)
{
    cudaError_t error = cudaMalloc(reinterpret_cast<void **>(own), count * sizeof(float));
    if (error) *own = nullptr;
    if (!error) error = cudaMemcpyAsync(*own, host, count * sizeof(float), cudaMemcpyHostToDevice, device->stream);
    if (!error) error = cudaStreamSynchronize(device->stream); /* the caller may free its own */
    return error;
}

} /* namespace */

enum t2t_status t2t_cuda_linear_open(struct layer_device *device, struct linear **linear,
    const struct linear_shape *shape, const float *weight, const float *bias)
{
    *linear = nullptr;
    struct linear *made = new (std::nothrow) struct linear();
    if (!made) return t2t_fail_memory("a product", sizeof *made);
    made->device = device;
    made->shape = *shape;
    const size_t rows = shape->tokens * shape->images;
    cudaError_t error = copy_to_device(device, weight, shape->in_features * shape->out_features, &made->weight);
    if (!error && bias) error = copy_to_device(device, bias, shape->out_features, &made->bias);
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (!error) {
        Layouts layouts;
        status = describe(made);
        if (!status) status = make_layouts(&layouts, shape, rows, shape->out_features, shape->out_features);
        if (!status) status = choose(made, layouts, rows);
    }
    if (!error && !status) {
        *linear = made;
        return T2T_OK;
    }
    t2t_cuda_linear_close(made);
    return t2t_fail(T2T_NO_RESOURCE, "cuda: a product of %zu x %zu cannot be made: %s", shape->in_features,
        shape->out_features, error ? cudaGetErrorString(error) : cublasLtGetStatusString(status));
}

void t2t_cuda_linear_close(struct linear *linear)
{
    if (!linear) return;
    if (linear->product) cublasLtMatmulDescDestroy(linear->product);
    cudaFree(linear->weight);
    cudaFree(linear->bias);
    delete linear;
}

void t2t_cuda_linear(struct layer_device *device, const struct linear *linear, struct matrix in,
    const struct matrix *residual, struct matrix out)
{
    const size_t rows = in.batch * in.tokens;
    const float one = 1, added = residual ? 1 : 0;
    const struct matrix before = residual ? *residual : out;
    Layouts layouts;
    cublasStatus_t status = make_layouts(&layouts, &linear->shape, rows, before.stride, out.stride);
    if (!status && !find(linear, rows)) status = choose(const_cast<struct linear *>(linear), layouts, rows);
    if (!status) {
        const Algorithm *algorithm = find(linear, rows);
        status = cublasLtMatmul(device->products, linear->product, &one, linear->weight, layouts.weight, in.data,
            layouts.in, &added, before.data, layouts.residual, out.data, layouts.out, &algorithm->algorithm,
            device->workspace, algorithm->workspace, device->stream);
    }
    if (status) t2t_cuda_fail(device, "a product", cublasLtGetStatusString(status));
    if (linear->shape.activation == ACTIVATION_GELU) t2t_cuda_gelu(device, out.data, rows * out.channels);
}
