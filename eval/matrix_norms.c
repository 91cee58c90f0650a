/* Spectral norms by the largest eigenvalue of the Gram matrix of the shorter side: of d^T d, or of d d^T.
 *
 * The matrix becomes tridiagonal by Householder reflections (Golub and Van Loan, Matrix Computations, section 8.3), and
 * bisection finds its largest eigenvalue. Both need no starting vector, and close eigenvalues do no harm. Cost: 4/3
 * size^3. The Gram matrix squares the condition, which harms only the small singular values: the largest is exact to
 * rounding.
 */
#include "eval/matrix_norms.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "layers/base/tridiagonal.h"

enum { GATHERED = 4 };

/* ---- the largest eigenvalue ---- */

static double dot(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

/* p = a v of a symmetric [count, count] whose rows are `stride` apart, from its upper half alone. */
static void multiply(const double *a, size_t stride, const double *v, double *p, size_t count)
{
    for (size_t i = 0; i < count; i++) p[i] = 0;
    for (size_t i = 0; i < count; i++) {
        const double *row = a + i * stride;
        p[i] += row[i] * v[i] + dot(row + i + 1, v + i + 1, count - i - 1);
        for (size_t j = i + 1; j < count; j++) p[j] += row[j] * v[i];
    }
}

/* Reflects the rest of row `at` to one entry, from both sides. The row's place then holds the reflection's vector; the
 * entry goes to beside[at]. w [size] is scratch. */
static void reflect(double *matrix, size_t size, size_t at, double *beside, double *w)
{
    const size_t count = size - at - 1;
    double *v = matrix + at * size + at + 1, *rest = matrix + (at + 1) * size + at + 1;
    const double length = sqrt(dot(v, v, count)), entry = v[0] > 0 ? -length : length;
    beside[at] = entry;
    if (!(length > 0)) return;
    v[0] -= entry;
    const double beta = 2 / dot(v, v, count);
    multiply(rest, size, v, w, count);
    const double half = beta * beta / 2 * dot(w, v, count);
    for (size_t i = 0; i < count; i++) w[i] = beta * w[i] - half * v[i];
    for (size_t i = 0; i < count; i++)
        for (size_t j = i; j < count; j++) rest[i * size + j] -= v[i] * w[j] + w[i] * v[j];
}

enum t2t_status t2t_largest_eigenvalue(double *matrix, size_t size, double *largest)
{
    double scale = 0;
    for (size_t i = 0; i < size * size; i++) {
        if (!isfinite(matrix[i])) {
            *largest = NAN;
            return T2T_OK;
        }
        scale = fmax(scale, fabs(matrix[i]));
    }
    *largest = 0;
    if (!(scale > 0)) return T2T_OK;
    double *diagonal = calloc(3 * size, sizeof *diagonal), *beside = diagonal + size;
    if (!diagonal) return t2t_fail_memory("a tridiagonal matrix", 3 * size * sizeof *diagonal);
    for (size_t i = 0; i < size * size; i++) matrix[i] /= scale;
    for (size_t at = 0; at + 1 < size; at++) reflect(matrix, size, at, beside, beside + size);
    for (size_t i = 0; i < size; i++) diagonal[i] = matrix[i * size + i];
    *largest = scale * t2t_tridiagonal_largest(diagonal, beside, size, 0, 0);
    free(diagonal);
    return T2T_OK;
}

/* ---- norms ---- */

/* Adds the outer products of `count` vectors [size] with themselves to the upper half. */
static void add_products(double *gram, const double *vectors, size_t count, size_t size)
{
    if (count == GATHERED) {
        const double *a = vectors, *b = a + size, *c = b + size, *d = c + size;
        for (size_t i = 0; i < size; i++)
            for (size_t j = i; j < size; j++)
                gram[i * size + j] += a[i] * a[j] + b[i] * b[j] + c[i] * c[j] + d[i] * d[j];
        return;
    }
    for (; count; count--, vectors += size)
        for (size_t i = 0; i < size; i++)
            for (size_t j = i; j < size; j++) gram[i * size + j] += vectors[i] * vectors[j];
}

enum t2t_status t2t_norms_of_difference(
    const float *a, const float *b, size_t rows, size_t columns, size_t stride, struct matrix_norms *norms)
{
    const bool wide = columns > rows;
    const size_t size = wide ? rows : columns, length = wide ? columns : rows;
    const size_t step = wide ? stride : 1, next = wide ? 1 : stride;
    double *gram = calloc((size + GATHERED) * size, sizeof *gram);
    if (!gram) return t2t_fail_memory("a Gram matrix", (size + GATHERED) * size * sizeof *gram);
    double *vectors = gram + size * size, trace = 0;
    for (size_t first = 0; first < length;
         first += GATHERED) { /* several at a time: the matrix may not fit the cache */
        const size_t count = length - first < GATHERED ? length - first : GATHERED;
        for (size_t n = 0; n < count; n++)
            for (size_t i = 0; i < size; i++) {
                const size_t from = (first + n) * next + i * step;
                vectors[n * size + i] = (double)a[from] - (b ? (double)b[from] : 0);
            }
        add_products(gram, vectors, count, size);
    }
    for (size_t i = 0; i < size; i++) trace += gram[i * size + i];
    norms->frobenius = sqrt(trace);
    const enum t2t_status status = t2t_largest_eigenvalue(gram, size, &norms->spectral);
    norms->spectral = sqrt(norms->spectral);
    free(gram);
    return status;
}
