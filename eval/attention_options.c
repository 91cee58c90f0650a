/* Reading attention options, and building plans from them. */
#include "eval/attention_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/attention_names.h"
#include "eval/attention_settings.h"
#include "eval/option_lists.h"

enum { MOST_VALUES = 3 };

/* Whole numbers of the three groups of layers: t2t.1, t2t.2, blocks. */
struct layer_values {
    bool given[MOST_VALUES];
    size_t value[MOST_VALUES];
};

struct request {
    struct method_list methods;
    uint64_t seed[MOST_SEEDS];
    size_t seeds;
    bool replaced[T2T_MAX_LAYERS];
    struct layer_values samples, bucket, projections, pilot, sample_groups;
    const struct attention_options *options;
    struct attention_settings settings, points;
};

static bool is_listed(const struct request *request, enum attention_kind kind)
{
    for (size_t i = 0; i < request->methods.count; i++)
        if (request->methods.method[i]->kind == kind) return true;
    return false;
}

static enum t2t_status read_seeds(struct request *request, const struct attention_options *options)
{
    request->seed[0] = options->seed;
    request->seeds = 1;
    if (!options->seeds) return T2T_OK;
    if (t2t_option_given(&options->seed))
        return t2t_fail(T2T_BAD_USAGE, "--seed and --seeds: only one of them is meant");
    return t2t_read_seeds(options->seeds, request->seed, &request->seeds);
}

/* ---- layers ---- */

static enum t2t_status read_layers(struct request *request, const char *text, size_t layers)
{
    char copy[LIST_BYTES];
    enum t2t_status status = t2t_copy_list("layers", text, copy);
    char *rest = copy;
    for (const char *word; !status && (word = t2t_next_word(&rest));) {
        size_t first, last;
        if (!t2t_find_layers(word, layers, &first, &last))
            return t2t_fail(T2T_BAD_USAGE,
                "--layers \"%s\": this model's layers are t2t.1, t2t.2, block.0 ... block.%zu (or t2t, blocks, all, or "
                "numbers 0 to %zu)",
                word, layers - T2T_TOKEN_LAYERS - 1, layers - 1);
        for (size_t layer = first; layer <= last; layer++) request->replaced[layer] = true;
    }
    return status;
}

static size_t group_of(size_t layer)
{
    return layer < T2T_TOKEN_LAYERS ? layer : T2T_TOKEN_LAYERS;
}

/* The refusal of an option of KDEformer's where there is none. */
static enum t2t_status refuse_without_kdeformer(const char *option)
{
    return t2t_fail(T2T_BAD_USAGE, "--%s: --attention lists no kdeformer", option);
}

/* "98,24": one value for every replaced layer, two for the tokens-to-token layers, a third for the blocks. */
static enum t2t_status read_values(
    struct layer_values *values, const char *option, const char *text, const struct request *request, size_t layers)
{
    if (!text) return T2T_OK;
    if (!is_listed(request, ATTENTION_KDEFORMER)) return refuse_without_kdeformer(option);
    char copy[LIST_BYTES];
    enum t2t_status status = t2t_copy_list(option, text, copy);
    if (status) return status;
    char *rest = copy;
    size_t count = 0;
    for (const char *word; (word = t2t_next_word(&rest)); count++)
        if (count == MOST_VALUES || !t2t_parse_number(word, 0, 65536, &values->value[count]))
            return t2t_fail(
                T2T_BAD_USAGE, "--%s \"%s\": expected 1 to %d whole numbers up to 65536", option, text, MOST_VALUES);
    for (size_t i = 0; i < MOST_VALUES; i++) {
        if (count == 1) values->value[i] = values->value[0];
        values->given[i] = count == 1 || i < count;
    }
    for (size_t layer = 0; layer < layers; layer++)
        if (request->replaced[layer] && values->given[group_of(layer)]) return T2T_OK;
    return t2t_fail(T2T_BAD_USAGE,
        "--%s \"%s\": its values are for t2t.1 and t2t.2, which --layers leaves as they are; give one value, or three",
        option, text);
}

/* ---- plans ---- */

/* KDEformer's options for one layer: the preset's, then what was asked for. */
static struct attention_config kdeformer_config(
    const struct request *request, bool published, const struct t2t_model *model, size_t layer)
{
    const struct attention_options *options = request->options;
    const size_t group = group_of(layer);
    const bool is_published = published || options->kde_preset == KDE_PRESET_PUBLISHED;
    struct attention_config config = is_published ? t2t_kdeformer_published(model, layer)
                                                  : t2t_attention_defaults(model, ATTENTION_KDEFORMER, layer);
    if (request->samples.given[group]) config.samples = request->samples.value[group];
    if (request->bucket.given[group]) config.bucket = request->bucket.value[group];
    if (request->projections.given[group]) config.projections = request->projections.value[group];
    if (request->pilot.given[group]) config.pilot = request->pilot.value[group];
    if (request->sample_groups.given[group]) config.sample_groups = request->sample_groups.value[group];
    if (t2t_option_given(&options->kde_sampling)) config.sampling = (enum kde_sampling)options->kde_sampling;
    if (t2t_option_given(&options->kde_probability))
        config.probability = (enum kde_probability)options->kde_probability;
    /* the published form has no pilot that could foretell an error, unless it was given one */
    if (!is_published || config.probability == KDE_PILOT) config.target_error = (float)options->kde_error;
    return config;
}

/* Options that would change nothing are refused, and so are two rows that would be the same. */
static enum t2t_status check_kdeformer_options(const struct request *request, const struct attention_options *options)
{
    const struct {
        const void *option;
        const char *name;
    } given[] = {{&options->kde_preset, "kde-preset"}, {&options->kde_sampling, "kde-sampling"},
        {&options->kde_probability, "kde-probability"}, {&options->kde_error, "kde-error"}};
    size_t rows = 0, unpublished = 0;
    for (size_t i = 0; i < request->methods.count; i++) {
        const bool kdeformer = request->methods.method[i]->kind == ATTENTION_KDEFORMER;
        rows += kdeformer;
        unpublished += kdeformer && !request->methods.published[i];
    }
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        if (!rows && t2t_option_given(given[i].option)) return refuse_without_kdeformer(given[i].name);
    if (options->kde_preset == KDE_PRESET_PUBLISHED && rows > 1)
        return t2t_fail(
            T2T_BAD_USAGE, "--kde-preset published makes kdeformer and kdeformer:published the same; list only one");
    if (options->kde_preset == KDE_PRESET_PUBLISHED) unpublished = 0;
    if (options->kde_error > 0 && options->kde_error < LEAST_ERROR)
        return t2t_fail(T2T_BAD_USAGE, "--kde-error %g: outputs in float32 are no closer than %g; 0 means none",
            options->kde_error, LEAST_ERROR);
    const bool sampled_by_pilot = t2t_option_given(&options->kde_probability) && options->kde_probability == KDE_PILOT;
    if (options->kde_error > 0 && !unpublished && !sampled_by_pilot)
        return t2t_fail(T2T_BAD_USAGE, "--kde-error: the published form has no pilot that could foretell an error");
    if (options->kde_pilot && !unpublished && !sampled_by_pilot && !options->attn_opt.count)
        return t2t_fail(
            T2T_BAD_USAGE, "--kde-pilot: the published form has no pilot; --kde-probability pilot gives it one");
    return T2T_OK;
}

static bool sets_samples(const struct attention_setting *setting, size_t layer)
{
    return setting->method->kind == ATTENTION_KDEFORMER && strcmp(setting->parameter->name, "samples") == 0 &&
           layer >= setting->first && layer <= setting->last;
}

/* With a target error, samples are but a limit: all keys, unless another was asked for. */
static void allow_all_samples(const struct request *request, const struct attention_setting *point, size_t layer,
    const struct attention_shape *shape, struct attention_config *config)
{
    enum { MOST_SAMPLES = 65536 };
    bool given = request->samples.given[group_of(layer)] || (point && sets_samples(point, layer));
    for (size_t i = 0; i < request->settings.count; i++)
        given = given || sets_samples(&request->settings.setting[i], layer);
    if (config->target_error > 0 && !given) config->samples = shape->keys < MOST_SAMPLES ? shape->keys : MOST_SAMPLES;
}

/* Of number `index` of the methods. */
static enum t2t_status build_plan(struct t2t_plan *plan, const struct request *request, size_t index,
    const struct attention_setting *point, uint64_t seed, const struct t2t_model *model)
{
    const struct attention_method *method = request->methods.method[index];
    const size_t layers = t2t_model_config(model)->depth + T2T_TOKEN_LAYERS;
    enum t2t_status status = T2T_OK;
    t2t_plan_exact(model, plan);
    plan->seed = seed;
    if (method->kind == ATTENTION_EXACT) return T2T_OK;
    for (size_t layer = 0; layer < layers && !status; layer++) {
        if (!request->replaced[layer]) continue;
        struct attention_config config =
            method->kind == ATTENTION_KDEFORMER
                ? kdeformer_config(request, request->methods.published[index], model, layer)
                : t2t_attention_defaults(model, method->kind, layer);
        t2t_apply_attention_settings(&request->settings, layer, &config);
        if (point) t2t_apply_attention_setting(point, layer, &config);
        const struct attention_shape shape = t2t_layer_shape(model, layer);
        allow_all_samples(request, point, layer, &shape, &config);
        status = t2t_plan_set(model, plan, layer, config);
    }
    return status;
}

/* "t2t.1, t2t.2, block.0-block.13" */
static void describe_layers(const struct request *request, size_t layers, char *text, size_t bytes)
{
    size_t length = 0;
    text[0] = '\0';
    for (size_t layer = 0; layer < layers && length < bytes; layer++) {
        if (!request->replaced[layer]) continue;
        size_t last = layer;
        while (layer >= T2T_TOKEN_LAYERS && last + 1 < layers && request->replaced[last + 1]) last++;
        char first_name[T2T_NAME_BYTES], last_name[T2T_NAME_BYTES];
        t2t_layer_name(layer, first_name);
        t2t_layer_name(last, last_name);
        length += (size_t)snprintf(text + length, bytes - length, "%s%s%s%s", length ? ", " : "", first_name,
            last > layer ? "-" : "", last > layer ? last_name : "");
        layer = last;
    }
}

/* A method at a point of a sweep, or as it is (NULL), with every seed. */
static enum t2t_status add_variant(struct attention_runs *runs, const struct request *request, size_t index,
    const struct attention_setting *point, const struct t2t_model *model)
{
    const struct attention_method *method = request->methods.method[index];
    enum t2t_status status = T2T_OK;
    const size_t seeds = method->random ? request->seeds : 1;
    const size_t variant = runs->count ? runs->run[runs->count - 1].variant + 1 : 0;
    for (size_t i = 0; i < seeds && !status; i++) {
        struct attention_run *run = &runs->run[runs->count];
        *run = (struct attention_run){.method = method, .seed = request->seed[i], .variant = variant};
        t2t_method_label(&request->methods, index, run->curve, sizeof run->curve);
        snprintf(run->label, sizeof run->label, "%s%s", run->curve, point ? strchr(point->text, '.') : "");
        if (point) snprintf(run->swept, sizeof run->swept, "%s", strchr(point->text, '=') + 1);
        snprintf(run->name, sizeof run->name, "%s", run->label);
        if (seeds > 1) snprintf(run->name + strlen(run->name), 28, ".seed%llu", (unsigned long long)run->seed);
        status = build_plan(&runs->plan[runs->count], request, index, point, run->seed, model);
        if (!status) runs->count++;
    }
    return status;
}

static enum t2t_status add_runs(
    struct attention_runs *runs, const struct request *request, size_t index, const struct t2t_model *model)
{
    bool swept = false;
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < request->points.count && !status; i++) {
        if (request->points.setting[i].method != request->methods.method[index]) continue;
        swept = true;
        status = add_variant(runs, request, index, &request->points.setting[i], model);
    }
    return swept ? status : add_variant(runs, request, index, NULL, model);
}

/* The first run of that name: "exact" where none is given, else the first. */
static enum t2t_status choose_reference(struct attention_runs *runs, const char *name)
{
    struct method_list wanted;
    char label[ATTENTION_NAME_BYTES];
    const char *given = name ? name : attention_method(ATTENTION_EXACT)->name;
    const enum t2t_status status = t2t_read_methods("reference", given, &wanted);
    if (status) return status;
    t2t_method_label(&wanted, 0, label, sizeof label);
    for (runs->reference = 0; runs->reference < runs->count; runs->reference++)
        if (strcmp(runs->run[runs->reference].curve, label) == 0) return T2T_OK;
    runs->reference = 0;
    return name ? t2t_fail(T2T_BAD_USAGE, "--reference %s: --attention does not list it", name) : T2T_OK;
}

/* Why a setting of layers that are not replaced has no effect. */
static const char left_alone[] = "--layers leaves its layers as they are";

static enum t2t_status build_runs(struct attention_runs *runs, struct request *request,
    const struct attention_options *options, const struct t2t_model *model)
{
    const size_t layers = t2t_model_config(model)->depth + T2T_TOKEN_LAYERS;
    request->options = options;
    enum t2t_status status = t2t_read_methods("attention", options->attention, &request->methods);
    if (!status) status = check_kdeformer_options(request, options);
    if (!status) status = read_seeds(request, options);
    if (!status) status = read_layers(request, options->layers, layers);
    if (!status) status = read_values(&request->samples, "kde-samples", options->kde_samples, request, layers);
    if (!status) status = read_values(&request->bucket, "kde-bucket", options->kde_bucket, request, layers);
    if (!status)
        status = read_values(&request->projections, "kde-projections", options->kde_projections, request, layers);
    if (!status) status = read_values(&request->pilot, "kde-pilot", options->kde_pilot, request, layers);
    if (!status)
        status = read_values(&request->sample_groups, "kde-sample-groups", options->kde_sample_groups, request, layers);
    if (!status) status = t2t_read_attention_settings(&request->settings, &options->attn_opt, layers);
    if (!status)
        status = t2t_check_attention_settings(
            &request->settings, request->methods.method, request->methods.count, request->replaced, left_alone);
    if (!status)
        status =
            t2t_read_sweeps(&request->points, &options->sweep, request->methods.method, request->methods.count, layers);
    if (!status)
        status = t2t_check_attention_settings(
            &request->points, request->methods.method, request->methods.count, request->replaced, left_alone);
    if (status) return status;
    const size_t most = request->methods.count * (1 + request->points.count) * request->seeds;
    runs->run = calloc(most, sizeof *runs->run);
    runs->plan = calloc(most, sizeof *runs->plan);
    if (!runs->run || !runs->plan) return t2t_fail_memory("attention plans", most * sizeof *runs->plan);
    for (size_t i = 0; i < request->methods.count && !status; i++) status = add_runs(runs, request, i, model);
    describe_layers(request, layers, runs->layers, sizeof runs->layers);
    return status ? status : choose_reference(runs, options->reference);
}

enum t2t_status t2t_attention_runs(
    struct attention_runs *runs, const struct attention_options *options, const struct t2t_model *model)
{
    *runs = (struct attention_runs){0};
    struct request *request = calloc(1, sizeof *request);
    if (!request) return t2t_fail_memory("attention options", sizeof *request);
    const enum t2t_status status = build_runs(runs, request, options, model);
    free(request);
    if (status) t2t_attention_runs_free(runs);
    return status;
}

void t2t_attention_runs_free(struct attention_runs *runs)
{
    free(runs->run);
    free(runs->plan);
    *runs = (struct attention_runs){0};
}
