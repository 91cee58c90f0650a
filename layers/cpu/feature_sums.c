/* Softmax of features over keys; see feature_sums.h. All of it is the running softmax that exact attention uses, so
 * that no exponential can overflow and sums over many keys are sums over blocks.
 */
#include "layers/cpu/feature_sums.h"

static const double log2_e = 1.4426950408889634;

struct feature_sums t2t_take_feature_sums(struct t2t_arena *arena, size_t features, size_t value_dim)
{
    struct feature_sums sums;
    sums.weight = t2t_arena_take(arena, features, sizeof *sums.weight);
    sums.mean = t2t_arena_take(arena, features * value_dim, sizeof *sums.mean);
    return sums;
}

void t2t_key_bias(
    const struct attention_call *call, const struct head_view *head, size_t begin, size_t end, float *bias)
{
    const size_t dim = call->shape.head_dim;
    const double factor = -log2_e / 2 * (double)call->shape.scale;
    for (size_t j = begin; j < end; j++) bias[j] = (float)(factor * t2t_squares(head->k + j * call->k_stride, dim));
}

struct key_run t2t_biased_keys(
    const struct attention_call *call, const struct head_view *head, const float *bias, size_t begin, size_t end)
{
    return (struct key_run){.k = head->k + begin * call->k_stride,
        .v = head->v + begin * call->v_stride,
        .k_stride = call->k_stride,
        .v_stride = call->v_stride,
        .keys = end - begin,
        .bias = bias + begin};
}

void t2t_begin_feature_queries(const struct attention_kernels *kernels, const struct query_tile *tile,
    const float *const *rows, size_t count, float scale)
{
    t2t_begin_tile(kernels, tile, rows, count, sqrtf(scale));
}

void t2t_begin_features(
    const struct attention_kernels *kernels, const struct query_tile *tile, const float *w, size_t count, float scale)
{
    const float *rows[T2T_MAX_LANES];
    for (size_t i = 0; i < count; i++) rows[i] = w + i * tile->head_dim;
    t2t_begin_feature_queries(kernels, tile, rows, count, scale);
}

void t2t_load_features(const struct attention_kernels *kernels, const struct query_tile *tile,
    const struct feature_sums *sums, size_t first, size_t count)
{
    const float *rows[T2T_MAX_LANES];
    for (size_t i = 0; i < count; i++) {
        rows[i] = sums->mean + (first + i) * tile->value_dim;
        tile->maximum[i] = sums->weight[first + i];
        tile->sum[i] = 1;
    }
    kernels->load_queries(rows, count, tile->value_dim, 1, tile->value);
}

void t2t_store_features(const struct attention_kernels *kernels, const struct query_tile *tile,
    const struct feature_sums *sums, size_t first, size_t count)
{
    float *rows[T2T_MAX_LANES];
    for (size_t i = 0; i < count; i++) {
        rows[i] = sums->mean + (first + i) * tile->value_dim;
        sums->weight[first + i] = tile->maximum[i] + log2f(tile->sum[i]);
    }
    kernels->store_values(tile, rows, count);
}

void t2t_sum_keys(const struct attention_kernels *kernels, const struct query_tile *tile, const float *w,
    size_t features, float scale, const struct key_run *run, const struct feature_sums *sums)
{
    for (size_t first = 0; first < features; first += kernels->lanes) {
        const size_t count = features - first < kernels->lanes ? features - first : kernels->lanes;
        t2t_begin_features(kernels, tile, w + first * tile->head_dim, count, scale);
        kernels->attend(tile, run);
        t2t_store_features(kernels, tile, sums, first, count);
    }
}

void t2t_add_feature(double *weight, double *mean, const struct feature_sums *other, size_t feature, size_t value_dim)
{
    const double added = (double)other->weight[feature];
    if (added == T2T_NO_KEYS) return;
    const double high = *weight > added ? *weight : added;
    const double own = exp2(*weight - high), share = exp2(added - high), sum = own + share;
    const float *row = other->mean + feature * value_dim;
    for (size_t c = 0; c < value_dim; c++) mean[c] = mean[c] * (own / sum) + (double)row[c] * (share / sum);
    *weight = high + log2(sum);
}

void t2t_round_feature(
    double weight, const double *mean, const struct feature_sums *sums, size_t feature, size_t value_dim)
{
    sums->weight[feature] = (float)weight;
    for (size_t c = 0; c < value_dim; c++) sums->mean[feature * value_dim + c] = (float)mean[c];
}

struct key_run t2t_features_as_keys(
    const float *w, size_t features, size_t head_dim, size_t value_dim, const struct feature_sums *sums)
{
    return (struct key_run){
        .k = w, .v = sums->mean, .k_stride = head_dim, .v_stride = value_dim, .keys = features, .bias = sums->weight};
}
