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

enum { MAX_PROJECTIONS = 16, MAX_SAMPLES = 65536, MAX_BUCKET = 65536, MAX_PILOT = 65536 };

const char *attention_sampling_name(enum kde_sampling sampling)
{
    return sampling == KDE_SYSTEMATIC ? "systematic" : "multinomial";
}

const char *attention_probability_name(enum kde_probability probability)
{
    static const char *const names[] = {
        [KDE_VALUE] = "value", [KDE_PILOT] = "pilot", [KDE_UNIFORM] = "uniform", [KDE_COLUMN_NORM] = "column-norm"};
    return names[probability];
}

size_t attention_sample_groups(const struct attention_config *config)
{
    return config->sample_groups ? config->sample_groups : 1;
}

static enum t2t_status kdeformer_check_samples(const struct attention_config *config)
{
    const size_t groups = attention_sample_groups(config);
    if (config->samples > MAX_SAMPLES)
        return t2t_fail(T2T_BAD_USAGE, "kdeformer takes 0 to %d samples, not %zu", MAX_SAMPLES, config->samples);
    if (groups != 1 && groups != 2 && groups != 4)
        return t2t_fail(T2T_BAD_USAGE, "kdeformer has 1, 2 or 4 sample groups, not %zu", groups);
    if (config->probability == KDE_PILOT &&
        (config->pilot < groups || config->pilot > MAX_PILOT || config->pilot % groups))
        return t2t_fail(T2T_BAD_USAGE,
            "kdeformer's pilot takes %zu to %d queries, a multiple of its %zu sample groups, not %zu", groups,
            MAX_PILOT, groups, config->pilot);
    return T2T_OK;
}

static enum t2t_status kdeformer_check(const struct attention_shape *shape, const struct attention_config *config)
{
    if (config->projections < 1 || config->projections > MAX_PROJECTIONS)
        return t2t_fail(
            T2T_BAD_USAGE, "kdeformer hashes with 1 to %d projections, not %zu", MAX_PROJECTIONS, config->projections);
    if (config->bucket < 1 || config->bucket > MAX_BUCKET)
        return t2t_fail(T2T_BAD_USAGE, "kdeformer's buckets hold 1 to %d keys, not %zu", MAX_BUCKET, config->bucket);
    if (shape->keys > UINT32_C(1) << 20)
        return t2t_fail(T2T_BAD_USAGE, "kdeformer's integer sums hold at most 2^20 keys, not %zu", shape->keys);
    return kdeformer_check_samples(config);
}

static struct attention_draw_counts kdeformer_draw_counts(
    const struct attention_shape *shape, const struct attention_config *config)
{
    struct attention_draw_counts counts = {.projection = shape->head_dim * config->projections};
    if (!config->samples) return counts;
    counts.sample_uniform = config->sampling == KDE_SYSTEMATIC ? 1 : attention_sample_groups(config) * config->samples;
    if (config->probability == KDE_PILOT) counts.pilot_uniform = config->pilot;
    return counts;
}

/* One pass over v for its norms; or the scores of the pilot, the mean of v and the distances from it. */
static double kdeformer_probability_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double keys = (double)shape->keys, value_dim = (double)shape->value_dim;
    if (!config->samples || config->probability == KDE_UNIFORM) return 0;
    if (config->probability == KDE_VALUE) return keys * (value_dim + 1);
    const double pilot = (double)(config->probability == KDE_PILOT ? config->pilot : shape->queries);
    return keys * (pilot * (double)shape->head_dim + 2 * value_dim);
}

/* Hashes of q and k, each query with its bucket and with the samples, and what the probabilities take. */
static double kdeformer_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double queries = (double)shape->queries, keys = (double)shape->keys;
    const double bucket = shape->keys < config->bucket ? keys : (double)config->bucket;
    const double hashes = (queries + keys) * (double)(shape->head_dim * config->projections);
    const double products = queries * (bucket + (double)config->samples) * (double)(shape->head_dim + shape->value_dim);
    return (double)shape->heads * (hashes + products + kdeformer_probability_macs(shape, config));
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

/* Everything of one (image, head), which is number `unit` of the batch. */
static void draw_unit(struct attention_draw_counts counts, struct t2t_random_key key, size_t unit,
    const struct attention_draw_memory *memory)
{
    key.purpose = T2T_RANDOM_PROJECTION;
    if (counts.projection) t2t_random_normal(key, counts.projection, memory->projection + unit * counts.projection);
    key.purpose = T2T_RANDOM_SAMPLE;
    if (counts.sample_uniform)
        t2t_random_uint32(key, counts.sample_uniform, memory->sample_uniform + unit * counts.sample_uniform);
    key.purpose = T2T_RANDOM_PILOT;
    if (counts.pilot_uniform)
        t2t_random_uint32(key, counts.pilot_uniform, memory->pilot_uniform + unit * counts.pilot_uniform);
}

void attention_draw(const struct attention_shape *shape, const struct attention_config *config, uint64_t seed,
    uint32_t layer, const uint64_t *image_index, size_t batch, const struct attention_draw_memory *memory)
{
    const struct attention_method *method = attention_method(config->kind);
    if (!method->draw_counts) return;
    const struct attention_draw_counts counts = method->draw_counts(shape, config);
    for (size_t image = 0; image < batch; image++)
        for (uint32_t head = 0; head < shape->heads; head++) {
            const struct t2t_random_key key = {.seed = seed, .image = image_index[image], .layer = layer, .head = head};
            draw_unit(counts, key, image * shape->heads + head, memory);
        }
}
