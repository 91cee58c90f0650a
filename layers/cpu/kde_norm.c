/* KDEformer's published probabilities of keys, from the lengths of the rows of W = [V, 1] and its operator norm. */
#include <math.h>
#include <string.h>

#include "layers/base/tridiagonal.h"
#include "layers/cpu/kde_attention.h"

static double norm_of(const double *x, size_t count)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++) squares += x[i] * x[i];
    return sqrt(squares);
}

static double dot_of(const double *x, const double *y, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += x[i] * y[i];
    return sum;
}

/* The rows of W, and the power of two that they come in units of: 1, unless squares leave the range of float32. */
struct rows {
    const struct attention_kernels *kernels;
    const float *v;
    size_t stride, count, dim;
    double unit;
};

static double entry(const struct rows *w, size_t row, size_t c)
{
    return (c < w->dim ? (double)w->v[row * w->stride + c] : 1) / w->unit;
}

/* out = W^T W x. */
static void times_gram(const struct rows *w, const double *x, double *out, float *narrow)
{
    const size_t width = w->dim + 1;
    memset(out, 0, width * sizeof *out);
    if (w->unit > 1) {
        for (size_t row = 0; row < w->count; row++) {
            double product = 0;
            for (size_t c = 0; c < width; c++) product += entry(w, row, c) * x[c];
            for (size_t c = 0; c < width; c++) out[c] += product * entry(w, row, c);
        }
        return;
    }
    for (size_t c = 0; c < width; c++) narrow[c] = (float)x[c];
    w->kernels->gram_times(w->v, w->stride, w->count, w->dim, narrow, narrow + width, out);
}

/* norm[j] = the length of row j; chooses the unit. */
static void row_lengths(struct rows *w, float *norm)
{
    float longest = 0, largest = 0;
    w->unit = 1;
    w->kernels->row_norms(w->v, w->stride, w->count, w->dim, norm);
    for (size_t j = 0; j < w->count; j++) longest = norm[j] > longest ? norm[j] : longest;
    if (longest < 0x1p50F) return;
    for (size_t j = 0; j < w->count; j++)
        for (size_t c = 0; c < w->dim; c++) largest = fmaxf(largest, fabsf(w->v[j * w->stride + c]));
    if (!isfinite(largest)) return;
    w->unit = ldexp(1, ilogb((double)largest));
    for (size_t j = 0; j < w->count; j++) {
        double squares = 0;
        for (size_t c = 0; c <= w->dim; c++) squares += entry(w, j, c) * entry(w, j, c);
        norm[j] = (float)sqrt(squares);
    }
}

/* A direction that no weights were trained to avoid: the fractions of multiples of the golden ratio, less a half. */
static double spread_out(size_t c)
{
    return (double)((uint32_t)(c + 1) * UINT32_C(2654435769)) * 0x1p-32 - 0.5;
}

/* What the lengths of W's rows say of probabilities. */
struct lengths {
    double shortest, mean, longest;
    size_t longest_row;
};

static struct lengths lengths_of(const float *norm, size_t keys)
{
    struct lengths lengths = {.shortest = INFINITY};
    for (size_t j = 0; j < keys; j++) {
        const double length = (double)norm[j];
        if (length > lengths.longest) {
            lengths.longest = length;
            lengths.longest_row = j;
        }
        if (length < lengths.shortest) lengths.shortest = length;
        lengths.mean += length / (double)keys;
    }
    return lengths;
}

/* How many times a relative error of the norm is the largest of the probabilities': p is in proportion to |w| + even,
 * even = norm / keys, so its error is that of even's share in it, less what all have in common. */
static double sensitivity(const struct lengths *lengths, double even)
{
    const double mean = even / (lengths->mean + even);
    return fmax(even / (lengths->shortest + even) - mean, mean - even / (lengths->longest + even));
}

/* Operator norm of W = [V, 1] by Lanczos' method on W^T W, every step made orthogonal to all before. It begins with the
 * sum of W's rows, its longest row and a fixed direction, each of length one, so that neither a common direction nor a
 * single huge value is missed, nor a strong direction along which rows cancel.
 * It ends once a step changed no probability by more than `tolerance`, relative. */
static double operator_norm(const struct rows *w, const struct lengths *lengths, double tolerance, double *vectors)
{
    const size_t width = w->dim + 1;
    double *basis = vectors; /* [T2T_KDE_STEPS, width] */
    double *next = vectors + T2T_KDE_STEPS * width;
    float *narrow = (float *)(next + width);
    double diagonal[T2T_KDE_STEPS], beside[T2T_KDE_STEPS], largest = 0;

    memset(basis, 0, width * sizeof *basis);
    basis[w->dim] = 1;
    times_gram(w, basis, next, narrow); /* the sum of all rows */
    const double length = norm_of(next, width);
    for (size_t c = 0; c < width; c++) basis[c] = entry(w, lengths->longest_row, c);
    const double longest_length = norm_of(basis, width);
    const double spread_length = sqrt((double)width / 12);
    for (size_t c = 0; c < width; c++)
        basis[c] = basis[c] / longest_length + next[c] / length + spread_out(c) / spread_length;
    const double start = norm_of(basis, width);
    for (size_t c = 0; c < width; c++) basis[c] /= start;

    for (size_t step = 0; step < T2T_KDE_STEPS; step++) {
        times_gram(w, basis + step * width, next, narrow);
        diagonal[step] = dot_of(next, basis + step * width, width);
        for (size_t i = 0; i <= step; i++) {
            const double share = dot_of(next, basis + i * width, width);
            for (size_t c = 0; c < width; c++) next[c] -= share * basis[i * width + c];
        }
        const double before = largest;
        largest = t2t_tridiagonal_largest(diagonal, beside, step + 1, before, 1e-7);
        beside[step] = norm_of(next, width);
        const double change = (largest - before) / (2 * largest); /* of the norm */
        if (!(change * sensitivity(lengths, sqrt(largest) / (double)w->count) > tolerance) ||
            !(beside[step] > 1e-7 * largest) || step + 1 == (T2T_KDE_STEPS < width ? T2T_KDE_STEPS : width))
            break;
        for (size_t c = 0; c < width; c++) basis[(step + 1) * width + c] = next[c] / beside[step];
    }
    return sqrt(largest);
}

double t2t_kde_value_norms(const struct attention_kernels *kernels, const float *v, size_t stride, size_t keys,
    size_t dim, float *norm, double *vectors)
{
    struct rows w = {.kernels = kernels, .v = v, .stride = stride, .count = keys, .dim = dim};
    row_lengths(&w, norm);
    const struct lengths lengths = lengths_of(norm, keys);
    return operator_norm(&w, &lengths, 6e-7, vectors); /* a slow step may be one of many: far below what is wanted */
}

void t2t_kde_probability(const struct attention_kernels *kernels, const float *v, size_t stride, size_t keys,
    size_t dim, float *probability, double *vectors)
{
    const double norm = t2t_kde_value_norms(kernels, v, stride, keys, dim, probability, vectors);
    double sum = 0;
    for (size_t j = 0; j < keys; j++) sum += (double)probability[j] / norm + 1 / (double)keys;
    for (size_t j = 0; j < keys; j++)
        probability[j] = (float)(((double)probability[j] / norm + 1 / (double)keys) / sum);
}
