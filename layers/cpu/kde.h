/* What the steps of KDEformer share: blocks (kde_blocks.c), order (kde_order.c), probabilities of keys (kde_norm.c,
 * kde_pilot.c), samples (kde_samples.c), and the attention over blocks and samples (kde_attention.c).
 *
 * The blocks are cut into 1, 2 or 4 groups of consecutive blocks; each group has samples of its own.
 */
#ifndef T2T_LAYERS_CPU_KDE_H
#define T2T_LAYERS_CPU_KDE_H

#include "layers/cpu/cpu_attention.h"
#include "layers/cpu/kde_attention.h"

/* What a unit takes. */
struct kde_choice {
    size_t bucket; /* keys of a block */
    bool met;      /* the target error, if there is one, by every group */
};

/* Memory of one unit, an (image, head). */
struct kde_unit {
    uint16_t *q_code, *k_code;   /* [queries], [keys] */
    uint32_t *q_start, *k_start; /* [2^projections + 1] of the counting sorts */
    uint32_t *q_order, *k_order; /* row at each sorted position */
    uint32_t *k_position;        /* sorted position of each key */
    double *vectors;             /* [T2T_KDE_VECTORS (value_dim + 1)] */
    float *scores;               /* [keys, lanes] of a tile of pilot queries */
    float *squares;              /* [keys, T2T_QUARTERS] sums of squared softmax weights */
    float *distance;             /* [keys] of v from its mean */
    struct kde_choice *choice;   /* [1] */
    /* With a target error: */
    float *pilot_out;   /* [lanes, value_dim] outputs of a tile of pilot queries */
    double *pilot_size; /* [groups] squares of those outputs */
    float *pilot_query; /* [value_dim, lanes] those outputs, less the mean of v */
    float *product;     /* [keys, lanes] of them with the rows of v */
    float *largest;     /* [keys, T2T_QUARTERS] the largest of the squares that `squares` sums */
    float *moved;       /* [keys, T2T_QUARTERS] sums of (softmax weight times distance of v from the output)^2 */
    float *most_moved;  /* [keys, T2T_QUARTERS] the largest term of each */
    float *inside;      /* [choices, groups, keys] the terms of keys in the pilots' own blocks */
    float *terms;       /* [3, keys] scratch */
    /* For each group: */
    float *probability;        /* [groups, keys] */
    uint64_t *cumulative;      /* [groups, keys] integer probabilities, or their running sums */
    struct kde_sample *sample; /* [groups, samples] of systematic ones */
    uint32_t *sample_position; /* [groups, samples] sorted position of the sampled key */
    float *sample_k;           /* [groups, samples, head_dim] */
    float *sample_v;           /* [groups, samples, value_dim] */
    float *sample_weight;      /* [groups, samples] log2 of 1 / its expected number of draws */
    size_t *taken;             /* [groups] how many samples there are */
};

/* Memory of one thread. */
struct kde_thread {
    struct query_tile tile;
    float *k, *v; /* [samples + bucket, head_dim or value_dim]: a group's samples, then a block's keys */
    float *bias;  /* [samples + bucket] */
    bfloat16_pair *packed_k, *packed_v; /* in bfloat16, instead of k and v */
};

struct kde {
    const struct attention_kernels *kernels;
    const struct attention_call *call;
    bool bfloat16;       /* blocks and samples; order, probabilities and samples are those of float32 */
    size_t bucket;       /* no more than there are keys; of the first choice */
    size_t choices;      /* of buckets: each has twice the keys of the one before; 1 without a target error */
    size_t blocks, rows; /* of the block diagonal; queries in each but the last */
    size_t groups;
    size_t samples; /* of a group, at most; of systematic ones no more than there are keys */
    struct kde_unit *units;
    struct kde_thread *threads;
};

/* The block diagonal of a call, in one group and without memory. */
struct kde t2t_kde_blocks(const struct cpu_attention *attention);
/* The same with blocks of so many keys. */
struct kde t2t_kde_with_bucket(const struct kde *kde, size_t bucket);
/* What the orders of a unit need; the rest is NULL. */
struct kde_unit t2t_kde_take_order(struct t2t_arena *arena, const struct kde *kde);

/* The blocks, or the sorted positions of queries, first ... last - 1 of a group; there may be none. */
struct kde_range {
    size_t first, last;
};
struct kde_range t2t_kde_group_blocks(const struct kde *kde, size_t group);
struct kde_range t2t_kde_group_queries(const struct kde *kde, size_t group);

/* q_order; k_order and k_position. */
void t2t_kde_order_queries(const struct kde *kde, const struct kde_unit *memory, size_t unit);
void t2t_kde_order_keys(const struct kde *kde, const struct kde_unit *memory, size_t unit);

/* Whether probabilities come from the softmax of some or all queries; each group then has its own. */
static inline bool t2t_kde_needs_pilot(const struct attention_config *config)
{
    return config->probability == KDE_PILOT || config->probability == KDE_COLUMN_NORM;
}

/* What every group's probabilities have in common: value norms, or the pilot queries' softmax. Needs both orders;
 * `tile` is a thread's. */
void t2t_kde_prepare_samples(
    const struct kde *kde, const struct kde_unit *memory, const struct query_tile *tile, size_t unit);
/* Probabilities and samples of one group. */
void t2t_kde_draw_samples(const struct kde *kde, const struct kde_unit *memory, size_t unit, size_t group);

/* The share of a pilot's probabilities that is spread evenly: a key that no pilot saw is still found. */
#define T2T_KDE_EVEN_SHARE 0.3

/* squares and distance, and what a target error needs (kde_pilot.c). */
void t2t_kde_pilot(const struct kde *kde, const struct kde_unit *memory, const struct query_tile *tile, size_t unit);
void t2t_kde_pilot_probability(const struct kde *kde, const struct kde_unit *memory, size_t group);

/* Nothing noted yet. */
void t2t_kde_forget_pilots(const struct kde *kde, const struct kde_unit *memory);
/* What a target error needs of a tile of pilots (kde_error.c): their weights, not yet divided by their sums, are
 * memory->scores; `position` [lanes] among the sorted queries; `mean` of v; distances of v are in units of `unit`. */
void t2t_kde_note_pilots(const struct kde *kde, const struct kde_unit *memory, const struct query_tile *tile,
    size_t image_head, const bool *used, const size_t *position, const float *mean, double unit);
/* Sets choice, and taken of every group: the cheapest with which the target error is met as the pilot foretells, or
 * kde->samples. Needs every group's probability. */
void t2t_kde_choose(const struct kde *kde, const struct kde_unit *memory);
/* sum [keys] over a group's pilots of what quarter [keys, T2T_QUARTERS] sums apart. */
void t2t_kde_sum_pilots(const struct kde *kde, const float *quarter, size_t group, float *sum);

#endif
