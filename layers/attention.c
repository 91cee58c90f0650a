/* The table of attention methods, and their random draws. */
#include "layers/attention.h"

#include <assert.h>
#include <math.h>
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

const char *number_format_name(enum number_format format)
{
    static const char *const names[] = {
        [FORMAT_FLOAT32] = "float32", [FORMAT_BFLOAT16] = "bfloat16", [FORMAT_FLOAT16] = "float16"};
    return names[format];
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
    if (config->target_error > 0 && !config->samples)
        return t2t_fail(T2T_BAD_USAGE, "kdeformer cannot meet a target error with 0 samples; allow some, or no error");
    if (config->target_error < 0 ||
        (config->target_error > 0 && (config->sampling != KDE_SYSTEMATIC ||
                                         (config->probability != KDE_PILOT && config->probability != KDE_COLUMN_NORM))))
        return t2t_fail(T2T_BAD_USAGE,
            "kdeformer meets a target error above 0 with systematic samples by a pilot or by column norms, not %g with "
            "%s samples by %s",
            (double)config->target_error, attention_sampling_name(config->sampling),
            attention_probability_name(config->probability));
    return T2T_OK;
}

/* What the block diagonal and the integer sums allow. */
static enum t2t_status hash_check(
    const char *name, const struct attention_shape *shape, const struct attention_config *config)
{
    if (config->projections < 1 || config->projections > MAX_PROJECTIONS)
        return t2t_fail(
            T2T_BAD_USAGE, "%s hashes with 1 to %d projections, not %zu", name, MAX_PROJECTIONS, config->projections);
    if (config->bucket < 1 || config->bucket > MAX_BUCKET)
        return t2t_fail(T2T_BAD_USAGE, "%s's buckets hold 1 to %d keys, not %zu", name, MAX_BUCKET, config->bucket);
    if (shape->keys > UINT32_C(1) << 20)
        return t2t_fail(T2T_BAD_USAGE, "%s's integer sums hold at most 2^20 keys, not %zu", name, shape->keys);
    return T2T_OK;
}

static enum t2t_status kdeformer_check(const struct attention_shape *shape, const struct attention_config *config)
{
    const enum t2t_status status = hash_check("kdeformer", shape, config);
    return status ? status : kdeformer_check_samples(config);
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

/* One pass over v for its norms; or the scores of the pilot (for a target error its outputs too, and the distances of v
 * from them), the mean of v and the distances from it. */
static double kdeformer_probability_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double keys = (double)shape->keys, value_dim = (double)shape->value_dim;
    if (!config->samples || config->probability == KDE_UNIFORM) return 0;
    if (config->probability == KDE_VALUE) return keys * (value_dim + 1);
    const double pilot = (double)(config->probability == KDE_PILOT ? config->pilot : shape->queries);
    const double products =
        (double)shape->head_dim + (config->target_error > 0 ? (double)shape->head_dim + 2 * value_dim : 0);
    return keys * (pilot * products + 2 * value_dim);
}

/* Hashes of q and k, each query with its bucket and with the samples, and what the probabilities take. */
static double kdeformer_macs_of(
    const struct attention_shape *shape, const struct attention_config *config, double bucket, double samples)
{
    const double queries = (double)shape->queries, keys = (double)shape->keys;
    const double hashes = (queries + keys) * (double)(shape->head_dim * config->projections);
    const double products = queries * (bucket + samples) * (double)(shape->head_dim + shape->value_dim);
    return (double)shape->heads * (hashes + products + kdeformer_probability_macs(shape, config));
}

/* A block of all keys leaves nothing to sample, and systematic samples are no more than there are keys. A target error may take all
 * that are allowed. */
static double kdeformer_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    struct attention_config made = *config;
    if (made.bucket >= shape->keys) {
        made.bucket = shape->keys;
        made.samples = 0;
    }
    if (made.sampling == KDE_SYSTEMATIC && made.samples > shape->keys) made.samples = shape->keys;
    return kdeformer_macs_of(shape, &made, (double)made.bucket, (double)made.samples);
}

void attention_taken_add(struct attention_taken *sum, const struct attention_taken *more)
{
    sum->units += more->units;
    sum->unmet += more->unmet;
    sum->bucket += more->bucket;
    sum->samples += more->samples;
}

/* ---- kde-theory ---- */

static enum t2t_status kde_theory_check(const struct attention_shape *shape, const struct attention_config *config)
{
    if (config->samples < 1 || config->samples > MAX_SAMPLES)
        return t2t_fail(T2T_BAD_USAGE, "kde-theory takes 1 to %d samples, not %zu", MAX_SAMPLES, config->samples);
    return hash_check("kde-theory", shape, config);
}

/* A place for the samples of each estimate, and the drawn keys. */
static struct attention_draw_counts kde_theory_draw_counts(
    const struct attention_shape *shape, const struct attention_config *config)
{
    return (struct attention_draw_counts){
        .projection = shape->head_dim * config->projections, .sample_uniform = 2 + config->samples};
}

/* Hashes, the two estimates (each row with a block and the samples), one pass over v, and the sampled keys. */
static double kde_theory_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double queries = (double)shape->queries, keys = (double)shape->keys, samples = (double)config->samples;
    const double bucket = shape->keys < config->bucket ? keys : (double)config->bucket;
    const double dim = (double)shape->head_dim, value_dim = (double)shape->value_dim;
    const double hashes = (queries + keys) * dim * (double)config->projections;
    const double sums = queries * (bucket + (samples < keys ? samples : keys)) * dim;
    const double columns = (queries * bucket + keys * (samples < queries ? samples : queries)) * dim;
    const double outputs = queries * samples * (dim + value_dim);
    return (double)shape->heads * (hashes + sums + columns + keys * (value_dim + 1) + outputs);
}

/* ---- performer ---- */

enum { MAX_FEATURES = 16384, MAX_WINDOW = 65536, MAX_ROUNDS = 64 };

static enum t2t_status features_check(const char *name, const struct attention_shape *shape)
{
    if (shape->scale > 0) return T2T_OK;
    return t2t_fail(
        T2T_BAD_USAGE, "%s's features need q.k scaled by a positive number, not %g", name, (double)shape->scale);
}

static enum t2t_status performer_check(const struct attention_shape *shape, const struct attention_config *config)
{
    if (config->features < 1 || config->features > MAX_FEATURES)
        return t2t_fail(T2T_BAD_USAGE, "performer has 1 to %d features, not %zu", MAX_FEATURES, config->features);
    return features_check("performer", shape);
}

static struct attention_draw_counts performer_draw_counts(
    const struct attention_shape *shape, const struct attention_config *config)
{
    return (struct attention_draw_counts){.features = config->features * shape->head_dim};
}

/* Features of q and k, the sums of values by features, and each query's mix of them. */
static double performer_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double rows = (double)(shape->queries + shape->keys), width = (double)(shape->head_dim + shape->value_dim);
    return (double)shape->heads * rows * (double)config->features * width;
}

/* ---- reformer ---- */

size_t attention_buckets(size_t tokens, size_t bucket)
{
    return (tokens + 2 * bucket - 1) / (2 * bucket) * 2;
}

static enum t2t_status reformer_check(const struct attention_shape *shape, const struct attention_config *config)
{
    if (config->bucket < 1 || config->bucket > MAX_BUCKET)
        return t2t_fail(T2T_BAD_USAGE, "reformer's buckets hold 1 to %d tokens, not %zu", MAX_BUCKET, config->bucket);
    if (config->rounds < 1 || config->rounds > MAX_ROUNDS)
        return t2t_fail(T2T_BAD_USAGE, "reformer hashes in 1 to %d rounds, not %zu", MAX_ROUNDS, config->rounds);
    if (shape->queries != shape->keys)
        return t2t_fail(T2T_BAD_USAGE,
            "reformer uses its queries as keys and cannot attend from %zu queries to %zu keys; use another method",
            shape->queries, shape->keys);
    if (shape->queries > UINT32_C(1) << 20)
        return t2t_fail(T2T_BAD_USAGE, "reformer sorts at most 2^20 tokens, not %zu", shape->queries);
    return T2T_OK;
}

static struct attention_draw_counts reformer_draw_counts(
    const struct attention_shape *shape, const struct attention_config *config)
{
    const size_t half = attention_buckets(shape->queries, config->bucket) / 2;
    return (struct attention_draw_counts){.rotation = config->rounds * shape->head_dim * half};
}

/* Each round hashes every token and compares it with the two chunks that it sees. */
static double reformer_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double buckets = (double)attention_buckets(shape->queries, config->bucket);
    const double padded = buckets * (double)config->bucket;
    const double hashes = (double)(shape->queries * shape->head_dim) * buckets / 2;
    const double products = padded * 2 * (double)config->bucket * (double)(shape->head_dim + shape->value_dim);
    return (double)shape->heads * (double)config->rounds * (hashes + products);
}

/* ---- scatterbrain ---- */

static enum t2t_status scatterbrain_check(const struct attention_shape *shape, const struct attention_config *config)
{
    if (config->features < 2 || config->features > MAX_FEATURES || config->features % 2)
        return t2t_fail(T2T_BAD_USAGE, "scatterbrain has an even number of 2 to %d features, not %zu", MAX_FEATURES,
            config->features);
    if (config->window < 1 || config->window > MAX_WINDOW)
        return t2t_fail(T2T_BAD_USAGE, "scatterbrain's window holds 1 to %d keys, not %zu", MAX_WINDOW, config->window);
    return features_check("scatterbrain", shape);
}

static struct attention_draw_counts scatterbrain_draw_counts(
    const struct attention_shape *shape, const struct attention_config *config)
{
    return (struct attention_draw_counts){.features = config->features / 2 * shape->head_dim};
}

/* Features of q and k (w and -w share a product), their sums and mixes, and for the keys of the window the exact score,
 * the features' score that it replaces and one product with v. */
static double scatterbrain_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double queries = (double)shape->queries, rows = queries + (double)shape->keys;
    const double features = (double)config->features, width = (double)(shape->head_dim + shape->value_dim);
    const double window = config->window < shape->keys ? (double)config->window : (double)shape->keys;
    const double low_rank = rows * features * ((double)shape->head_dim / 2 + (double)shape->value_dim);
    return (double)shape->heads * (low_rank + queries * window * (width + features));
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
        .steps = true,
        .check = kdeformer_check,
        .draw_counts = kdeformer_draw_counts,
        .macs = kdeformer_macs},
    [ATTENTION_PERFORMER] = {.kind = ATTENTION_PERFORMER,
        .name = "performer",
        .summary = "positive orthogonal random features, FAVOR+ (ICLR 2021)",
        .random = true,
        .check = performer_check,
        .draw_counts = performer_draw_counts,
        .macs = performer_macs},
    [ATTENTION_REFORMER] = {.kind = ATTENTION_REFORMER,
        .name = "reformer",
        .summary = "rounds of hashing; queries serve as keys, k is not used (ICLR 2020)",
        .random = true,
        .check = reformer_check,
        .draw_counts = reformer_draw_counts,
        .macs = reformer_macs},
    [ATTENTION_SCATTERBRAIN] = {.kind = ATTENTION_SCATTERBRAIN,
        .name = "scatterbrain",
        .alias = "sblocal",
        .summary = "a local window exactly, low rank elsewhere (NeurIPS 2021)",
        .random = true,
        .check = scatterbrain_check,
        .draw_counts = scatterbrain_draw_counts,
        .macs = scatterbrain_macs},
    [ATTENTION_KDE_THEORY] = {.kind = ATTENTION_KDE_THEORY,
        .name = "kde-theory",
        .summary = "KDEformer's Algorithm 1: density estimates, then samples alone; for study",
        .random = true,
        .check = kde_theory_check,
        .draw_counts = kde_theory_draw_counts,
        .macs = kde_theory_macs},
    [ATTENTION_MEAN] = {.kind = ATTENTION_MEAN,
        .name = "mean",
        .summary = "the mean of v for every query: a control, what is lost without attention",
        .macs = mean_macs},
};

double attention_macs(const struct attention_shape *shape, const struct attention_config *config,
    const struct attention_taken *taken_or_null)
{
    if (taken_or_null && taken_or_null->units > 0)
        return kdeformer_macs_of(
            shape, config, taken_or_null->bucket / taken_or_null->units, taken_or_null->samples / taken_or_null->units);
    return methods[config->kind].macs(shape, config);
}

const struct attention_method *attention_method(enum attention_kind kind)
{
    assert((size_t)kind < ATTENTION_KINDS);
    return &methods[kind];
}

const struct attention_method *attention_method_named(const char *name)
{
    for (size_t i = 0; i < ATTENTION_KINDS; i++)
        if (strcmp(methods[i].name, name) == 0 || (methods[i].alias && strcmp(methods[i].alias, name) == 0))
            return &methods[i];
    return NULL;
}

const char *attention_step_name(enum attention_step step)
{
    static const char *const names[ATTENTION_STEPS] = {"hash", "sort", "probabilities", "draws", "blocks"};
    assert((size_t)step < ATTENTION_STEPS);
    return names[step];
}

/* ---- draws ---- */

static float dot_of(const float *restrict a, const float *restrict b, size_t dim)
{
    enum { PARTS = 8 }; /* sums that do not wait for each other */
    float part[PARTS] = {0}, sum = 0;
    size_t c = 0;
    for (; c + PARTS <= dim; c += PARTS)
        for (size_t i = 0; i < PARTS; i++) part[i] += a[c + i] * b[c + i];
    for (; c < dim; c++) sum += a[c] * b[c];
    for (size_t i = 0; i < PARTS; i++) sum += part[i];
    return sum;
}

/* Makes at most `dim` rows orthogonal, one after another (Gram and Schmidt's method, modified), and once more where so
 * little is left of a row that rounding shows. Each keeps the length it was drawn with, so that a row on its own is
 * still standard normal. */
static void orthogonalise(float *rows, size_t count, size_t dim)
{
    for (size_t i = 1; i < count; i++) {
        float *restrict row = rows + i * dim;
        const float squares = dot_of(row, row, dim);
        bool again = true;
        for (size_t turn = 0; turn < 2 && again; turn++) {
            for (size_t j = 0; j < i; j++) {
                const float *restrict before = rows + j * dim;
                const float share = dot_of(row, before, dim) / dot_of(before, before, dim);
                for (size_t c = 0; c < dim; c++) row[c] -= share * before[c];
            }
            const float left = dot_of(row, row, dim), stretch = sqrtf(squares / left);
            for (size_t c = 0; c < dim; c++) row[c] *= stretch;
            again = left < squares / 16;
        }
    }
}

static void draw_features(struct t2t_random_key key, size_t count, size_t dim, float *features)
{
    key.purpose = T2T_RANDOM_FEATURES;
    t2t_random_normal(key, count, features);
    for (size_t first = 0; first < count; first += dim * dim)
        orthogonalise(features + first, (count - first < dim * dim ? count - first : dim * dim) / dim, dim);
}

/* Everything of one (image, head), which is number `unit` of the batch. */
static void draw_unit(const struct attention_shape *shape, struct attention_draw_counts counts,
    struct t2t_random_key key, size_t unit, const struct attention_draw_memory *memory)
{
    key.purpose = T2T_RANDOM_PROJECTION;
    if (counts.projection) t2t_random_normal(key, counts.projection, memory->projection + unit * counts.projection);
    key.purpose = T2T_RANDOM_SAMPLE;
    if (counts.sample_uniform)
        t2t_random_uint32(key, counts.sample_uniform, memory->sample_uniform + unit * counts.sample_uniform);
    if (counts.features)
        draw_features(key, counts.features, shape->head_dim, memory->features + unit * counts.features);
    key.purpose = T2T_RANDOM_ROTATION;
    if (counts.rotation) t2t_random_normal(key, counts.rotation, memory->rotation + unit * counts.rotation);
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
            draw_unit(shape, counts, key, image * shape->heads + head, memory);
        }
}
