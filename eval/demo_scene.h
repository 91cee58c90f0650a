/* A drawn picture before it has pixels: what demo_pictures.c chooses and demo_paint.c paints. Lengths are in pixels. */
#ifndef T2T_EVAL_DEMO_SCENE_H
#define T2T_EVAL_DEMO_SCENE_H

#include <stddef.h>
#include <stdint.h>

enum shape { SHAPE_DISC, SHAPE_SQUARE, SHAPE_TRIANGLE, SHAPE_PLUS, SHAPE_ARROW };
enum fill { FILL_PLAIN, FILL_STRIPES, FILL_CHECKS, FILL_RINGS, FILL_DOTS };

struct vector {
    double x, y;
};

struct colour {
    double channel[3]; /* 0 ... 255 */
};

struct part {
    enum shape shape;
    struct vector centre, direction; /* direction: a unit vector */
    double radius;
    enum fill fill;
    struct vector grain; /* unit vector: across the stripes */
    double period, phase;
    struct colour colour[2];
};

enum { CLUTTER = 14, MAX_PARTS = CLUTTER + 2, NOISE_CELLS = 5 };

struct scene {
    size_t width, height;
    double side; /* of the crop, in pixels */
    struct colour corner[4];
    double soft[3][NOISE_CELLS + 1][NOISE_CELLS + 1];
    struct part part[MAX_PARTS];
    size_t parts;
    double grain;
};

/* canvas [height, width, 3] = background, then the parts in their order; 0 ... 255. */
void demo_paint(const struct scene *scene, double *canvas);

/* pixels [height, width, 3] = canvas with grain, as bytes; noise [height * width] uniform on 32 bits. */
void demo_round(const struct scene *scene, const double *canvas, const uint32_t *noise, uint8_t *pixels);

#endif
