/* The inner loops of resampling, one set an instruction set; all give the same bytes. resample_c.c is plain C and the
 * definition. Internal to loaders/.
 */
#ifndef T2T_LOADERS_RESAMPLE_KERNELS_H
#define T2T_LOADERS_RESAMPLE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loaders/resample.h"

enum { RESAMPLE_FRACTION_BITS = 32 - 8 - 2 };

/* A sum of bytes times weights, and half of the last place, to a byte. */
static inline uint8_t t2t_resample_rounded(int32_t sum)
{
    const int32_t value = sum >> RESAMPLE_FRACTION_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Weights of `count` results along one direction. */
struct resample_weights {
    size_t taps;   /* room for each result */
    size_t *first; /* [count] first input it sees */
    size_t *used;  /* [count] how many it sees */
    int32_t *tap;  /* [count, taps], RESAMPLE_FRACTION_BITS of fraction; 0 from `used` on */
};

struct resample_kernels {
    const char *name;
    bool (*supported)(void);
    /* out [rows, count, 3]: `rows` rows of pixels, row y at in + y * stride, to `count` results each. Reads nothing
     * behind the last row's last pixel, in + (rows - 1) * stride + stride. */
    void (*along_rows)(const uint8_t *in, size_t stride, size_t rows, const struct resample_weights *weights,
        size_t count, uint8_t *out);
    /* out [bytes] from `used` rows of `bytes` bytes each. */
    void (*along_columns)(const uint8_t *in, size_t bytes, const int32_t *tap, size_t used, uint8_t *out);
};

/* All sets, the best first, then NULL. */
extern const struct resample_kernels *const t2t_resample_sets[];

/* The best set that this machine supports; plain C where T2TVIT_CPU asks for it. */
const struct resample_kernels *t2t_resample_choose(void);

enum t2t_status t2t_resample_with(
    const struct resample_kernels *kernels, const struct resample *shape, const uint8_t *rgb, uint8_t *out);

#endif
