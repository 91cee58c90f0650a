/* Philox streams; see random.h. */
#include "layers/base/random.h"

#include <Random123/philox.h>
#include <assert.h>
#include <math.h>
#include <string.h>

/* Four numbers of the stream: those from 4 * block on. */
static void philox_block(const struct t2t_random_key *key, uint32_t block, uint32_t out[4])
{
    assert(key->layer < 4096 && key->head < 4096 && key->purpose < 256);
    const philox4x32_ctr_t counter = {
        {block, (uint32_t)key->image, (uint32_t)(key->image >> 32), key->layer << 20 | key->head << 8 | key->purpose}};
    const philox4x32_key_t philox_key = {{(uint32_t)key->seed, (uint32_t)(key->seed >> 32)}};
    const philox4x32_ctr_t numbers = philox4x32(counter, philox_key);
    memcpy(out, numbers.v, sizeof numbers.v);
}

void t2t_random_uint32(struct t2t_random_key key, size_t count, uint32_t *out)
{
    uint32_t numbers[4];
    for (size_t i = 0; i < count; i += 4) {
        philox_block(&key, (uint32_t)(i / 4), numbers);
        memcpy(out + i, numbers, (count - i < 4 ? count - i : 4) * sizeof *out);
    }
}

void t2t_random_normal(struct t2t_random_key key, size_t count, float *out)
{
    static const double two_pi = 6.283185307179586477;
    uint32_t numbers[4];
    for (size_t i = 0; i < count; i += 4) {
        philox_block(&key, (uint32_t)(i / 4), numbers);
        double normal[4];
        for (size_t pair = 0; pair < 4; pair += 2) {
            /* the half keeps the logarithm's argument away from 0 */
            const double radius = sqrt(-2 * log((numbers[pair] + 0.5) * 0x1p-32));
            const double angle = two_pi * (numbers[pair + 1] * 0x1p-32);
            normal[pair] = radius * cos(angle);
            normal[pair + 1] = radius * sin(angle);
        }
        for (size_t j = 0; j < 4 && i + j < count; j++) out[i + j] = (float)normal[j];
    }
}
