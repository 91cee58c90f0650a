/* The table of attention methods, and their random draws. */
#include "layers/attention.h"

#include <assert.h>
#include <string.h>

#include "layers/base/random.h"

/* ---- exact ---- */

/* q k^T and its product with v. */
static double exact_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    (void)config;
    return (double)shape->heads * (double)shape->queries * (double)shape->keys *
           (double)(shape->head_dim + shape->value_dim);
}

/* ---- mean ---- */

static double mean_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    (void)config;
    return (double)shape->heads * (double)shape->keys * (double)shape->value_dim; /* additions, counted as one each */
}

/* ---- kdeformer ---- */

enum { MAX_PROJECTIONS = 16, MAX_SAMPLES = 65536, MAX_BUCKET = 65536 };

static enum t2t_status kdeformer_check(const struct attention_shape *shape, const struct attention_config *config)
{
    if (config->projections < 1 || config->projections > MAX_PROJECTIONS)
        return t2t_fail(
            T2T_BAD_USAGE, "kdeformer hashes with 1 to %d projections, not %zu", MAX_PROJECTIONS, config->projections);
    if (config->bucket < 1 || config->bucket > MAX_BUCKET)
        return t2t_fail(T2T_BAD_USAGE, "kdeformer's buckets hold 1 to %d keys, not %zu", MAX_BUCKET, config->bucket);
    if (config->samples > MAX_SAMPLES)
        return t2t_fail(T2T_BAD_USAGE, "kdeformer takes 0 to %d samples, not %zu", MAX_SAMPLES, config->samples);
    if (shape->keys > UINT32_C(1) << 20)
        return t2t_fail(T2T_BAD_USAGE, "kdeformer's integer sums hold at most 2^20 keys, not %zu", shape->keys);
    return T2T_OK;
}

static struct attention_draw_counts kdeformer_draw_counts(
    const struct attention_shape *shape, const struct attention_config *config)
{
    return (struct attention_draw_counts){
        .projection = shape->head_dim * config->projections, .sample_uniform = config->samples};
}

/* Hashes of q and k, each query with its bucket and with the samples, and one pass over v for the probabilities. */
static double kdeformer_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double queries = (double)shape->queries, keys = (double)shape->keys;
    const double bucket = shape->keys < config->bucket ? keys : (double)config->bucket;
    const double hashes = (queries + keys) * (double)(shape->head_dim * config->projections);
    const double products = queries * (bucket + (double)config->samples) * (double)(shape->head_dim + shape->value_dim);
    const double probabilities = config->samples ? keys * (double)(shape->value_dim + 1) : 0;
    return (double)shape->heads * (hashes + products + probabilities);
}

/* ---- the table ---- */

static const struct attention_method methods[ATTENTION_KINDS] = {
    [ATTENTION_EXACT] = {.kind = ATTENTION_EXACT,
        .name = "exact",
        .summary = "softmax attention as the model was trained",
        .macs = exact_macs},
    [ATTENTION_KDEFORMER] = {.kind = ATTENTION_KDEFORMER,
        .name = "kdeformer",
        .summary = "locality-sensitive hashing and a sampled remainder (ICML 2023, Algorithm 3)",
        .random = true,
        .check = kdeformer_check,
        .draw_counts = kdeformer_draw_counts,
        .macs = kdeformer_macs},
    [ATTENTION_MEAN] = {.kind = ATTENTION_MEAN,
        .name = "mean",
        .summary = "the mean of v for every query: a control, what is lost without attention",
        .macs = mean_macs},
};

const struct attention_method *attention_method(enum attention_kind kind)
{
    assert((size_t)kind < ATTENTION_KINDS);
    return &methods[kind];
}

const struct attention_method *attention_method_named(const char *name)
{
    for (size_t i = 0; i < ATTENTION_KINDS; i++)
        if (strcmp(methods[i].name, name) == 0) return &methods[i];
    return NULL;
}

void attention_draw(const struct attention_shape *shape, const struct attention_config *config, uint64_t seed,
    uint32_t layer, const uint64_t *image_index, size_t batch, float *projection, uint32_t *sample_uniform)
{
    const struct attention_method *method = attention_method(config->kind);
    if (!method->draw_counts) return;
    const struct attention_draw_counts counts = method->draw_counts(shape, config);
    for (size_t image = 0; image < batch; image++)
        for (uint32_t head = 0; head < shape->heads; head++) {
            const size_t unit = image * shape->heads + head;
            struct t2t_random_key key = {.seed = seed,
                .image = image_index[image],
                .layer = layer,
                .head = head,
                .purpose = T2T_RANDOM_PROJECTION};
            if (counts.projection) t2t_random_normal(key, counts.projection, projection + unit * counts.projection);
            key.purpose = T2T_RANDOM_SAMPLE;
            if (counts.sample_uniform)
                t2t_random_uint32(key, counts.sample_uniform, sample_uniform + unit * counts.sample_uniform);
        }
}
