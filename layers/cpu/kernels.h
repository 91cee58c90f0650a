/* The inner loops of attention, one set an instruction set. kernels_c.c is plain C and the definition of every slot;
 * tests/kernels.c holds each other set of the list against it.
 *
 * Queries lie in lanes: a tile is a matrix [head_dim, lanes] of as many queries as the set handles at once, so that
 * maxima, sums and rescaling run down the lanes and keys need no packing.
 */
#ifndef T2T_LAYERS_CPU_KERNELS_H
#define T2T_LAYERS_CPU_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

/* KEY_BLOCK keys are scored before their values are added, or up to MOST_KEYS where that is all of them: scores
 * [MOST_KEYS, lanes] stay in the first cache. */
enum { T2T_KEY_BLOCK = 112, T2T_MOST_KEYS = 160, T2T_MAX_LANES = 32, T2T_MAX_BITS = 16, T2T_QUARTERS = 4 };

/* How many of the keys that are left are scored together. */
static inline size_t t2t_keys_together(size_t left)
{
    return left <= T2T_MOST_KEYS ? left : (size_t)T2T_KEY_BLOCK;
}

/* What PyTorch's LayerNorm adds to a variance unless told otherwise, and so T2T-ViT. */
#define T2T_LAYER_NORM_EPSILON 1e-5F

/* Keys whose score lies this far below the largest (base 2) get no weight at all. 2^-100 is lost in any float32 sum that
 * the largest is part of, but its product with a value is soon subnormal, and those cost many processors hundreds of
 * cycles each. */
#define T2T_NO_WEIGHT (-100.0F)

/* 2^x for x <= 0: a weight of the softmax, as plain C has it. */
static inline float t2t_weight(float x)
{
    return x < T2T_NO_WEIGHT ? 0 : exp2f(x);
}

/* The running softmax of one tile of queries. */
struct query_tile {
    size_t head_dim, value_dim;
    float *query;   /* [head_dim, lanes], times scale * log2(e); in bfloat16 pairs [pairs of head_dim, lanes] */
    float *maximum; /* [lanes] largest score so far, base 2; -infinity before the first key */
    float *sum;     /* [lanes] of 2^(score - maximum) */
    float *value;   /* [value_dim, lanes] the same sum of values */
    float *scores;  /* [MOST_KEYS, lanes] scratch */
};

/* Keys for every query of a tile. */
struct key_run {
    const float *k, *v; /* rows k + i * k_stride, v + i * v_stride */
    size_t k_stride, v_stride, keys;
    const float *bias;      /* [keys] added to the scores (base 2), or NULL */
    const float *lane_bias; /* [keys, lanes] added too, or NULL */
    bool narrow;            /* the second half of the lanes is idle: what is there afterwards has no meaning */
};

/* A lane_bias that takes a key from a query: no score reaches this far, and it is finite. */
#define T2T_HIDDEN (-1e30F)

/* Keys whose weight for a query is a sum over features: of 2^(query[f][lane] + key[j][f]). */
struct feature_run {
    size_t features;
    const float *query; /* [features, lanes] */
    const float *key;   /* [keys, features] */
    const float *v;     /* rows v + j * v_stride */
    size_t v_stride, keys;
    const float *lane_bias; /* [keys, lanes]: 0 or T2T_HIDDEN */
};

/* Numbers in bfloat16, two to 32 bits: the first in the low half. An odd last one has 0 beside it. */
typedef uint32_t bfloat16_pair;

/* Values in bfloat16 lie in blocks of so many pairs of keys, what a matrix unit takes at a time. */
enum { T2T_PAIR_BLOCK = 16 };

/* Keys for every query of a tile, in bfloat16. */
struct bfloat16_run {
    const bfloat16_pair *k; /* [keys, pairs of head_dim] */
    const bfloat16_pair *v; /* [blocks of pairs of keys, value_dim, PAIR_BLOCK], 0 behind the last key */
    size_t keys;
    const float *bias; /* [keys] added to the scores (base 2), or NULL */
    bool narrow;
};

static inline size_t t2t_pairs(size_t count)
{
    return (count + 1) / 2;
}

/* Pairs of keys that the values of a run have room for. */
static inline size_t t2t_value_pairs(size_t keys)
{
    return (t2t_pairs(keys) + T2T_PAIR_BLOCK - 1) / T2T_PAIR_BLOCK * T2T_PAIR_BLOCK;
}

/* t2t_keys_together() in bfloat16: whole blocks of pairs, but for the last. */
static inline size_t t2t_pairs_together(size_t left)
{
    return left <= T2T_MOST_KEYS ? left : (size_t)(T2T_MOST_KEYS / (2 * T2T_PAIR_BLOCK) * (2 * T2T_PAIR_BLOCK));
}

/* The running softmax with q, k, v and the weights that multiply v rounded to bfloat16; products are summed in float32,
 * and so are the weights themselves, unrounded. kernels_bfloat16_c.c is the definition. */
struct bfloat16_kernels {
    /* The tile's query memory = factor * rows[i], pairs of channels [pairs of head_dim, lanes]; 0 beyond `count`. */
    void (*load_queries)(const float *const *rows, size_t count, size_t head_dim, float factor, bfloat16_pair *query);
    /* Row i is x + order[i] * stride, or x + i * stride without an order. out as in struct bfloat16_run: there the row is
     * key `at` + i of the values, `at` even; what is behind the last row in its block becomes 0. */
    void (*pack_keys)(
        const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, bfloat16_pair *out);
    void (*pack_values)(
        const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, size_t at, bfloat16_pair *out);
    /* Takes keys into the running softmax of a tile whose queries are pairs. */
    void (*attend)(const struct query_tile *tile, const struct bfloat16_run *run);
    /* out[i] = x[i], rounded. */
    void (*round)(const float *x, size_t count, uint16_t *out);
};

struct attention_kernels {
    const char *name;
    bool (*supported)(void); /* by this processor and operating system */
    bool (*slow)(void);      /* where it is supported, a set after it is faster; NULL: never */
    size_t lanes;            /* at most T2T_MAX_LANES */
    /* query[c * lanes + i] = factor * rows[i][c] for i < count, 0 for the lanes beyond. */
    void (*load_queries)(const float *const *rows, size_t count, size_t head_dim, float factor, float *query);
    /* Takes keys into the running softmax. */
    void (*attend)(const struct query_tile *tile, const struct key_run *run);
    /* scores[j * lanes + i] = bias of key j and lane i + k_j . query i: what attend() takes the softmax of. */
    void (*score)(const struct query_tile *tile, const struct key_run *run, float *scores);
    /* attend() with weights that are sums over features. The tile's maximum must be finite. */
    void (*attend_features)(const struct query_tile *tile, const struct feature_run *run);
    /* With a[j][i] = the softmax over keys j of the scores of query i:
     * squares[j * QUARTERS + r] += sum of a[j][i]^2 over the lanes i with i mod QUARTERS = r and used[i].
     * scores [keys, lanes] is left with the weights, not yet divided by their sums. */
    void (*column_squares)(
        const struct query_tile *tile, const struct key_run *run, const bool *used, float *scores, float *squares);
    /* rows[i][c] = value[c * lanes + i] / sum[i] for i < count. */
    void (*store_values)(const struct query_tile *tile, float *const *rows, size_t count);
    /* out row i [dim] = x row order[i], which is at x + order[i] * stride. */
    void (*gather_rows)(const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, float *out);
    /* code[i] = sum over b of 2^b (x_i . projection[:, b] > 0); x row i at x + i * stride, projection [dim, bits]. */
    void (*sign_hash)(
        const float *x, size_t stride, size_t rows, size_t dim, const float *projection, size_t bits, uint16_t *code);
    /* out += W^T W x with rows w_i = [v_i, 1]: x, run (scratch) and out [dim + 1], v row i at v + i * stride; sums over
     * KEY_BLOCK rows in float32, over those in float64. */
    void (*gram_times)(const float *v, size_t stride, size_t rows, size_t dim, const float *x, float *run, double *out);
    /* norm[i] = |w_i|. */
    void (*row_norms)(const float *v, size_t stride, size_t rows, size_t dim, float *norm);
    /* distance[i] = |v_i - centre|, centre [dim]. */
    void (*row_distances)(const float *v, size_t stride, size_t rows, size_t dim, const float *centre, float *distance);
    /* y[c] = (x[c] - mean) / sqrt(variance + LAYER_NORM_EPSILON) * weight[c] + bias[c] with x's biased variance; y may be x. */
    void (*layer_norm)(const float *x, size_t channels, const float *weight, const float *bias, float *y);
    /* NULL: the processor has no such products, and attention stays in float32. */
    const struct bfloat16_kernels *bfloat16;
};

/* Of plain C, and of sets that have none of their own. */
extern const struct bfloat16_kernels t2t_bfloat16_c;

/* out[i] = x[i] rounded, by a set's kernel where it has one. */
void t2t_round_to_bfloat16(const struct attention_kernels *kernels, const float *x, size_t count, uint16_t *out);

/* All sets, the best first, then NULL. */
extern const struct attention_kernels *const t2t_kernel_sets[];

/* The fastest set that this machine supports, or the one that T2TVIT_CPU names. T2T_BAD_USAGE for an unknown name,
 * T2T_NO_RESOURCE for one that the processor cannot run. */
enum t2t_status t2t_kernels_choose(const struct attention_kernels **kernels);

#endif
