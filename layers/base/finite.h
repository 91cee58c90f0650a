/* Finding NaN and infinity. */
#ifndef T2T_LAYERS_BASE_FINITE_H
#define T2T_LAYERS_BASE_FINITE_H

#include <stddef.h>

/* Index of the first NaN or infinity among x[count], `count` when all are finite. */
size_t t2t_first_not_finite(const float *x, size_t count);

#endif
