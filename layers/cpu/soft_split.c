/* Soft split: overlapping windows of a picture or of a grid of tokens as rows (T2T-ViT section 3.1), and the class
 * token and positions that turn the last split into the input of the blocks. Copies only, no arithmetic but one sum.
 */
#include <assert.h>
#include <string.h>

#include "layers/cpu/cpu_device.h"

static size_t windows(const struct soft_split_shape *shape)
{
    return (shape->side + 2 * shape->padding - shape->kernel) / shape->stride + 1;
}

/* One row of one window: `kernel` pixels from (y, x) on, zeros outside of the picture. y and x count the padding. */
static void copy_pixels(
    const struct soft_split_shape *shape, const float *restrict plane, size_t y, size_t x, float *restrict out)
{
    const size_t side = shape->side, padding = shape->padding, kernel = shape->kernel;
    if (y < padding || y >= side + padding) {
        memset(out, 0, kernel * sizeof *out);
        return;
    }
    const float *row = plane + (y - padding) * side;
    if (x >= padding && x + kernel <= side + padding) {
        memcpy(out, row + (x - padding), kernel * sizeof *out);
        return;
    }
    for (size_t i = 0; i < kernel; i++) out[i] = x + i < padding || x + i >= side + padding ? 0 : row[x + i - padding];
}

void t2t_soft_split_image(
    struct layer_device *device, const struct soft_split_shape *shape, const float *images, struct matrix out)
{
    const size_t grid = windows(shape), kernel = shape->kernel, plane = shape->side * shape->side;
    assert(out.tokens == grid * grid && out.channels == shape->channels * kernel * kernel);
#pragma omp parallel for schedule(static) num_threads((int)device->threads)
    for (size_t line = 0; line < out.batch * grid; line++) {
        const float *image = images + line / grid * shape->channels * plane;
        const size_t y = line % grid * shape->stride;
        for (size_t column = 0; column < grid; column++) {
            float *row = out.data + (line * grid + column) * out.stride;
            for (size_t c = 0; c < shape->channels; c++)
                for (size_t k = 0; k < kernel; k++, row += kernel)
                    copy_pixels(shape, image + c * plane, y + k, column * shape->stride, row);
        }
    }
}

/* One window over 3 x 3 tokens: the channels of nine rows, interleaved. `token` NULL stands for a row of zeros. */
static void interleave_tokens(const float *const token[9], size_t channels, float *restrict out)
{
    for (size_t k = 0; k < 9; k++) {
        const float *restrict in = token[k];
        if (in)
            for (size_t c = 0; c < channels; c++) out[c * 9 + k] = in[c];
        else
            for (size_t c = 0; c < channels; c++) out[c * 9 + k] = 0;
    }
}

void t2t_soft_split_tokens(
    struct layer_device *device, const struct soft_split_shape *shape, struct matrix in, struct matrix out)
{
    const size_t grid = windows(shape), side = shape->side, padding = shape->padding;
    assert(shape->kernel == 3 && in.tokens == side * side && in.channels == shape->channels);
    assert(out.tokens == grid * grid && out.channels == shape->channels * 9);
#pragma omp parallel for schedule(static) num_threads((int)device->threads)
    for (size_t line = 0; line < out.batch * grid; line++) {
        const float *image = in.data + line / grid * in.tokens * in.stride;
        const size_t top = line % grid * shape->stride;
        for (size_t column = 0; column < grid; column++) {
            const size_t left = column * shape->stride;
            const float *token[9];
            for (size_t k = 0; k < 9; k++) {
                const size_t y = top + k / 3, x = left + k % 3;
                const bool inside = y >= padding && y < side + padding && x >= padding && x < side + padding;
                token[k] = inside ? image + ((y - padding) * side + (x - padding)) * in.stride : NULL;
            }
            interleave_tokens(token, shape->channels, out.data + (line * grid + column) * out.stride);
        }
    }
}

void t2t_assemble_tokens(struct layer_device *device, struct matrix tokens, const float *class_token,
    const float *positions, struct matrix out)
{
    assert(out.tokens == tokens.tokens + 1 && out.channels == tokens.channels);
#pragma omp parallel for schedule(static) num_threads((int)device->threads)
    for (size_t row = 0; row < out.batch * out.tokens; row++) {
        const size_t image = row / out.tokens, t = row % out.tokens;
        const float *from = t ? tokens.data + (image * tokens.tokens + t - 1) * tokens.stride : class_token;
        const float *position = positions + t * out.channels;
        float *to = out.data + row * out.stride;
        for (size_t c = 0; c < out.channels; c++) to[c] = from[c] + position[c];
    }
}
