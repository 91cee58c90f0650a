/* Statistics of answers. */
#include "eval/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double z95 = 1.959963984540054; /* 97.5 % quantile of the normal distribution */

/* Whether class a comes before class b. */
static int precedes(const float *logits, size_t a, size_t b)
{
    const float x = logits[a], y = logits[b];
    if (isnan(x) || isnan(y)) return isnan(y) && (!isnan(x) || a < b);
    return x > y || (x == y && a < b);
}

size_t t2t_rank_of(const float *logits, size_t classes, size_t label)
{
    if (isnan(logits[label])) return classes; /* no answer is no right answer, whatever the others are */
    size_t rank = 0;
    for (size_t i = 0; i < classes; i++) rank += i != label && precedes(logits, i, label);
    return rank;
}

void t2t_top_classes(const float *logits, size_t classes, size_t count, size_t *best)
{
    size_t found = 0;
    for (size_t i = 0; i < classes; i++) {
        size_t place = found;
        while (place > 0 && precedes(logits, i, best[place - 1])) place--;
        if (place >= count) continue;
        if (found < count) found++;
        for (size_t j = found - 1; j > place; j--) best[j] = best[j - 1];
        best[place] = i;
    }
}

/* log of the sum of exponentials, with the largest taken out; NaN logits count as minus infinity. */
static double log_sum(const float *logits, size_t classes)
{
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < classes; i++)
        if (logits[i] > largest) largest = logits[i];
    if (isinf(largest)) return largest;
    for (size_t i = 0; i < classes; i++)
        if (!isnan(logits[i])) sum += exp(logits[i] - largest);
    return largest + log(sum);
}

void t2t_probabilities(const float *logits, size_t classes, double *probability)
{
    const double sum = log_sum(logits, classes);
    for (size_t i = 0; i < classes; i++) probability[i] = exp(logits[i] - sum);
}

double t2t_log_loss(const float *logits, size_t classes, size_t label)
{
    return log_sum(logits, classes) - logits[label];
}

struct interval t2t_wilson(size_t correct, size_t total)
{
    if (total == 0) return (struct interval){0, 1};
    const double n = (double)total, p = (double)correct / n, z2 = z95 * z95;
    const double centre = (p + z2 / (2 * n)) / (1 + z2 / n);
    const double half = z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n));
    return (struct interval){.low = correct == 0 ? 0 : centre - half, .high = correct == total ? 1 : centre + half};
}

double t2t_mcnemar(size_t lost, size_t gained)
{
    const size_t n = lost + gained, fewer = lost < gained ? lost : gained;
    double tail = 0;
    for (size_t i = 0; i <= fewer; i++) /* binomial(n, i) / 2^n, by logarithms so that nothing overflows */
        tail += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) - (double)n * log(2));
    return fmin(1, 2 * tail);
}

struct interval t2t_paired_mean_drop(size_t lost, size_t gained, size_t squares, size_t seeds, size_t total)
{
    /* one picture more of each kind: without it few pairs, or none, would give an interval without width */
    const double n = (double)total + 2, each = (double)seeds;
    const double drop = ((double)lost - (double)gained) / (each * n);
    const double half = z95 * sqrt((((double)squares / (each * each) + 2) / n - drop * drop) / n);
    return (struct interval){.low = fmax(-1, drop - half), .high = fmin(1, drop + half)};
}

struct interval t2t_paired_drop(size_t lost, size_t gained, size_t total)
{
    return t2t_paired_mean_drop(lost, gained, lost + gained, 1, total);
}

double t2t_deviation(const double *value, size_t count)
{
    if (count < 2) return 0;
    double mean = 0, squares = 0;
    for (size_t i = 0; i < count; i++) mean += value[i] / (double)count;
    for (size_t i = 0; i < count; i++) squares += (value[i] - mean) * (value[i] - mean);
    return sqrt(squares / (double)(count - 1));
}

static int compare_numbers(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t count, double share)
{
    const double at = share * (double)(count - 1);
    const size_t below = (size_t)at;
    const size_t above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (at - (double)below) * (sorted[above] - sorted[below]);
}

static struct quartiles quartiles_of(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_numbers);
    return (struct quartiles){
        quantile(values, count, 0.25), quantile(values, count, 0.5), quantile(values, count, 0.75)};
}

struct quartiles t2t_quartiles(const double *values, size_t count)
{
    double *copy = count ? malloc(count * sizeof *copy) : NULL;
    if (!copy) return (struct quartiles){NAN, NAN, NAN};
    memcpy(copy, values, count * sizeof *copy);
    const struct quartiles quartiles = quartiles_of(copy, count);
    free(copy);
    return quartiles;
}

struct quartiles t2t_speedup(const double *reference_ms, const double *ms, size_t count)
{
    double *ratio = count ? malloc(count * sizeof *ratio) : NULL;
    if (!ratio) return (struct quartiles){NAN, NAN, NAN};
    for (size_t i = 0; i < count; i++) ratio[i] = reference_ms[i] / ms[i];
    const struct quartiles quartiles = quartiles_of(ratio, count);
    free(ratio);
    return quartiles;
}
