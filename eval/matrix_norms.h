/* Norms of matrices in double: how far an approximation of attention is from the exact one. */
#ifndef T2T_EVAL_MATRIX_NORMS_H
#define T2T_EVAL_MATRIX_NORMS_H

#include <stddef.h>

#include "layers/base/status.h"

struct matrix_norms {
    double spectral, frobenius;
};

/* Of a - b, or of a alone where b is NULL: [rows, columns], rows `stride` floats apart. NaN where a value is not
 * finite. T2T_NO_RESOURCE. */
enum t2t_status t2t_norms_of_difference(
    const float *a, const float *b, size_t rows, size_t columns, size_t stride, struct matrix_norms *norms);

/* Largest eigenvalue of a symmetric positive semidefinite matrix [size, size], to rounding; only its upper half counts,
 * and it is destroyed. NaN where an entry is not finite. T2T_NO_RESOURCE. */
enum t2t_status t2t_largest_eigenvalue(double *matrix, size_t size, double *largest);

#endif
