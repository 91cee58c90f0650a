/* Reformer's hash on its own, so that tests can hold it against its definition (layers/methods.md). */
#ifndef T2T_LAYERS_CPU_REFORMER_ATTENTION_H
#define T2T_LAYERS_CPU_REFORMER_ATTENTION_H

#include <stdint.h>

#include "layers/cpu/cpu_attention.h"

/* hash[i] = the first place of the largest among [x_i R, -x_i R], 0 ... 2 half - 1, as exact products have it: where
 * float32 cannot tell, the products are taken again in float64. So the order of tokens is the same with every set of
 * kernels. `rotated` is R transposed, [half, head_dim of the tile], its longest row `longest`; x row i at
 * x + i * stride. */
void t2t_rotation_hash(const struct attention_kernels *kernels, const struct query_tile *tile, const float *x,
    size_t stride, size_t rows, const float *rotated, size_t half, double longest, uint32_t *hash);

double t2t_longest_row(const float *rows, size_t count, size_t dim);

#endif
