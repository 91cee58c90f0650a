/* The operator norm of W = [V, 1] and the lengths of its rows, for KDEformer's published probabilities: the Gram matrix
 * W^T W in one pass over v, then Lanczos' method on it in float64, every step made orthogonal to all before. */
#include "layers/cuda/kde.h"
#include "layers/cuda/unit_rows.h"

namespace
{

constexpr int THREADS = 128, STEPS = 40, RUN = 112;

/* gram[a][b] = sum over keys of w_a w_b: float32 over runs of keys, float64 over runs. A block a row, a thread a column. */
__global__ void __launch_bounds__(THREADS) make_gram(UnitRows v, int keys, int dim, double *gram)
{
    const int a = static_cast<int>(blockIdx.x), unit = static_cast<int>(blockIdx.y), width = dim + 1;
    for (int b = static_cast<int>(threadIdx.x); b < width; b += THREADS) {
        double total = 0;
        for (int begin = 0; begin < keys; begin += RUN) {
            float run = 0;
            for (int j = begin; j < min(keys, begin + RUN); j++) {
                const float *row = v.at(unit, j);
                run += (a < dim ? row[a] : 1) * (b < dim ? row[b] : 1);
            }
            total += static_cast<double>(run);
        }
        gram[(static_cast<size_t>(unit) * static_cast<size_t>(width) + static_cast<size_t>(a)) *
                 static_cast<size_t>(width) +
             static_cast<size_t>(b)] = total;
    }
}

__device__ double dot(const double *x, const double *y, int width, double *part)
{
    double sum = 0;
    for (int c = static_cast<int>(threadIdx.x); c < width; c += THREADS) sum += x[c] * y[c];
    sum = sum_over<WARP>(sum);
    __syncthreads();
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = sum;
    __syncthreads();
    double total = 0;
    for (int i = 0; i < THREADS / WARP; i++) total += part[i];
    return total;
}

/* Largest eigenvalue of a symmetric tridiagonal matrix, by bisection on the number of eigenvalues above. */
__device__ double largest_eigenvalue(const double *diagonal, const double *beside, int count)
{
    double low = 0, high = 0;
    for (int i = 0; i < count; i++) /* Gershgorin */
        high = fmax(high, diagonal[i] + (i ? beside[i - 1] : 0) + (i + 1 < count ? beside[i] : 0));
    while (high - low > 1e-7 * high) {
        const double middle = (low + high) / 2;
        bool above = false;
        double pivot = 1;
        for (int i = 0; i < count && !above; i++) {
            pivot = middle - diagonal[i] - (i ? beside[i - 1] * beside[i - 1] / pivot : 0);
            above = !(pivot > 0);
        }
        if (above)
            low = middle;
        else
            high = middle;
    }
    return high;
}

struct Lanczos {
    double part[THREADS / WARP];
    double diagonal[STEPS], beside[STEPS];
};

/* A block a unit. The start is the sum of W's rows, the Gram matrix's largest column and a fixed direction, each of
 * length one, so that neither a common direction nor a single huge value is missed, nor one along which rows cancel. */
__global__ void __launch_bounds__(THREADS) find_norm(const double *grams, int width, double *vectors, float *norm)
{
    SHARED_MEMORY(Lanczos, shared);
    const int thread = static_cast<int>(threadIdx.x);
    const size_t unit = blockIdx.x, size = static_cast<size_t>(width);
    const double *gram = grams + unit * size * size;
    double *basis = vectors + unit * (STEPS + 1) * size, *next = basis + STEPS * size;
    int largest = 0;
    for (int c = 1; c < width; c++)
        if (gram[static_cast<size_t>(c) * size + static_cast<size_t>(c)] >
            gram[static_cast<size_t>(largest) * size + static_cast<size_t>(largest)])
            largest = c;
    const double *sum = gram + static_cast<size_t>(width - 1) * size,
                 *column = gram + static_cast<size_t>(largest) * size;
    const double sum_length = sqrt(dot(sum, sum, width, shared->part));
    const double column_length = sqrt(dot(column, column, width, shared->part));
    const double spread_length = sqrt(static_cast<double>(width) / 12);
    for (int c = thread; c < width; c += THREADS) /* fractions of multiples of the golden ratio, less a half */
        next[c] =
            sum[c] / sum_length + column[c] / column_length +
            (static_cast<double>(static_cast<uint32_t>(c + 1) * 2654435769u) / 4294967296.0 - 0.5) / spread_length;
    __syncthreads();
    double length = sqrt(dot(next, next, width, shared->part));
    int steps = 0;
    while (steps < min(STEPS, width)) {
        double *own = basis + static_cast<size_t>(steps) * size;
        for (int c = thread; c < width; c += THREADS) own[c] = next[c] / length;
        __syncthreads();
        for (int c = thread; c < width; c += THREADS) {
            double product = 0;
            for (int b = 0; b < width; b++)
                product += gram[static_cast<size_t>(c) * size + static_cast<size_t>(b)] * own[b];
            next[c] = product;
        }
        __syncthreads();
        const double diagonal = dot(next, own, width, shared->part);
        for (int i = 0; i <= steps; i++) {
            const double *before = basis + static_cast<size_t>(i) * size;
            const double share = dot(next, before, width, shared->part);
            for (int c = thread; c < width; c += THREADS) next[c] -= share * before[c];
            __syncthreads();
        }
        length = sqrt(dot(next, next, width, shared->part));
        if (thread == 0) {
            shared->diagonal[steps] = diagonal;
            shared->beside[steps] = length;
        }
        steps++;
        __syncthreads();
        if (!(length > 1e-9 * shared->diagonal[0])) break; /* nothing is left */
    }
    if (thread == 0) norm[unit] = static_cast<float>(sqrt(largest_eigenvalue(shared->diagonal, shared->beside, steps)));
}

/* length_j = |[v_j, 1]|: a warp a key. */
__global__ void __launch_bounds__(THREADS) row_lengths(UnitRows v, int keys, int dim, float *length)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, unit = static_cast<int>(blockIdx.y);
    const int j = static_cast<int>(blockIdx.x) * (THREADS / WARP) + static_cast<int>(threadIdx.x) / WARP;
    if (j >= keys) return;
    const float *row = v.at(unit, j);
    float squares = 0;
    for (int c = lane; c < dim; c += WARP) squares += row[c] * row[c];
    squares = sum_over<WARP>(squares);
    if (lane == 0)
        length[static_cast<size_t>(unit) * static_cast<size_t>(keys) + static_cast<size_t>(j)] = sqrtf(1 + squares);
}

} /* namespace */

cudaError_t t2t_cuda_kde_value_norms(const KdeCall &kde)
{
    const KdeSizes &sizes = kde.sizes;
    const unsigned units = static_cast<unsigned>(kde.units), width = static_cast<unsigned>(sizes.value_dim + 1);
    const cudaStream_t stream = kde.device->stream;
    const UnitRows v = value_rows(kde.call);
    cudaError_t error = launch(
        make_gram, dim3(width, units), dim3(THREADS), 0, stream, v, sizes.keys, sizes.value_dim, kde.memory.gram);
    if (!error)
        error = launch(find_norm, dim3(units), dim3(THREADS), sizeof(Lanczos), stream,
            static_cast<const double *>(kde.memory.gram), static_cast<int>(width), kde.memory.vectors, kde.memory.norm);
    const dim3 grid(static_cast<unsigned>((sizes.keys + THREADS / WARP - 1) / (THREADS / WARP)), units);
    if (!error)
        error = launch(row_lengths, grid, dim3(THREADS), 0, stream, v, sizes.keys, sizes.value_dim, kde.memory.length);
    return error;
}
