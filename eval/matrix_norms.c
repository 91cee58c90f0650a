/* Spectral norms by the eigenvalues of the Gram matrix d^T d, whose size is that of a head: a few hundred at most.
 *
 * The eigenvalue comes from Jacobi's rotations, which need no starting vector and converge for every symmetric matrix
 * (Golub and Van Loan, Matrix Computations, section 8.5). The Gram matrix squares the condition, which harms only the
 * small singular values: the largest is exact to rounding.
 */
#include "eval/matrix_norms.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_SWEEPS = 60 };

/* Sum of the squares beside the diagonal, and on it. */
static void weigh(const double *matrix, size_t size, double *beside, double *on)
{
    *beside = *on = 0;
    for (size_t i = 0; i < size; i++)
        for (size_t j = 0; j < size; j++) *(i == j ? on : beside) += matrix[i * size + j] * matrix[i * size + j];
}

/* Makes entry (p, q) zero by a rotation in the plane of p and q. */
static void rotate(double *matrix, size_t size, size_t p, size_t q)
{
    const double off = matrix[p * size + q];
    if (!(fabs(off) > 0)) return;
    const double theta = (matrix[q * size + q] - matrix[p * size + p]) / (2 * off);
    const double t = (theta < 0 ? -1 : 1) / (fabs(theta) + hypot(1, theta));
    const double c = 1 / hypot(1, t), s = t * c;
    for (size_t k = 0; k < size; k++) {
        const double kp = matrix[k * size + p], kq = matrix[k * size + q];
        matrix[k * size + p] = c * kp - s * kq;
        matrix[k * size + q] = s * kp + c * kq;
    }
    for (size_t k = 0; k < size; k++) {
        const double pk = matrix[p * size + k], qk = matrix[q * size + k];
        matrix[p * size + k] = c * pk - s * qk;
        matrix[q * size + k] = s * pk + c * qk;
    }
}

double t2t_largest_eigenvalue(double *matrix, size_t size)
{
    double beside, on, largest = 0;
    weigh(matrix, size, &beside, &on);
    if (!isfinite(beside + on)) return NAN;
    for (size_t sweep = 0; sweep < MOST_SWEEPS && beside > 1e-26 * on; sweep++) {
        for (size_t p = 0; p + 1 < size; p++)
            for (size_t q = p + 1; q < size; q++) rotate(matrix, size, p, q);
        weigh(matrix, size, &beside, &on);
    }
    for (size_t i = 0; i < size; i++)
        if (matrix[i * size + i] > largest) largest = matrix[i * size + i];
    return largest;
}

enum t2t_status t2t_norms_of_difference(
    const float *a, const float *b, size_t rows, size_t columns, size_t stride, struct matrix_norms *norms)
{
    double *gram = calloc((columns + 1) * columns, sizeof *gram);
    if (!gram) return t2t_fail_memory("a Gram matrix", (columns + 1) * columns * sizeof *gram);
    double *row = gram + columns * columns, trace = 0;
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < columns; i++) row[i] = (double)a[r * stride + i] - (b ? (double)b[r * stride + i] : 0);
        for (size_t i = 0; i < columns; i++)
            for (size_t j = i; j < columns; j++) gram[i * columns + j] += row[i] * row[j];
    }
    for (size_t i = 0; i < columns; i++) {
        trace += gram[i * columns + i];
        for (size_t j = 0; j < i; j++) gram[i * columns + j] = gram[j * columns + i];
    }
    norms->frobenius = sqrt(trace);
    norms->spectral = sqrt(t2t_largest_eigenvalue(gram, columns));
    free(gram);
    return T2T_OK;
}
