/* KDEformer's random part on its own, so that tests can hold it against its definition (layers/kdeformer.md). */
#ifndef T2T_LAYERS_CPU_KDE_ATTENTION_H
#define T2T_LAYERS_CPU_KDE_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "layers/cpu/kernels.h"

/* Place of a code word along the reflected Gray sequence, bit b having weight 2^b. */
uint16_t t2t_gray_rank(uint16_t code);

/* p_j proportional to |[v_j, 1]| / |[V, 1]| + 1 / keys, summing to one; |[V, 1]| is the operator norm, found by Lanczos
 * steps until p stands to 1e-5. vectors [T2T_KDE_VECTORS (dim + 1)] is scratch. */
enum { T2T_KDE_STEPS = 40, T2T_KDE_VECTORS = T2T_KDE_STEPS + 2 };
void t2t_kde_probability(const struct attention_kernels *kernels, const float *v, size_t stride, size_t keys,
    size_t dim, float *probability, double *vectors);

/* norm[j] = |[v_j, 1]|; returns |[V, 1]| so closely that the p above stand. Both are in a unit of their own where
 * squares of v leave the range of float32: what counts is their ratio. */
double t2t_kde_value_norms(const struct attention_kernels *kernels, const float *v, size_t stride, size_t keys,
    size_t dim, float *norm, double *vectors);

/* weight[j] = max(1, round(2^32 p_j)): the integers that all devices sample from; cumulative[j] = their sum up to j. */
void t2t_kde_weigh(const float *probability, size_t keys, uint64_t *weight);
void t2t_kde_cumulate(const float *probability, size_t keys, uint64_t *cumulative);

/* The first key j with cumulative[j] > (uniform * cumulative[keys - 1]) >> 32. */
size_t t2t_kde_pick(const uint64_t *cumulative, size_t keys, uint32_t uniform);

/* A sampled key, and how often it is drawn in the mean over all `uniform`. */
struct kde_sample {
    size_t key;
    double expected;
};

/* Systematic sampling without replacement: min(samples, keys) distinct keys in the order of `order` [keys], a key in
 * proportion to its weight but at most once. Keys that would be drawn once or more are certain (expected is 1); the
 * others lie on a line in that order, each as long as its weight, under equally spaced points that begin at `uniform`
 * of 2^32 of the spacing. Overwrites weight. Returns the number of samples. */
size_t t2t_kde_systematic(
    const uint32_t *order, size_t keys, size_t samples, uint32_t uniform, uint64_t *weight, struct kde_sample *sample);

#endif
