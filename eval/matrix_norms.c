/* Spectral norms by the largest eigenvalue of a Gram matrix, d^T d or d d^T, whichever is smaller.
 *
 * Householder's reflections make it tridiagonal, then bisection counts eigenvalues by the signs of a Sturm sequence
 * (Golub and Van Loan, Matrix Computations, sections 8.3 and 8.4): no starting vector, and no harm from eigenvalues that
 * are close or equal. The Gram matrix squares the condition, which harms only the small singular values: the largest is
 * exact to rounding.
 */
#include "eval/matrix_norms.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* Reflects rows and columns until only the diagonal and what is beside it are left. `matrix` is destroyed. */
static void make_tridiagonal(double *matrix, size_t size, double *diagonal, double *beside, double *product)
{
    for (size_t k = 0; k + 2 < size; k++) {
        double *column = matrix + k * size; /* row k, by symmetry: what lies behind the diagonal */
        double squares = 0;
        for (size_t i = k + 2; i < size; i++) squares += column[i] * column[i];
        diagonal[k] = column[k];
        beside[k] = column[k + 1];
        if (!(squares > 0)) continue;
        const double length = sqrt(column[k + 1] * column[k + 1] + squares);
        beside[k] = column[k + 1] > 0 ? -length : length;
        column[k + 1] -= beside[k]; /* now the reflection's vector u; |u|^2 = 2 length (length + |x_1|) */
        const double half = (squares + column[k + 1] * column[k + 1]) / 2;
        double along = 0;
        for (size_t i = k + 1; i < size; i++) {
            product[i] = 0;
            for (size_t j = k + 1; j < size; j++) product[i] += matrix[i * size + j] * column[j];
            product[i] /= half;
            along += product[i] * column[i];
        }
        for (size_t i = k + 1; i < size; i++) product[i] -= along / (2 * half) * column[i];
        for (size_t i = k + 1; i < size; i++)
            for (size_t j = k + 1; j < size; j++)
                matrix[i * size + j] -= column[i] * product[j] + product[i] * column[j];
    }
    for (size_t k = size < 2 ? 0 : size - 2; k < size; k++) {
        diagonal[k] = matrix[k * size + k];
        if (k + 1 < size) beside[k] = matrix[k * size + k + 1];
    }
}

/* Whether some eigenvalue of the tridiagonal matrix is at least x. */
static bool reaches(const double *diagonal, const double *beside, size_t size, double x)
{
    double pivot = x - diagonal[0];
    for (size_t i = 1; i < size && pivot > 0; i++) pivot = x - diagonal[i] - beside[i - 1] * beside[i - 1] / pivot;
    return !(pivot > 0);
}

double t2t_largest_eigenvalue(double *matrix, size_t size)
{
    double largest = 0, high = 0;
    for (size_t i = 0; i < size * size; i++) largest = fmax(largest, fabs(matrix[i]));
    for (size_t i = 0; i < size * size; i++)
        if (!isfinite(matrix[i])) return NAN;
    if (!(largest > 0)) return 0;
    double *diagonal = malloc(3 * size * sizeof *diagonal);
    if (!diagonal) return NAN;
    double *beside = diagonal + size, *product = beside + size;
    for (size_t i = 0; i < size * size; i++) matrix[i] /= largest; /* no square over- or underflows */
    make_tridiagonal(matrix, size, diagonal, beside, product);
    for (size_t i = 0; i < size; i++) /* Gershgorin */
        high = fmax(high, diagonal[i] + (i ? fabs(beside[i - 1]) : 0) + (i + 1 < size ? fabs(beside[i]) : 0));
    double low = 0;
    for (int step = 0; step < 200 && high - low > 1e-15 * high; step++) {
        const double middle = low + (high - low) / 2;
        if (reaches(diagonal, beside, size, middle))
            low = middle;
        else
            high = middle;
    }
    free(diagonal);
    return largest * (low + high) / 2;
}

/* gram [columns, columns] of d = a - b; its upper half alone. */
static void gram_of_columns(
    const float *a, const float *b, size_t rows, size_t columns, size_t stride, double *gram, double *row)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < columns; i++) row[i] = (double)a[r * stride + i] - (b ? (double)b[r * stride + i] : 0);
        for (size_t i = 0; i < columns; i++)
            for (size_t j = i; j < columns; j++) gram[i * columns + j] += row[i] * row[j];
    }
}

/* gram [rows, rows]; its upper half alone. */
static void gram_of_rows(const float *a, const float *b, size_t rows, size_t columns, size_t stride, double *gram)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t s = r; s < rows; s++)
            for (size_t i = 0; i < columns; i++) {
                const double x = (double)a[r * stride + i] - (b ? (double)b[r * stride + i] : 0);
                const double y = (double)a[s * stride + i] - (b ? (double)b[s * stride + i] : 0);
                gram[r * rows + s] += x * y;
            }
}

enum t2t_status t2t_norms_of_difference(
    const float *a, const float *b, size_t rows, size_t columns, size_t stride, struct matrix_norms *norms)
{
    const size_t size = rows < columns ? rows : columns;
    double *gram = calloc((size + 1) * size, sizeof *gram);
    if (!gram) return t2t_fail_memory("a Gram matrix", (size + 1) * size * sizeof *gram);
    if (rows < columns)
        gram_of_rows(a, b, rows, columns, stride, gram);
    else
        gram_of_columns(a, b, rows, columns, stride, gram, gram + size * size);
    double trace = 0;
    for (size_t i = 0; i < size; i++) {
        trace += gram[i * size + i];
        for (size_t j = 0; j < i; j++) gram[i * size + j] = gram[j * size + i];
    }
    norms->frobenius = sqrt(trace);
    norms->spectral = sqrt(t2t_largest_eigenvalue(gram, size));
    free(gram);
    return T2T_OK;
}
