/* Random numbers that depend on what they are for, never on when or where they are drawn.
 *
 * Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011), a counter-based
 * generator: key = seed, counter = (block of four numbers, image index low, image index high, layer and head and
 * purpose). The same numbers come out for every batch size, thread count, shard and device.
 */
#ifndef T2T_LAYERS_BASE_RANDOM_H
#define T2T_LAYERS_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* What a stream is for; each purpose is a stream of its own. Values are part of the format: never renumber. */
enum t2t_random_purpose {
    T2T_RANDOM_PROJECTION = 1, /* hyperplanes of the locality-sensitive hash */
    T2T_RANDOM_SAMPLE = 2,     /* sampled keys */
    T2T_RANDOM_FEATURES = 3,   /* random features */
    T2T_RANDOM_ROTATION = 4,   /* rotations of LSH rounds */
    T2T_RANDOM_PILOT = 5,      /* pilot queries */
    T2T_RANDOM_PICTURE = 6,    /* what a drawn picture shows */
    T2T_RANDOM_GRAIN = 7,      /* its noise */
    T2T_RANDOM_TEST = 255      /* tests and synthetic inputs */
};

struct t2t_random_key {
    uint64_t seed;
    uint64_t image;   /* index of the picture in the sorted data set */
    uint32_t layer;   /* 0 and 1: tokens-to-token layers, then the blocks; below 4096 */
    uint32_t head;    /* below 4096 */
    uint32_t purpose; /* enum t2t_random_purpose; below 256 */
};

/* out[i] = number i of the stream, uniform on 32 bits. */
void t2t_random_uint32(struct t2t_random_key key, size_t count, uint32_t *out);

/* out[i] = number i of the stream, standard normal (Box and Muller on pairs of 32-bit numbers, in double). */
void t2t_random_normal(struct t2t_random_key key, size_t count, float *out);

#endif
