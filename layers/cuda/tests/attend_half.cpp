/* The softmax of tensor cores against double precision from the same rounded factors: rows in any order, biases, pairs that
 * do not see each other, a query that sees nothing, sizes that fill no tile, several schedules.
 */
#include "layers/cuda/attend_half.cuh"

#include <cmath>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <vector>

extern "C" {
#include <cmocka.h>

#include "layers/base/half.h"
#include "layers/base/random.h"
}
#include "schedule.h"

namespace
{

struct Sizes {
    int queries, keys, head_dim, value_dim;
};

constexpr int BLIND = 3; /* sees no key */

/* Key j is row (7 j + 2) mod keys of k and v, its bias that of j; rows have gaps, so that they begin anywhere. */
struct Holed {
    const float *q, *k, *v, *bias;
    float *out, *sum;
    Sizes sizes;
    int head_dim, value_dim;
    float scale;

    __host__ __device__ int row_of(int key) const { return (7 * key + 2) % sizes.keys; }
    __host__ __device__ bool sees(int query, int key) const { return query != BLIND && (3 * query + 5 * key) % 7 != 0; }
    __device__ int begin(Tile *tile) const
    {
        tile->first = static_cast<int>(blockIdx.x) * TILE_QUERIES;
        tile->count = min(TILE_QUERIES, sizes.queries - tile->first);
        return tile->count;
    }
    __device__ const float *query(const Tile &tile, int row) const { return q + (tile.first + row) * (head_dim + 1); }
    __device__ int keys(const Tile &) const { return sizes.keys; }
    __device__ Key key(const Tile &, int j) const
    {
        return {k + row_of(j) * (head_dim + 3), v + row_of(j) * (value_dim + 4), bias[j], j};
    }
    __device__ float score(const Tile &tile, int row, const Key &key, float product) const
    {
        return sees(tile.first + row, key.tag) ? product * scale + key.bias : -INFINITY;
    }
    __device__ void store(const Tile &tile, int row, int column, float value) const
    {
        out[(tile.first + row) * value_dim + column] = value;
    }
    __device__ void store_sum(const Tile &tile, int row, float log2_of_sum) const
    {
        sum[tile.first + row] = log2_of_sum;
    }
};

std::vector<float> normal(int count, uint32_t what, float factor)
{
    std::vector<float> values(static_cast<size_t>(count));
    t2t_random_key key = {};
    key.seed = 11;
    key.head = what;
    key.purpose = T2T_RANDOM_TEST;
    t2t_random_normal(key, values.size(), values.data());
    for (float &value : values) value *= factor;
    return values;
}

double rounded(enum number_format format, float value)
{
    return static_cast<double>(format == FORMAT_FLOAT16 ? t2t_half_to_float(t2t_float_to_half(value))
                                                        : t2t_bfloat16_to_float(t2t_float_to_bfloat16(value)));
}

/* The error of what `holed` left over the size of what is wanted; its sums must be as good as float32's. */
double error_of(const Holed &holed, enum number_format format)
{
    double error = 0, size = 0;
    for (int i = 0; i < holed.sizes.queries; i++) {
        std::vector<double> weight(static_cast<size_t>(holed.sizes.keys)), value(static_cast<size_t>(holed.value_dim));
        double total = 0;
        for (int j = 0; j < holed.sizes.keys; j++) {
            double score = static_cast<double>(holed.bias[j]);
            for (int c = 0; c < holed.head_dim; c++)
                score += rounded(format, holed.q[i * (holed.head_dim + 1) + c] * holed.scale) *
                         rounded(format, holed.k[holed.row_of(j) * (holed.head_dim + 3) + c]);
            const double own = holed.sees(i, j) ? exp2(score) : 0;
            total += own;
            for (int c = 0; c < holed.value_dim; c++)
                value[static_cast<size_t>(c)] +=
                    own * rounded(format, holed.v[holed.row_of(j) * (holed.value_dim + 4) + c]);
        }
        if (!(fabs(static_cast<double>(holed.sum[i]) - log2(total)) < 2e-5) && total > 0)
            fail_msg("query %d: log2 of the sum is %g, not %g", i, static_cast<double>(holed.sum[i]), log2(total));
        for (int c = 0; c < holed.value_dim; c++) {
            const double found = static_cast<double>(holed.out[i * holed.value_dim + c]);
            if (total > 0) {
                const double wanted = value[static_cast<size_t>(c)] / total;
                error += (found - wanted) * (found - wanted);
                size += wanted * wanted;
            } else {
                assert_true(std::isnan(found) && holed.sum[i] == -INFINITY);
            }
        }
    }
    return size > 0 ? sqrt(error / size) : 0;
}

/* Weights are rounded, and nothing else: a half-precision format's last bit, less where many errors add up. */
void check(const Sizes &sizes, enum number_format format)
{
    const std::vector<float> q = normal(sizes.queries * (sizes.head_dim + 1), 1, 1.5F);
    const std::vector<float> k = normal(sizes.keys * (sizes.head_dim + 3), 2, 1.5F);
    const std::vector<float> v = normal(sizes.keys * (sizes.value_dim + 4), 3, 1), bias = normal(sizes.keys, 4, 2);
    std::vector<float> out(static_cast<size_t>(sizes.queries * sizes.value_dim), 7);
    std::vector<float> sum(static_cast<size_t>(sizes.queries), 7);
    const Holed holed = {q.data(), k.data(), v.data(), bias.data(), out.data(), sum.data(), sizes, sizes.head_dim,
        sizes.value_dim, 1 / sqrtf(static_cast<float>(sizes.head_dim))};
    const size_t tiles = static_cast<size_t>((sizes.queries + TILE_QUERIES - 1) / TILE_QUERIES);
    cudaStream_t stream;
    cudaError_t failed = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (!failed) failed = run_attend(format, holed, tiles, 1, static_cast<size_t>(sizes.value_dim), stream);
    if (!failed) failed = cudaStreamSynchronize(stream);
    if (failed) fail_msg("%s", emulation::last_error());
    cudaStreamDestroy(stream);
    const double error = error_of(holed, format), most = format == FORMAT_FLOAT16 ? 2.5e-4 : 2e-3;
    if (!(error < most))
        fail_msg("%d queries, %d keys, dimensions %d and %d, %s: off by %.1e", sizes.queries, sizes.keys,
            sizes.head_dim, sizes.value_dim, number_format_name(format), error);
}

void equals_double_precision(void **)
{
    static const Sizes all[] = {{1, 1, 1, 1}, {5, 3, 12, 12}, {64, 64, 64, 64}, {65, 65, 64, 64}, {17, 130, 16, 8},
        {100, 33, 33, 70}, {9, 200, 100, 17}, {130, 129, 65, 64}, {20, 77, 48, 0}};
    for (int policy = 0; policy < 3; policy++) {
        t2t_emulation_schedule(static_cast<uint64_t>(policy), policy);
        for (const Sizes &sizes : all)
            for (enum number_format format : {FORMAT_FLOAT16, FORMAT_BFLOAT16}) check(sizes, format);
    }
}

} /* namespace */

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_double_precision)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
