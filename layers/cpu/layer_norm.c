/* LayerNorm over the channels of each row (Ba, Kiros, Hinton 2016), biased variance, epsilon 1e-5. */
#include <math.h>

#include "layers/cpu/cpu_device.h"

static const float epsilon = 1e-5F;

/* Eight partial sums: the compiler may not reorder a single one, so this is what lets it use vectors. */
enum { LANES = 8 };

static float sum(const float *restrict x, size_t count)
{
    float partial[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++) partial[lane] += x[i + lane];
    for (size_t lane = 0; i < count; i++, lane++) partial[lane] += x[i];
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t lane = 0; lane < half; lane++) partial[lane] += partial[lane + half];
    return partial[0];
}

static float sum_of_squares_around(float mean, const float *restrict x, size_t count)
{
    float partial[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++) partial[lane] += (x[i + lane] - mean) * (x[i + lane] - mean);
    for (size_t lane = 0; i < count; i++, lane++) partial[lane] += (x[i] - mean) * (x[i] - mean);
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t lane = 0; lane < half; lane++) partial[lane] += partial[lane + half];
    return partial[0];
}

void t2t_layer_norm(
    struct layer_device *device, struct matrix in, const float *weight, const float *bias, struct matrix out)
{
    const size_t rows = in.batch * in.tokens, channels = in.channels;
#pragma omp parallel for schedule(static) num_threads((int)device->threads)
    for (size_t row = 0; row < rows; row++) {
        const float *x = in.data + row * in.stride;
        float *y = out.data + row * out.stride;
        const float mean = sum(x, channels) / (float)channels;
        const float variance = sum_of_squares_around(mean, x, channels) / (float)channels;
        const float scale = 1 / sqrtf(variance + epsilon);
        for (size_t c = 0; c < channels; c++) y[c] = (x[c] - mean) * scale * weight[c] + bias[c];
    }
}
