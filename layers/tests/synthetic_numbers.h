/* Numbers that follow from a name, a count and a seed, so that references need no stored inputs.
 *
 *   h = FNV-1a 64 of the name;  r(i) = splitmix64((h xor seed * 0x9E3779B97F4A7C15) + i)
 *   uniform(i) = (r(i) >> 40) * 2^-23 - 1, in [-1, 1)
 */
#ifndef T2T_LAYERS_TESTS_SYNTHETIC_NUMBERS_H
#define T2T_LAYERS_TESTS_SYNTHETIC_NUMBERS_H

#include <stddef.h>
#include <stdint.h>

void synthetic_uniform(const char *name, uint64_t seed, size_t count, float *out);

/* Box and Muller on the uniforms of `name`.a and `name`.b. */
void synthetic_normal(const char *name, uint64_t seed, size_t count, double *out);

#endif
