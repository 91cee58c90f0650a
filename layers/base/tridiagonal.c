#include "layers/base/tridiagonal.h"

#include <math.h>
#include <stdbool.h>

/* Whether an eigenvalue is above x: whether a pivot of matrix - x is positive. */
static bool is_below(double x, const double *diagonal, const double *beside, size_t size)
{
    static const double nothing = -1e-290; /* in place of a pivot of 0 */
    double pivot = 1;
    for (size_t i = 0; i < size; i++) {
        pivot = diagonal[i] - x - (i ? beside[i - 1] * beside[i - 1] / pivot : 0);
        if (pivot > 0) return true;
        if (pivot > nothing) pivot = nothing;
    }
    return false;
}

double t2t_tridiagonal_largest(const double *diagonal, const double *beside, size_t size, double low, double tolerance)
{
    double high = low;
    for (size_t i = 0; i < size; i++) { /* Gershgorin's circles */
        const double radius = (i ? fabs(beside[i - 1]) : 0) + (i + 1 < size ? fabs(beside[i]) : 0);
        high = fmax(high, diagonal[i] + radius);
    }
    while (high - low > tolerance * high) {
        const double middle = low + (high - low) / 2;
        if (!(middle > low && middle < high)) break;
        *(is_below(middle, diagonal, beside, size) ? &low : &high) = middle;
    }
    return high;
}
