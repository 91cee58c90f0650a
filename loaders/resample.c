/* Resizing as Pillow does it (ImagingResample): a filter stretched by the reduction, weights in float64 rounded to 22
 * fractional bits, first along rows and then along columns, each pass rounded to bytes; a pass that changes nothing is
 * left out. Every result depends on its own weights alone, so only those of the crop are computed.
 */
#include "loaders/resample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FRACTION_BITS = 32 - 8 - 2 };

/* Weights of `count` results along one direction. */
struct weights {
    size_t taps;   /* room for each result */
    size_t *first; /* [count] first input it sees */
    size_t *used;  /* [count] how many it sees */
    int32_t *tap;  /* [count, taps] */
};

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static int32_t fixed(double weight)
{
    return (int32_t)(weight * (1 << FRACTION_BITS) + (weight < 0 ? -0.5 : 0.5));
}

static void free_weights(struct weights *weights)
{
    free(weights->first);
    free(weights->used);
    free(weights->tap);
    *weights = (struct weights){0};
}

/* Weights of results first ... first + count - 1 of resizing `in` to `out`. */
static enum t2t_status make_weights(
    struct weights *weights, enum t2t_interpolation interpolation, size_t in, size_t out, size_t first, size_t count)
{
    const double scale = (double)in / (double)out, stretch = scale < 1 ? 1 : scale;
    const double support = (interpolation == T2T_BICUBIC ? 2.0 : 1.0) * stretch, inverse = 1 / stretch;
    weights->taps = (size_t)ceil(support) * 2 + 1;
    weights->first = calloc(count, sizeof *weights->first);
    weights->used = calloc(count, sizeof *weights->used);
    weights->tap = calloc(count * weights->taps, sizeof *weights->tap);
    double *exact = calloc(weights->taps, sizeof *exact);
    if (!weights->first || !weights->used || !weights->tap || !exact) {
        free(exact);
        return t2t_fail_memory("resizing weights", count * weights->taps * sizeof *weights->tap);
    }
    for (size_t i = 0; i < count; i++) {
        const double centre = ((double)(first + i) + 0.5) * scale;
        double begin = trunc(centre - support + 0.5), end = trunc(centre + support + 0.5), sum = 0;
        if (begin < 0) begin = 0;
        if (end > (double)in) end = (double)in;
        weights->first[i] = (size_t)begin;
        weights->used[i] = (size_t)(end - begin);
        for (size_t t = 0; t < weights->used[i]; t++) {
            const double at = ((double)t + begin - centre + 0.5) * inverse;
            exact[t] = interpolation == T2T_BICUBIC ? bicubic(at) : bilinear(at);
            sum += exact[t];
        }
        for (size_t t = 0; t < weights->used[i]; t++)
            weights->tap[i * weights->taps + t] = fixed(sum != 0 ? exact[t] / sum : exact[t]);
    }
    free(exact);
    return T2T_OK;
}

static uint8_t rounded(int32_t sum)
{
    const int32_t value = sum >> FRACTION_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* One row of the picture to `count` results. */
static void resample_row(const uint8_t *in, const struct weights *weights, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *from = in + weights->first[i] * 3;
        const int32_t *tap = weights->tap + i * weights->taps;
        int32_t r = 1 << (FRACTION_BITS - 1), g = r, b = r;
        for (size_t t = 0; t < weights->used[i]; t++) {
            r += from[3 * t] * tap[t];
            g += from[3 * t + 1] * tap[t];
            b += from[3 * t + 2] * tap[t];
        }
        out[3 * i] = rounded(r);
        out[3 * i + 1] = rounded(g);
        out[3 * i + 2] = rounded(b);
    }
}

/* One row of results from `used` rows of `bytes` bytes each. */
static void resample_column(
    const uint8_t *in, size_t bytes, const int32_t *tap, size_t used, int32_t *restrict sum, uint8_t *restrict out)
{
    for (size_t x = 0; x < bytes; x++) sum[x] = 1 << (FRACTION_BITS - 1);
    for (size_t t = 0; t < used; t++)
        for (size_t x = 0; x < bytes; x++) sum[x] += in[t * bytes + x] * tap[t];
    for (size_t x = 0; x < bytes; x++) out[x] = rounded(sum[x]);
}

/* Rows first ... first + rows - 1 of the picture, resized along rows to the crop's columns. */
static enum t2t_status pass_along_rows(
    const struct resample *shape, const uint8_t *rgb, size_t first, size_t rows, uint8_t *out)
{
    const size_t side = shape->side, in_bytes = shape->in_width * 3;
    if (shape->in_width == shape->out_width) {
        for (size_t y = 0; y < rows; y++)
            memcpy(out + y * side * 3, rgb + (first + y) * in_bytes + shape->left * 3, side * 3);
        return T2T_OK;
    }
    struct weights weights = {0};
    const enum t2t_status status =
        make_weights(&weights, shape->interpolation, shape->in_width, shape->out_width, shape->left, side);
    for (size_t y = 0; y < rows && !status; y++)
        resample_row(rgb + (first + y) * in_bytes, &weights, side, out + y * side * 3);
    free_weights(&weights);
    return status;
}

enum t2t_status t2t_resample(const struct resample *shape, const uint8_t *rgb, uint8_t *out)
{
    const size_t side = shape->side;
    if (shape->in_height == shape->out_height) return pass_along_rows(shape, rgb, shape->top, side, out);
    struct weights weights = {0};
    enum t2t_status status =
        make_weights(&weights, shape->interpolation, shape->in_height, shape->out_height, shape->top, side);
    if (status) {
        free_weights(&weights);
        return status;
    }
    const size_t first = weights.first[0], rows = weights.first[side - 1] + weights.used[side - 1] - first;
    uint8_t *narrow = malloc(rows * side * 3);
    int32_t *sum = malloc(side * 3 * sizeof *sum);
    status = narrow && sum ? pass_along_rows(shape, rgb, first, rows, narrow)
                           : t2t_fail_memory("a resized picture", rows * side * 3);
    for (size_t y = 0; y < side && !status; y++)
        resample_column(narrow + (weights.first[y] - first) * side * 3, side * 3, weights.tap + y * weights.taps,
            weights.used[y], sum, out + y * side * 3);
    free(narrow);
    free(sum);
    free_weights(&weights);
    return status;
}
