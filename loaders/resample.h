/* Pillow's antialiased resizing, for the part of the result that is kept. Internal to loaders/. */
#ifndef T2T_LOADERS_RESAMPLE_H
#define T2T_LOADERS_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"
#include "loaders/preprocess.h"

struct resample {
    size_t in_width, in_height;   /* of the picture */
    size_t out_width, out_height; /* it is resized to */
    size_t left, top, side;       /* the square of the result that is computed */
    enum t2t_interpolation interpolation;
};

/* out [side, side, 3] = that square of what Pillow's resize gives, bit for bit. T2T_NO_RESOURCE when memory is short. */
enum t2t_status t2t_resample(const struct resample *shape, const uint8_t *rgb, uint8_t *out);

#endif
