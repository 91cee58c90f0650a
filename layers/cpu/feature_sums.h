/* What random features keep of keys: for each feature the softmax over keys of w.y - |y|^2 / 2, y = sqrt(scale) k, as
 * its log-sum-exp and its mean of v. A query then attends to features as it would to keys. performer and scatterbrain
 * share this; layers/methods.md derives it.
 */
#ifndef T2T_LAYERS_CPU_FEATURE_SUMS_H
#define T2T_LAYERS_CPU_FEATURE_SUMS_H

#include <math.h>

#include "layers/cpu/cpu_attention.h"

/* The weight of no keys. */
#define T2T_NO_KEYS (-(double)INFINITY)

struct feature_sums {
    float *weight; /* [features] base-2 logarithm of the sum over keys, or T2T_NO_KEYS */
    float *mean;   /* [features, value_dim], 0 without keys */
};

struct feature_sums t2t_take_feature_sums(struct t2t_arena *arena, size_t features, size_t value_dim);

/* bias[j] = -|y_j|^2 / 2 in base 2, for keys begin ... end - 1. */
void t2t_key_bias(
    const struct attention_call *call, const struct head_view *head, size_t begin, size_t end, float *bias);

/* Keys begin ... end - 1 of a head with their biases. */
struct key_run t2t_biased_keys(
    const struct attention_call *call, const struct head_view *head, const float *bias, size_t begin, size_t end);

/* Begins a tile of queries whose keys will be features: x = sqrt(scale) q in base 2. */
void t2t_begin_feature_queries(const struct attention_kernels *kernels, const struct query_tile *tile,
    const float *const *rows, size_t count, float scale);

/* Begins a tile whose queries are `count` rows w [count, head_dim], without any keys. */
void t2t_begin_features(
    const struct attention_kernels *kernels, const struct query_tile *tile, const float *w, size_t count, float scale);
/* From and to the tile's running softmax: features first ... first + count - 1. `sums` has keys. */
void t2t_load_features(const struct attention_kernels *kernels, const struct query_tile *tile,
    const struct feature_sums *sums, size_t first, size_t count);
void t2t_store_features(const struct attention_kernels *kernels, const struct query_tile *tile,
    const struct feature_sums *sums, size_t first, size_t count);

/* Sums of one run of keys. w [features, head_dim]. */
void t2t_sum_keys(const struct attention_kernels *kernels, const struct query_tile *tile, const float *w,
    size_t features, float scale, const struct key_run *run, const struct feature_sums *sums);

/* Feature f's weight and mean [value_dim], as float64, take those of another set of keys in. */
void t2t_add_feature(double *weight, double *mean, const struct feature_sums *other, size_t feature, size_t value_dim);
void t2t_round_feature(
    double weight, const double *mean, const struct feature_sums *sums, size_t feature, size_t value_dim);

/* Features as keys for queries. */
struct key_run t2t_features_as_keys(
    const float *w, size_t features, size_t head_dim, size_t value_dim, const struct feature_sums *sums);

#endif
