/* Synthetic numbers; see synthetic_numbers.h. */
#include "layers/tests/synthetic_numbers.h"

#include <math.h>
#include <stdio.h>

static const uint64_t golden_gamma = UINT64_C(0x9E3779B97F4A7C15);

static uint64_t fnv1a(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t splitmix64(uint64_t x)
{
    x += golden_gamma;
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

static float uniform(uint64_t base, size_t i)
{
    return (float)(splitmix64(base + i) >> 40) * 0x1p-23F - 1;
}

void synthetic_uniform(const char *name, uint64_t seed, size_t count, float *out)
{
    const uint64_t base = fnv1a(name) ^ seed * golden_gamma;
    for (size_t i = 0; i < count; i++) out[i] = uniform(base, i);
}

void synthetic_normal(const char *name, uint64_t seed, size_t count, double *out)
{
    char part[96];
    snprintf(part, sizeof part, "%s.a", name);
    const uint64_t a = fnv1a(part) ^ seed * golden_gamma;
    snprintf(part, sizeof part, "%s.b", name);
    const uint64_t b = fnv1a(part) ^ seed * golden_gamma;
    for (size_t i = 0; i < count; i++) {
        const double radius = ((double)uniform(a, i) + 1) / 2, angle = ((double)uniform(b, i) + 1) / 2;
        out[i] = sqrt(-2 * log(1 - radius)) * cos(2 * 3.14159265358979323846 * angle);
    }
}
