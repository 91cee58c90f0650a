/* Resizing as Pillow does it (ImagingResample): a filter stretched by the reduction, weights in float64 rounded to 22
 * fractional bits, first along rows and then along columns, each pass rounded to bytes; a pass that changes nothing is
 * left out. Every result depends on its own weights alone, so only those of the crop are computed.
 */
#include "loaders/resample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/resample_kernels.h"

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
    return (int32_t)(weight * (1 << RESAMPLE_FRACTION_BITS) + (weight < 0 ? -0.5 : 0.5));
}

static void free_weights(struct resample_weights *weights)
{
    free(weights->first);
    free(weights->used);
    free(weights->tap);
    *weights = (struct resample_weights){0};
}

/* Weights of results first ... first + count - 1 of resizing `in` to `out`. */
static enum t2t_status make_weights(struct resample_weights *weights, enum t2t_interpolation interpolation, size_t in,
    size_t out, size_t first, size_t count)
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

/* Rows first ... first + rows - 1 of the picture, resized along rows to the crop's columns. */
static enum t2t_status pass_along_rows(const struct resample_kernels *kernels, const struct resample *shape,
    const uint8_t *rgb, size_t first, size_t rows, uint8_t *out)
{
    const size_t side = shape->side, in_bytes = shape->in_width * 3;
    if (shape->in_width == shape->out_width) {
        for (size_t y = 0; y < rows; y++)
            memcpy(out + y * side * 3, rgb + (first + y) * in_bytes + shape->left * 3, side * 3);
        return T2T_OK;
    }
    struct resample_weights weights = {0};
    const enum t2t_status status =
        make_weights(&weights, shape->interpolation, shape->in_width, shape->out_width, shape->left, side);
    if (!status) kernels->along_rows(rgb + first * in_bytes, in_bytes, rows, &weights, side, out);
    free_weights(&weights);
    return status;
}

enum t2t_status t2t_resample_with(
    const struct resample_kernels *kernels, const struct resample *shape, const uint8_t *rgb, uint8_t *out)
{
    const size_t side = shape->side;
    if (shape->in_height == shape->out_height) return pass_along_rows(kernels, shape, rgb, shape->top, side, out);
    struct resample_weights weights = {0};
    enum t2t_status status =
        make_weights(&weights, shape->interpolation, shape->in_height, shape->out_height, shape->top, side);
    if (status) {
        free_weights(&weights);
        return status;
    }
    const size_t first = weights.first[0], rows = weights.first[side - 1] + weights.used[side - 1] - first;
    uint8_t *narrow = malloc(rows * side * 3);
    status = narrow ? pass_along_rows(kernels, shape, rgb, first, rows, narrow)
                    : t2t_fail_memory("a resized picture", rows * side * 3);
    for (size_t y = 0; y < side && !status; y++)
        kernels->along_columns(narrow + (weights.first[y] - first) * side * 3, side * 3, weights.tap + y * weights.taps,
            weights.used[y], out + y * side * 3);
    free(narrow);
    free_weights(&weights);
    return status;
}

enum t2t_status t2t_resample(const struct resample *shape, const uint8_t *rgb, uint8_t *out)
{
    return t2t_resample_with(t2t_resample_choose(), shape, rgb, out);
}
