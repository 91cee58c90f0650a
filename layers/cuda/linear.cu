/* Products with weights by cuBLASLt, bias in its epilogue, the residual as what the product is added to.
 *
 * Row-major y [rows, out] = x [rows, in] W^T is, column by column, y^T = W x^T. Always as many rows as are planned: those of
 * images that are not there are computed for nothing, so that one algorithm, chosen when the product opens, gives an image
 * the same bits in every batch. Matrices that begin at an address that is no multiple of 16 bytes choose their own.
 *
 * In half precision x and W are rounded, sums stay float32. Their rows have zeros up to a multiple of 16 bytes, which
 * tensor cores like best.
 */
#include <cstdio>
#include <cstring>
#include <new>

#include "layers/cuda/cuda_device.h"

namespace
{

/* Bytes that matrices and their columns begin at multiples of: what tensor cores and wide copies want, or any float. */
struct Alignments {
    uint32_t in, residual, out;
    bool operator==(const Alignments &other) const
    {
        return in == other.in && residual == other.residual && out == other.out;
    }
};

struct Algorithm {
    Alignments alignments;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace;
};

} /* namespace */

struct linear {
    struct layer_device *device;
    struct linear_shape shape;
    size_t width; /* numbers in a row of either factor, at least in_features */
    void *weight; /* on the device, [out_features, width] of the device's format */
    float *bias;  /* or NULL */
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t weight_layout, in_layout, residual_layout, out_layout; /* of all planned rows */
    std::vector<Algorithm> algorithms;
};

namespace
{

cudaDataType_t factor_type(enum number_format format)
{
    return format == FORMAT_FLOAT16 ? CUDA_R_16F : format == FORMAT_BFLOAT16 ? CUDA_R_16BF : CUDA_R_32F;
}

size_t factor_bytes(enum number_format format)
{
    return format == FORMAT_FLOAT32 ? sizeof(float) : sizeof(uint16_t);
}

size_t planned_rows(const struct linear *linear)
{
    return linear->shape.tokens * linear->shape.images;
}

/* Without a residual its layout is that of the output, to which nothing is added. */
size_t residual_stride(const struct linear *linear)
{
    return linear->shape.residual_stride ? linear->shape.residual_stride : linear->shape.out_features;
}

cublasStatus_t make_layouts(struct linear *made)
{
    const uint64_t in = made->width, out = made->shape.out_features, rows = planned_rows(made);
    const cudaDataType_t factor = factor_type(made->device->format);
    cublasStatus_t status = cublasLtMatrixLayoutCreate(&made->weight_layout, factor, in, out, static_cast<int64_t>(in));
    if (!status) status = cublasLtMatrixLayoutCreate(&made->in_layout, factor, in, rows, static_cast<int64_t>(in));
    if (!status)
        status = cublasLtMatrixLayoutCreate(
            &made->residual_layout, CUDA_R_32F, out, rows, static_cast<int64_t>(residual_stride(made)));
    if (!status)
        status = cublasLtMatrixLayoutCreate(&made->out_layout, CUDA_R_32F, out, rows, static_cast<int64_t>(out));
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

uint32_t alignment_of(const void *data, size_t stride)
{
    constexpr uint32_t wide = 16;
    return reinterpret_cast<uintptr_t>(data) % wide || stride * sizeof(float) % wide ? sizeof(float) : wide;
}

/* Rounded factors are ours. With data NULL of matrices that begin well. */
Alignments alignments_of(const struct linear *made, const void *in, const void *residual, const void *out)
{
    const bool rounded = made->device->format != FORMAT_FLOAT32;
    return {alignment_of(rounded ? nullptr : in, rounded ? 0 : made->width),
        alignment_of(residual, residual_stride(made)), alignment_of(out, made->shape.out_features)};
}

/* The library's best guess: it leaves out what needs a larger alignment than it is told. */
cublasStatus_t choose(struct linear *made, const Alignments &alignments)
{
    const uint64_t workspace = made->device->workspace_bytes;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        const uint32_t *value;
    } wanted[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignments.in},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignments.residual},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignments.out}};
    cublasLtMatmulPreference_t preference = nullptr;
    cublasLtMatmulHeuristicResult_t best = {};
    int found = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    if (!status)
        status = cublasLtMatmulPreferenceSetAttribute(
            preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    for (const auto &alignment : wanted)
        if (!status)
            status = cublasLtMatmulPreferenceSetAttribute(
                preference, alignment.name, alignment.value, sizeof *alignment.value);
    if (!status)
        status = cublasLtMatmulAlgoGetHeuristic(made->device->products, made->product, made->weight_layout,
            made->in_layout, made->residual_layout, made->out_layout, preference, 1, &best, &found);
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    if (!status && !found) status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (!status) made->algorithms.push_back({alignments, best.algo, best.workspaceSize});
    return status;
}

const Algorithm *find(const struct linear *linear, const Alignments &alignments)
{
    for (const Algorithm &algorithm : linear->algorithms)
        if (algorithm.alignments == alignments) return &algorithm;
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

/* The weight in the device's format. */
cudaError_t own_weight(struct linear *made, const float *host)
{
    struct layer_device *device = made->device;
    const size_t rows = made->shape.out_features, in = made->shape.in_features;
    float *plain;
    cudaError_t error = copy_to_device(device, host, rows * in, &plain);
    if (error || device->format == FORMAT_FLOAT32) {
        made->weight = plain;
        return error;
    }
    error = cudaMalloc(&made->weight, rows * made->width * factor_bytes(device->format));
    if (error) made->weight = nullptr;
    if (!error)
        error = t2t_cuda_round_rows(device->format, plain, in, rows, in, made->width, made->weight, device->stream);
    if (!error) error = cudaStreamSynchronize(device->stream);
    cudaFree(plain);
    return error;
}

/* Room for rounded factors of the planned number of images: products take turns in it. */
cudaError_t reserve_factors(struct layer_device *device, size_t bytes)
{
    if (bytes <= device->factors_bytes) return cudaSuccess;
    cudaFree(device->factors);
    device->factors = nullptr;
    device->factors_bytes = 0;
    const cudaError_t error = cudaMalloc(&device->factors, bytes);
    if (error)
        device->factors = nullptr;
    else
        device->factors_bytes = bytes;
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
    const bool rounded = device->format != FORMAT_FLOAT32;
    made->width = rounded ? (shape->in_features + 7) / 8 * 8 : shape->in_features;
    cudaError_t error = own_weight(made, weight);
    if (!error && rounded)
        error = reserve_factors(device, planned_rows(made) * made->width * factor_bytes(device->format));
    if (!error && bias) error = copy_to_device(device, bias, shape->out_features, &made->bias);
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (!error) status = describe(made);
    if (!error && !status) status = make_layouts(made);
    if (!error && !status) status = choose(made, alignments_of(made, nullptr, nullptr, nullptr));
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
    for (cublasLtMatrixLayout_t layout :
        {linear->weight_layout, linear->in_layout, linear->residual_layout, linear->out_layout})
        if (layout) cublasLtMatrixLayoutDestroy(layout);
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
    const void *factors = in.data;
    if (device->format != FORMAT_FLOAT32) {
        t2t_cuda_check(device,
            t2t_cuda_round_rows(
                device->format, in.data, in.stride, rows, in.channels, linear->width, device->factors, device->stream),
            "rounding");
        factors = device->factors;
    }
    const Alignments alignments = alignments_of(linear, in.data, before.data, out.data);
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (!find(linear, alignments)) status = choose(const_cast<struct linear *>(linear), alignments);
    if (!status) {
        const Algorithm *algorithm = find(linear, alignments);
        status = cublasLtMatmul(device->products, linear->product, &one, linear->weight, linear->weight_layout, factors,
            linear->in_layout, &added, before.data, linear->residual_layout, out.data, linear->out_layout,
            &algorithm->algorithm, device->workspace, algorithm->workspace, device->stream);
    }
    if (status) t2t_cuda_fail(device, "a product", cublasLtGetStatusString(status));
    if (linear->shape.activation == ACTIVATION_GELU) t2t_cuda_gelu(device, out.data, rows * out.channels);
}
