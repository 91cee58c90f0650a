/* Attention as a table: what a method is called, which options and random draws it takes and what it costs, for every
 * device; and the call that a device's implementation receives.
 *
 * Sizes of one (image, head): q [queries, head_dim], k [keys, head_dim], v [keys, value_dim], out [queries, value_dim];
 * `scale` multiplies q.k. Random choices are never made inside of a method: they arrive as data (attention_draws).
 */
#ifndef T2T_LAYERS_ATTENTION_H
#define T2T_LAYERS_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

enum attention_kind {
    ATTENTION_EXACT,        /* softmax(scale q k^T) v */
    ATTENTION_KDEFORMER,    /* Zandieh, Han, Daliri, Karbasi, ICML 2023, Algorithm 3 */
    ATTENTION_PERFORMER,    /* Choromanski et al., ICLR 2021: positive orthogonal random features (FAVOR+) */
    ATTENTION_REFORMER,     /* Kitaev, Kaiser, Levskaya, ICLR 2020: rounds of hashing of shared queries and keys */
    ATTENTION_SCATTERBRAIN, /* Chen et al., NeurIPS 2021: a local window exactly, low rank elsewhere */
    ATTENTION_KDE_THEORY,   /* KDEformer's Algorithm 1: sums and norms by density estimates, then samples; for study */
    ATTENTION_MEAN,         /* every query gets the mean of v: the control that shows what attention is worth */
    ATTENTION_KINDS
};

struct attention_shape {
    size_t heads, queries, keys, head_dim, value_dim;
    float scale;
};

/* KDEformer's sampled remainder; layers/kdeformer-sampling.md defines and compares. Published are the zeros. */
enum kde_sampling {
    KDE_MULTINOMIAL, /* independent draws with replacement */
    KDE_SYSTEMATIC   /* equally spaced points along the bucket order, no key twice */
};
enum kde_probability {
    KDE_VALUE,      /* from the rows of v alone */
    KDE_PILOT,      /* from the softmax of a few queries and v */
    KDE_UNIFORM,    /* all keys alike */
    KDE_COLUMN_NORM /* as KDE_PILOT with every query: an oracle at the cost of exact attention, for study */
};

/* What the factors of products are rounded to. Sums are float32 in all. */
enum number_format { FORMAT_FLOAT32, FORMAT_BFLOAT16, FORMAT_FLOAT16 };
const char *number_format_name(enum number_format format); /* "float32" */

/* A method and its options; those of other methods are ignored. */
struct attention_config {
    enum attention_kind kind;
    enum number_format format; /* of exact attention and KDEformer's; on cuda of more (layers/cuda/KERNELS.md) */
    size_t projections;        /* kdeformer, kde-theory: bits of the hash, 1 ... 16 */
    size_t bucket;   /* kdeformer, kde-theory: keys in a block of the block diagonal; reformer: tokens in a chunk */
    size_t samples;  /* kdeformer: sampled keys of the remainder, 0 for none; kde-theory: of every sum */
    size_t features; /* performer; scatterbrain: an even number, half of them drawn */
    size_t window;   /* scatterbrain: keys that a query sees exactly */
    size_t rounds;   /* reformer: of hashing */
    enum kde_sampling sampling;
    enum kde_probability probability;
    size_t pilot;         /* kdeformer: queries whose softmax is computed for KDE_PILOT, a multiple of sample_groups */
    float target_error;   /* kdeformer: of the output; as many samples as its pilot says, `samples` at most, and ... */
                          /* ... buckets of `bucket`, two or four times as many keys; 0: none, takes all samples */
    size_t sample_groups; /* kdeformer: 1 (also 0), 2 or 4 groups of buckets, each with samples of its own */
};

/* Every random choice of one layer. Pointers that the method does not use are NULL. */
struct attention_draws {
    const float *projection;         /* kdeformer, kde-theory: [batch, heads, head_dim, projections], standard normal */
    const uint32_t *sample_uniform;  /* kdeformer: [batch, heads, sample_groups, samples], uniform on 32 bits; ... */
                                     /* ... systematic: [batch, heads]; kde-theory: [batch, heads, 2 + samples] */
    const uint32_t *pilot_uniform;   /* kdeformer: [batch, heads, pilot], those of a sample group together */
    const int32_t *sample_key;       /* kdeformer: [batch, heads, sample_groups, samples] keys chosen beforehand, ... */
    const float *sample_probability; /* ... instead, with the [batch, heads, sample_groups, keys] they came from */
    const float *features; /* performer: [batch, heads, features, head_dim]; scatterbrain: half as many rows */
    const float *rotation; /* reformer: [batch, heads, rounds, head_dim, buckets / 2], see attention_buckets() */
};

/* The same as memory to draw into; what has a count of 0 may be NULL. */
struct attention_draw_memory {
    float *projection;
    uint32_t *sample_uniform;
    float *features, *rotation;
    uint32_t *pilot_uniform;
};

/* How many numbers of each kind one (image, head) draws. */
struct attention_draw_counts {
    size_t projection, sample_uniform, pilot_uniform, features, rotation;
};

struct attention_method {
    enum attention_kind kind;
    const char *name;    /* as on the command line */
    const char *alias;   /* another name, or NULL */
    const char *summary; /* one line for --help */
    bool random;         /* results depend on the seed */
    bool steps;          /* tells its time by enum attention_step */
    /* T2T_BAD_USAGE with a sentence when the options or the shape are beyond the method; NULL: everything fits. */
    enum t2t_status (*check)(const struct attention_shape *shape, const struct attention_config *config);
    struct attention_draw_counts (*draw_counts)(
        const struct attention_shape *shape, const struct attention_config *config); /* NULL: none */
    /* Multiply-accumulates of one image, all heads, projections to q, k, v left out; the formula stands beside it. */
    double (*macs)(const struct attention_shape *shape, const struct attention_config *config);
};

/* The row of a kind; of a name or alias (NULL when there is none). */
const struct attention_method *attention_method(enum attention_kind kind);
const struct attention_method *attention_method_named(const char *name);

/* KDEformer's words for reports and the command line. */
const char *attention_sampling_name(enum kde_sampling sampling);
const char *attention_probability_name(enum kde_probability probability);

/* KDEformer's sample groups as a number. */
size_t attention_sample_groups(const struct attention_config *config);

/* Hash values of a reformer's round: tokens are padded to a multiple of two chunks, and there is one value a chunk. */
size_t attention_buckets(size_t tokens, size_t bucket);

/* Draws everything that one layer needs for a batch, keyed by seed, layer, image and head. Rows of features are made
 * orthogonal within runs of head_dim rows, each keeping its length (layers/methods.md). */
void attention_draw(const struct attention_shape *shape, const struct attention_config *config, uint64_t seed,
    uint32_t layer, const uint64_t *image_index, size_t batch, const struct attention_draw_memory *memory);

/* Where the time of a call goes, in methods that tell: KDEformer. */
enum attention_step {
    ATTENTION_STEP_HASH,
    ATTENTION_STEP_SORT,
    ATTENTION_STEP_PROBABILITIES,
    ATTENTION_STEP_DRAWS,  /* choosing samples and packing their keys and values */
    ATTENTION_STEP_BLOCKS, /* attention over buckets and samples */
    ATTENTION_STEPS
};
const char *attention_step_name(enum attention_step step); /* "hash" */

/* What a target error took, summed over (image, head). */
struct attention_taken {
    double units;           /* how many of them */
    double unmet;           /* in how many some queries' target was not met with as many samples as were allowed */
    double bucket, samples; /* keys of a bucket; samples of a query */
};

void attention_taken_add(struct attention_taken *sum, const struct attention_taken *more);
/* Multiply-accumulates of a method (the table's), with what a target error took in the mean where there is one. */
double attention_macs(const struct attention_shape *shape, const struct attention_config *config,
    const struct attention_taken *taken_or_null);

/* One layer's attention for a batch. Row t of image b of a [batch * tokens, heads * dim] matrix starts at
 * data + (b * tokens + t) * stride; head h begins h * dim further on. q, k, v may be columns of one matrix. */
struct attention_call {
    struct attention_shape shape;
    struct attention_config config;
    struct attention_draws draws;
    size_t batch;
    const float *q, *k, *v;
    size_t q_stride, k_stride, v_stride; /* floats from one row to the next */
    float *out;                          /* [batch * queries, heads * value_dim]; aliases none of the inputs */
    size_t out_stride;
    void *scratch;                 /* as many bytes as the device asked for, aligned to 64 */
    double *step_seconds;          /* [ATTENTION_STEPS] or NULL: the seconds of every thread in each step are added */
    struct attention_taken *taken; /* or NULL: what KDEformer took is added */
};

#endif
