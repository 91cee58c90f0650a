/* From a scene to pixels: signed distances give the outlines and a pixel's width of soft edge, waves the patterns.
 *
 * Only + - * / and square roots of IEEE doubles are used, never fused, so every machine paints the same.
 */
#include <math.h>

#include "eval/demo_scene.h"

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* Pixels from the outline, negative inside; p is relative to the centre, turned so that the part points along +x. */
static double distance_to(const struct part *part, struct vector p)
{
    const double r = part->radius, x = fabs(p.x), y = fabs(p.y);
    switch (part->shape) {
    case SHAPE_DISC: return sqrt(p.x * p.x + p.y * p.y) - r;
    case SHAPE_SQUARE: return larger(x, y) - 0.8 * r;
    case SHAPE_TRIANGLE: return larger(-p.x, 0.5 * p.x + 0.86602540378443865 * y) - 0.55 * r;
    case SHAPE_PLUS: return smaller(larger(x - r, y - 0.3 * r), larger(y - r, x - 0.3 * r));
    case SHAPE_ARROW: /* shaft and head */
        return smaller(larger(larger(p.x - 0.1 * r, -p.x - r), y - 0.24 * r),
            larger(-p.x, 0.7071067811865476 * (p.x + y) - 0.7071067811865476 * r));
    }
    return 0;
}

/* -1 ... 1 over a period of 1: a triangle wave, positive in one half. */
static double wave(double at)
{
    const double part = at - floor(at);
    return part < 0.5 ? 1 - fabs(4 * part - 1) : fabs(4 * part - 3) - 1;
}

/* Share of the first colour, 0 ... 1; edges are about a pixel wide. */
static double first_share(const struct part *part, struct vector p)
{
    const double period = part->period;
    const double u = (p.x * part->grain.x + p.y * part->grain.y) / period + part->phase;
    const double v = (p.y * part->grain.x - p.x * part->grain.y) / period + part->phase;
    double edge = 0; /* in units of the period, positive inside of the first colour */
    switch (part->fill) {
    case FILL_PLAIN: return 1;
    case FILL_STRIPES: edge = wave(u) / 4; break;
    case FILL_CHECKS: edge = wave(u) * wave(v) / 4; break;
    case FILL_RINGS: edge = wave(sqrt(p.x * p.x + p.y * p.y) / period + part->phase) / 4; break;
    case FILL_DOTS: {
        const double x = u - floor(u) - 0.5, y = v - floor(v) - 0.5;
        edge = 0.32 - sqrt(x * x + y * y);
        break;
    }
    }
    return larger(0, smaller(1, 0.5 + edge * period));
}

static size_t clamp_index(double at, size_t count)
{
    return at < 0 ? 0 : at > (double)count ? count : (size_t)at;
}

static void paint_part(const struct part *part, size_t width, size_t height, double *canvas)
{
    const double reach = part->radius * 1.5 + 2;
    const size_t x0 = clamp_index(part->centre.x - reach, width), x1 = clamp_index(part->centre.x + reach, width);
    const size_t y0 = clamp_index(part->centre.y - reach, height), y1 = clamp_index(part->centre.y + reach, height);
    for (size_t y = y0; y < y1; y++)
        for (size_t x = x0; x < x1; x++) {
            const struct vector p = {(double)x + 0.5 - part->centre.x, (double)y + 0.5 - part->centre.y};
            const struct vector turned = {
                p.x * part->direction.x + p.y * part->direction.y, p.y * part->direction.x - p.x * part->direction.y};
            const double cover = larger(0, smaller(1, 0.5 - distance_to(part, turned)));
            if (cover <= 0) continue;
            const double share = first_share(part, p);
            double *pixel = canvas + (y * width + x) * 3;
            for (size_t c = 0; c < 3; c++) {
                const double ink = share * part->colour[0].channel[c] + (1 - share) * part->colour[1].channel[c];
                pixel[c] += cover * (ink - pixel[c]);
            }
        }
}

static double mix(double a, double b, double share)
{
    return a + (b - a) * share;
}

static void paint_background(const struct scene *scene, double *canvas)
{
    for (size_t y = 0; y < scene->height; y++)
        for (size_t x = 0; x < scene->width; x++) {
            const double v = (double)y / (double)scene->height, u = (double)x / (double)scene->width;
            const size_t row = (size_t)(v * NOISE_CELLS), column = (size_t)(u * NOISE_CELLS);
            const double fy = v * NOISE_CELLS - (double)row, fx = u * NOISE_CELLS - (double)column;
            for (size_t c = 0; c < 3; c++) {
                const double *above = scene->soft[c][row] + column, *under = scene->soft[c][row + 1] + column;
                canvas[(y * scene->width + x) * 3 + c] =
                    mix(mix(scene->corner[0].channel[c], scene->corner[1].channel[c], u),
                        mix(scene->corner[2].channel[c], scene->corner[3].channel[c], u), v) +
                    mix(mix(above[0], above[1], fx), mix(under[0], under[1], fx), fy);
            }
        }
}

void demo_paint(const struct scene *scene, double *canvas)
{
    paint_background(scene, canvas);
    for (size_t i = 0; i < scene->parts; i++) paint_part(&scene->part[i], scene->width, scene->height, canvas);
}

/* Rounds to bytes, with the same triangular noise on all three channels of a pixel. */
void demo_round(const struct scene *scene, const double *canvas, const uint32_t *noise, uint8_t *pixels)
{
    for (size_t i = 0; i < scene->width * scene->height; i++) {
        const double grain = ((double)(noise[i] >> 16) - (double)(noise[i] & 0xffff)) * 0x1p-16 * scene->grain;
        for (size_t c = 0; c < 3; c++)
            pixels[3 * i + c] = (uint8_t)larger(0, smaller(255, floor(canvas[3 * i + c] + grain + 0.5)));
    }
}
