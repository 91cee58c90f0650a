/* Symmetric tridiagonal matrices. */
#ifndef T2T_LAYERS_BASE_TRIDIAGONAL_H
#define T2T_LAYERS_BASE_TRIDIAGONAL_H

#include <stddef.h>

/* The largest eigenvalue of the matrix with this diagonal [size] and `beside` [size - 1] next to it, by bisection on
 * the signs of its pivots (Golub and Van Loan, Matrix Computations, section 8.4). It is known to be at least `low`, and
 * found to within `tolerance` of itself, from above; 0: to the last bit. */
double t2t_tridiagonal_largest(const double *diagonal, const double *beside, size_t size, double low, double tolerance);

#endif
