/* Four functions of cuBLASLt on the CPU, for the emulation: they stand before the library's, whose descriptors need no
 * device and stay the real ones. Stricter than the library: what the device does not use, or what is wrong, is refused.
 * Factors are float32 or, both alike, half precision; the rest is float32.
 */
#include <cmath>
#include <cstdint>
#include <cstring>

#include <cublasLt.h>

#include "layers/cuda/tests/fake_cublaslt.h"

extern "C" {
#include "layers/base/half.h"
}

namespace
{

constexpr size_t WORKSPACE = 1 << 20; /* that an algorithm asks for, and scribbles on */
char handle;
size_t heuristics;

struct Layout {
    uint32_t type;
    int32_t order, batch;
    uint64_t rows, columns;
    int64_t leading;
};

bool read_layout(cublasLtMatrixLayout_t layout, Layout *read)
{
    size_t bytes;
    const auto get = [&](cublasLtMatrixLayoutAttribute_t which, void *value, size_t size) {
        return cublasLtMatrixLayoutGetAttribute(layout, which, value, size, &bytes) == CUBLAS_STATUS_SUCCESS;
    };
    return get(CUBLASLT_MATRIX_LAYOUT_TYPE, &read->type, sizeof read->type) &&
           get(CUBLASLT_MATRIX_LAYOUT_ORDER, &read->order, sizeof read->order) &&
           get(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &read->batch, sizeof read->batch) &&
           get(CUBLASLT_MATRIX_LAYOUT_ROWS, &read->rows, sizeof read->rows) &&
           get(CUBLASLT_MATRIX_LAYOUT_COLS, &read->columns, sizeof read->columns) &&
           get(CUBLASLT_MATRIX_LAYOUT_LD, &read->leading, sizeof read->leading);
}

/* Column by column, each at an address that its elements may have; those of half precision on 16 bytes, as the device
 * promises when it asks for an algorithm. */
bool is_usable(const Layout &layout, const void *data)
{
    const bool whole = layout.type == CUDA_R_32F;
    const size_t alignment = whole ? sizeof(float) : 16, bytes = whole ? sizeof(float) : sizeof(uint16_t);
    return (whole || layout.type == CUDA_R_16F || layout.type == CUDA_R_16BF) && layout.order == CUBLASLT_ORDER_COL &&
           layout.batch == 1 && layout.leading >= static_cast<int64_t>(layout.rows) && data &&
           reinterpret_cast<uintptr_t>(data) % alignment == 0 &&
           static_cast<size_t>(layout.leading) * bytes % alignment == 0;
}

/* What an algorithm was told of B, C and D when it was asked for: it is in the algorithm. Told less than is there, the
 * library would leave out its fast algorithms; told more, run one that fails. */
constexpr cublasLtMatmulPreferenceAttributes_t told[] = {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
    CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};

/* The sizes that an algorithm was chosen for are in it too: it is for no others. */
void note_sizes(const Layout &b, const Layout &c, const Layout &d, uint64_t noted[4])
{
    noted[0] = b.columns;
    noted[1] = static_cast<uint64_t>(b.leading);
    noted[2] = static_cast<uint64_t>(c.leading);
    noted[3] = static_cast<uint64_t>(d.leading);
}

bool has_sizes(const cublasLtMatmulAlgo_t *algorithm, const Layout &b, const Layout &c, const Layout &d)
{
    uint64_t noted[4];
    note_sizes(b, c, d, noted);
    return memcmp(noted, algorithm->data + 3, sizeof noted) == 0;
}

bool is_told(uint64_t alignment, const Layout &layout, const void *data)
{
    const size_t bytes = layout.type == CUDA_R_32F ? sizeof(float) : sizeof(uint16_t);
    const bool wide =
        reinterpret_cast<uintptr_t>(data) % 16 == 0 && static_cast<size_t>(layout.leading) * bytes % 16 == 0;
    return alignment == (wide ? 16 : bytes);
}

double element(const Layout &layout, const void *data, uint64_t row, uint64_t column)
{
    const uint64_t at = column * static_cast<uint64_t>(layout.leading) + row;
    if (layout.type == CUDA_R_32F) return static_cast<double>(static_cast<const float *>(data)[at]);
    const uint16_t bits = static_cast<const uint16_t *>(data)[at];
    return static_cast<double>(layout.type == CUDA_R_16F ? t2t_half_to_float(bits) : t2t_bfloat16_to_float(bits));
}

struct Product {
    int32_t compute, scale, transposed_a, transposed_b;
    uint32_t epilogue;
    int32_t bias_type; /* -1: that of D */
    const float *bias;
};

bool read_product(cublasLtMatmulDesc_t product, Product *read)
{
    size_t bytes;
    const auto get = [&](cublasLtMatmulDescAttributes_t which, void *value, size_t size) {
        return cublasLtMatmulDescGetAttribute(product, which, value, size, &bytes) == CUBLAS_STATUS_SUCCESS;
    };
    return get(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, &read->compute, sizeof read->compute) &&
           get(CUBLASLT_MATMUL_DESC_SCALE_TYPE, &read->scale, sizeof read->scale) &&
           get(CUBLASLT_MATMUL_DESC_TRANSA, &read->transposed_a, sizeof read->transposed_a) &&
           get(CUBLASLT_MATMUL_DESC_TRANSB, &read->transposed_b, sizeof read->transposed_b) &&
           get(CUBLASLT_MATMUL_DESC_EPILOGUE, &read->epilogue, sizeof read->epilogue) &&
           get(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &read->bias_type, sizeof read->bias_type) &&
           get(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &read->bias, sizeof read->bias);
}

/* What the library multiplies: factors of one type, float32 for the rest, TF32 for float32 alone. */
bool is_supported(const Product &product, const Layout &a, const Layout &b, const Layout &c, const Layout &d)
{
    const bool biased = product.epilogue == CUBLASLT_EPILOGUE_BIAS, whole = a.type == CUDA_R_32F;
    return (product.compute == CUBLAS_COMPUTE_32F || (whole && product.compute == CUBLAS_COMPUTE_32F_FAST_TF32)) &&
           product.scale == CUDA_R_32F && product.transposed_a == CUBLAS_OP_T && product.transposed_b == CUBLAS_OP_N &&
           a.type == b.type && c.type == CUDA_R_32F && d.type == CUDA_R_32F &&
           (biased ? product.bias && (product.bias_type == -1 || product.bias_type == CUDA_R_32F)
                   : product.epilogue == CUBLASLT_EPILOGUE_DEFAULT);
}

} /* namespace */

extern "C" {

size_t t2t_fake_heuristics(void)
{
    return heuristics;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *made)
{
    *made = reinterpret_cast<cublasLtHandle_t>(&handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t)
{
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t used, cublasLtMatmulDesc_t described,
    cublasLtMatrixLayout_t a_layout, cublasLtMatrixLayout_t b_layout, cublasLtMatrixLayout_t c_layout,
    cublasLtMatrixLayout_t d_layout, cublasLtMatmulPreference_t preference, int wanted,
    cublasLtMatmulHeuristicResult_t results[], int *found)
{
    Product product = {}; /* filled by the library, which no sanitizer has seen */
    Layout as = {}, bs = {}, cs = {}, ds = {};
    uint64_t most = 0;
    size_t bytes;
    *found = 0;
    if (used != reinterpret_cast<cublasLtHandle_t>(&handle) || wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (!read_product(described, &product) || !read_layout(a_layout, &as) || !read_layout(b_layout, &bs) ||
        !read_layout(c_layout, &cs) || !read_layout(d_layout, &ds))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!is_supported(product, as, bs, cs, ds)) return CUBLAS_STATUS_NOT_SUPPORTED;
    cublasLtMatmulPreferenceGetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most, &bytes);
    if (most < WORKSPACE) return CUBLAS_STATUS_NOT_SUPPORTED;
    memset(results, 0, sizeof *results);
    results->workspaceSize = WORKSPACE;
    results->state = CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < 3; i++) {
        uint32_t alignment = 0;
        cublasLtMatmulPreferenceGetAttribute(preference, told[i], &alignment, sizeof alignment, &bytes);
        results->algo.data[i] = alignment;
    }
    note_sizes(bs, cs, ds, results->algo.data + 3);
    heuristics++;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* D = A^T B + beta C, sums in float64; bias for each row of D. */
cublasStatus_t cublasLtMatmul(cublasLtHandle_t used, cublasLtMatmulDesc_t described, const void *alpha, const void *a,
    cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
    cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm,
    void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    Product product = {};
    Layout as = {}, bs = {}, cs = {}, ds = {};
    if (used != reinterpret_cast<cublasLtHandle_t>(&handle) || !algorithm) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!read_product(described, &product) || !read_layout(a_layout, &as) || !read_layout(b_layout, &bs) ||
        !read_layout(c_layout, &cs) || !read_layout(d_layout, &ds))
        return CUBLAS_STATUS_INVALID_VALUE;
    const float factor = *static_cast<const float *>(alpha), added = *static_cast<const float *>(beta);
    const bool biased = product.epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (!is_supported(product, as, bs, cs, ds) || factor != 1) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!is_usable(as, a) || !is_usable(bs, b) || !is_usable(ds, d) || (added != 0 && !is_usable(cs, c)) ||
        as.rows != bs.rows || ds.rows != as.columns || ds.columns != bs.columns || cs.rows != ds.rows ||
        cs.columns != ds.columns || !workspace || workspace_bytes < WORKSPACE || !is_told(algorithm->data[0], bs, b) ||
        !has_sizes(algorithm, bs, cs, ds) || !is_told(algorithm->data[1], cs, c) || !is_told(algorithm->data[2], ds, d))
        return CUBLAS_STATUS_INVALID_VALUE;
    emulation::queue(stream, [=] {
        memset(workspace, 0xff, WORKSPACE);
        for (uint64_t column = 0; column < ds.columns; column++)
            for (uint64_t row = 0; row < ds.rows; row++) {
                double sum = biased ? static_cast<double>(product.bias[row]) : 0;
                for (uint64_t k = 0; k < as.rows; k++) sum += element(as, a, k, row) * element(bs, b, k, column);
                if (added != 0) sum += static_cast<double>(added) * element(cs, c, row, column);
                static_cast<float *>(d)[column * static_cast<uint64_t>(ds.leading) + row] = static_cast<float>(sum);
            }
    });
    return CUBLAS_STATUS_SUCCESS;
}

} /* extern "C" */
