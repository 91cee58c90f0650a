/* Numbers of weights; see convert_values.h. */
#include "eval/convert_values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layers/base/half.h"

enum { CHUNK = 1024 };

#define READ_AS(TYPE, VALUE)                                                                                           \
    for (size_t i = 0; i < count; i++) {                                                                               \
        TYPE value;                                                                                                    \
        memcpy(&value, from + i * sizeof value, sizeof value);                                                         \
        out[i] = (double)(VALUE);                                                                                      \
    }                                                                                                                  \
    break

void t2t_values_read(const struct t2t_tensor *tensor, size_t first, size_t count, double *out)
{
    if (count == 0) return;
    const char *from = (const char *)tensor->data + first * t2t_dtype_bytes(tensor->dtype);
    switch (tensor->dtype) {
    case T2T_F32: READ_AS(float, value);
    case T2T_F16: READ_AS(uint16_t, t2t_half_to_float(value));
    case T2T_BF16: READ_AS(uint16_t, t2t_bfloat16_to_float(value));
    case T2T_F64: READ_AS(double, value);
    case T2T_I64: READ_AS(int64_t, value);
    case T2T_I32: READ_AS(int32_t, value);
    case T2T_I16: READ_AS(int16_t, value);
    case T2T_I8: READ_AS(int8_t, value);
    case T2T_U8:
    case T2T_BOOL: READ_AS(uint8_t, value);
    case T2T_DTYPES: break;
    }
}

/* Stores a number; what comes back is what was stored. */
static double store(enum t2t_dtype dtype, double value, char *to)
{
    if (dtype == T2T_F32) {
        const float narrow = (float)value;
        memcpy(to, &narrow, sizeof narrow);
        return (double)narrow;
    }
    const uint16_t half = dtype == T2T_F16 ? t2t_float_to_half((float)value) : t2t_float_to_bfloat16((float)value);
    memcpy(to, &half, sizeof half);
    return (double)(dtype == T2T_F16 ? t2t_half_to_float(half) : t2t_bfloat16_to_float(half));
}

static enum t2t_status not_finite(
    const struct t2t_tensor *tensor, enum t2t_dtype dtype, size_t element, double value, const char *path)
{
    if (isfinite(value))
        return t2t_fail(T2T_BAD_MODEL,
            "%s: tensor %s holds %g at element %zu, which %s cannot hold; choose another --dtype", path, tensor->name,
            value, element, t2t_dtype_name(dtype));
    return t2t_fail(T2T_BAD_MODEL,
        "%s: tensor %s holds NaN or infinity at element %zu; the weights are damaged (--allow-nonfinite keeps them)",
        path, tensor->name, element);
}

enum t2t_status t2t_values_convert(
    struct t2t_tensor *tensor, enum t2t_dtype dtype, bool allow, const char *path, void **memory)
{
    *memory = NULL;
    const size_t bytes = t2t_dtype_bytes(dtype);
    char *to = NULL;
    if (tensor->dtype != dtype && tensor->elements) {
        to = malloc(tensor->elements * bytes);
        if (!to) return t2t_fail_memory("a converted tensor", tensor->elements * bytes);
    }
    double values[CHUNK];
    char scratch[8];
    for (size_t first = 0; first < tensor->elements; first += CHUNK) {
        const size_t count = tensor->elements - first < CHUNK ? tensor->elements - first : CHUNK;
        t2t_values_read(tensor, first, count, values);
        for (size_t i = 0; i < count; i++) {
            const double stored =
                to ? store(dtype, values[i], to + (first + i) * bytes) : store(T2T_F32, values[i], scratch);
            if (allow || isfinite(stored)) continue;
            free(to);
            return not_finite(tensor, dtype, first + i, values[i], path);
        }
    }
    *memory = to;
    if (to) tensor->data = to;
    tensor->dtype = dtype;
    return T2T_OK;
}

double t2t_values_sinusoid_difference(const struct t2t_tensor *positions)
{
    const size_t width = positions->shape[2];
    double largest = 0, value = 0;
    for (size_t i = 0; i < positions->elements; i++) {
        const double row = (double)(i / width);
        const size_t column = i % width;
        const double angle = row / pow(10000, 2 * (double)(column / 2) / (double)width);
        t2t_values_read(positions, i, 1, &value);
        const double difference = fabs(value - (column % 2 ? cos(angle) : sin(angle)));
        if (isnan(difference)) return difference;
        largest = fmax(largest, difference);
    }
    return largest;
}

/* The four weights of cubic convolution around a point, `t` of the way from the second to the third. */
static void cubic(double t, double weight[4])
{
    const double a = -0.75;
    const double distance[4] = {1 + t, t, 1 - t, 2 - t};
    for (int i = 0; i < 4; i++) {
        const double d = distance[i];
        weight[i] = d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    }
}

struct taps {
    size_t at[4];
    double weight[4];
};

static struct taps taps_of(size_t out, size_t from, size_t to)
{
    struct taps taps;
    const double place = ((double)out + 0.5) * (double)from / (double)to - 0.5, left = floor(place);
    cubic(place - left, taps.weight);
    for (int i = 0; i < 4; i++) {
        const double at = left + i - 1, last = (double)from - 1;
        taps.at[i] = (size_t)(at < 0 ? 0 : at > last ? last : at);
    }
    return taps;
}

enum t2t_status t2t_values_resize_positions(struct t2t_tensor *positions, size_t from, size_t to, void **memory)
{
    const size_t width = positions->shape[2], rows = 1 + to * to;
    double *values = malloc(positions->elements * sizeof *values);
    float *out = malloc(rows * width * sizeof *out);
    *memory = out;
    if (!values || !out) {
        free(values);
        return t2t_fail_memory("a position table", rows * width * sizeof *out);
    }
    t2t_values_read(positions, 0, positions->elements, values);
    for (size_t c = 0; c < width; c++) out[c] = (float)values[c];
    for (size_t y = 0; y < to; y++) {
        const struct taps down = taps_of(y, from, to);
        for (size_t x = 0; x < to; x++) {
            const struct taps across = taps_of(x, from, to);
            for (size_t c = 0; c < width; c++) {
                double sum = 0;
                for (int i = 0; i < 4; i++)
                    for (int j = 0; j < 4; j++)
                        sum += down.weight[i] * across.weight[j] *
                               values[(1 + down.at[i] * from + across.at[j]) * width + c];
                out[(1 + y * to + x) * width + c] = (float)sum;
            }
        }
    }
    free(values);
    positions->dtype = T2T_F32;
    positions->shape[1] = rows;
    positions->elements = rows * width;
    positions->data = out;
    return T2T_OK;
}
