/* Finding NaN and infinity at the speed of memory. */
#include "layers/base/finite.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { CHUNK = 1024 };

size_t t2t_first_not_finite(const float *x, size_t count)
{
    size_t i = 0;
    for (; i + CHUNK <= count; i += CHUNK) {
        /* the largest exponent of a chunk tells, without a branch an element */
        uint32_t bits[CHUNK], largest = 0;
        memcpy(bits, x + i, sizeof bits);
        for (size_t j = 0; j < CHUNK; j++) {
            const uint32_t magnitude = bits[j] & UINT32_C(0x7fffffff);
            largest = magnitude > largest ? magnitude : largest;
        }
        if (largest >= UINT32_C(0x7f800000)) break;
    }
    while (i < count && isfinite(x[i])) i++;
    return i;
}
