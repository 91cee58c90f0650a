/* Reading attention options, and building plans from them. */
#include "eval/attention_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/attention_names.h"
#include "eval/attention_settings.h"

enum { MOST_SEEDS = 1000, MOST_VALUES = 3, TEXT_BYTES = 4096, TOKEN_LAYERS = 2 };

/* Whole numbers of the three groups of layers: t2t.1, t2t.2, blocks. */
struct layer_values {
    bool given[MOST_VALUES];
    size_t value[MOST_VALUES];
};

struct request {
    const struct attention_method *method[ATTENTION_KINDS];
    size_t methods;
    uint64_t seed[MOST_SEEDS];
    size_t seeds;
    bool replaced[T2T_MAX_LAYERS];
    struct layer_values samples, bucket, projections, pilot, sample_groups;
    const struct attention_options *options;
    struct attention_settings settings;
};

/* ---- lists ---- */

/* Words of a list, one a call; NULL after the last. `rest` walks through a copy of the text. */
static char *next_word(char **rest)
{
    return *rest ? strsep(rest, ",") : NULL;
}

static enum t2t_status copy_list(const char *option, const char *text, char copy[TEXT_BYTES])
{
    if (strlen(text) >= TEXT_BYTES) return t2t_fail(T2T_BAD_USAGE, "--%s: its list is too long", option);
    strcpy(copy, text);
    return T2T_OK;
}

static enum t2t_status read_methods(struct request *request, const char *text)
{
    char copy[TEXT_BYTES];
    enum t2t_status status = copy_list("attention", text, copy);
    char *rest = copy;
    for (const char *word; !status && (word = next_word(&rest));) {
        const struct attention_method *method;
        status = t2t_find_method("attention", word, &method);
        for (size_t i = 0; !status && i < request->methods; i++)
            if (request->method[i] == method)
                status = t2t_fail(T2T_BAD_USAGE, "--attention \"%s\": %s is listed twice", text, word);
        if (!status) request->method[request->methods++] = method;
    }
    return status;
}

static bool is_listed(const struct request *request, enum attention_kind kind)
{
    for (size_t i = 0; i < request->methods; i++)
        if (request->method[i]->kind == kind) return true;
    return false;
}

static enum t2t_status read_seeds(struct request *request, const struct attention_options *options)
{
    request->seed[0] = options->seed;
    request->seeds = 1;
    if (!options->seeds) return T2T_OK;
    if (t2t_option_given(&options->seed))
        return t2t_fail(T2T_BAD_USAGE, "--seed and --seeds: only one of them is meant");
    size_t number;
    if (!strchr(options->seeds, ',')) {
        if (!t2t_parse_number(options->seeds, 1, MOST_SEEDS, &number))
            return t2t_fail(T2T_BAD_USAGE, "--seeds \"%s\": expected how many (1 to %d), or a list like 3,7",
                options->seeds, MOST_SEEDS);
        for (request->seeds = 0; request->seeds < number; request->seeds++)
            request->seed[request->seeds] = request->seeds + 1;
        return T2T_OK;
    }
    char copy[TEXT_BYTES];
    enum t2t_status status = copy_list("seeds", options->seeds, copy);
    char *rest = copy;
    request->seeds = 0;
    for (const char *word; !status && (word = next_word(&rest));) {
        if (request->seeds == MOST_SEEDS || !t2t_parse_number(word, 0, 9007199254740992.0, &number))
            return t2t_fail(T2T_BAD_USAGE, "--seeds \"%s\": expected at most %d whole numbers separated by commas",
                options->seeds, MOST_SEEDS);
        for (size_t i = 0; i < request->seeds; i++)
            if (request->seed[i] == number)
                return t2t_fail(T2T_BAD_USAGE, "--seeds \"%s\": %zu is listed twice", options->seeds, number);
        request->seed[request->seeds++] = number;
    }
    return status;
}

/* ---- layers ---- */

static enum t2t_status read_layers(struct request *request, const char *text, size_t layers)
{
    char copy[TEXT_BYTES];
    enum t2t_status status = copy_list("layers", text, copy);
    char *rest = copy;
    for (const char *word; !status && (word = next_word(&rest));) {
        size_t first, last;
        if (!t2t_find_layers(word, layers, &first, &last))
            return t2t_fail(T2T_BAD_USAGE,
                "--layers \"%s\": this model's layers are t2t.1, t2t.2, block.0 ... block.%zu (or t2t, blocks, all, or "
                "numbers 0 to %zu)",
                word, layers - TOKEN_LAYERS - 1, layers - 1);
        for (size_t layer = first; layer <= last; layer++) request->replaced[layer] = true;
    }
    return status;
}

static size_t group_of(size_t layer)
{
    return layer < TOKEN_LAYERS ? layer : TOKEN_LAYERS;
}

/* "98,24": one value for every replaced layer, two for the tokens-to-token layers, a third for the blocks. */
static enum t2t_status read_values(
    struct layer_values *values, const char *option, const char *text, const struct request *request, size_t layers)
{
    if (!text) return T2T_OK;
    if (!is_listed(request, ATTENTION_KDEFORMER))
        return t2t_fail(T2T_BAD_USAGE, "--%s: --attention lists no kdeformer", option);
    char copy[TEXT_BYTES];
    enum t2t_status status = copy_list(option, text, copy);
    if (status) return status;
    char *rest = copy;
    size_t count = 0;
    for (const char *word; (word = next_word(&rest)); count++)
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
    const struct request *request, const struct t2t_model *model, size_t layer)
{
    const struct attention_options *options = request->options;
    const size_t group = group_of(layer);
    struct attention_config config = options->kde_preset == KDE_PRESET_PUBLISHED
                                         ? t2t_kdeformer_published(model, layer)
                                         : t2t_attention_defaults(model, ATTENTION_KDEFORMER, layer);
    if (request->samples.given[group]) config.samples = request->samples.value[group];
    if (request->bucket.given[group]) config.bucket = request->bucket.value[group];
    if (request->projections.given[group]) config.projections = request->projections.value[group];
    if (request->pilot.given[group]) config.pilot = request->pilot.value[group];
    if (request->sample_groups.given[group]) config.sample_groups = request->sample_groups.value[group];
    if (t2t_option_given(&options->kde_sampling)) config.sampling = (enum kde_sampling)options->kde_sampling;
    if (t2t_option_given(&options->kde_probability))
        config.probability = (enum kde_probability)options->kde_probability;
    return config;
}

static enum t2t_status build_plan(struct t2t_plan *plan, const struct request *request,
    const struct attention_method *method, uint64_t seed, const struct t2t_model *model)
{
    const size_t layers = t2t_model_config(model)->depth + TOKEN_LAYERS;
    enum t2t_status status = T2T_OK;
    t2t_plan_exact(model, plan);
    plan->seed = seed;
    if (method->kind == ATTENTION_EXACT) return T2T_OK;
    for (size_t layer = 0; layer < layers && !status; layer++) {
        if (!request->replaced[layer]) continue;
        struct attention_config config = method->kind == ATTENTION_KDEFORMER
                                             ? kdeformer_config(request, model, layer)
                                             : t2t_attention_defaults(model, method->kind, layer);
        t2t_apply_attention_settings(&request->settings, layer, &config);
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
        while (layer >= TOKEN_LAYERS && last + 1 < layers && request->replaced[last + 1]) last++;
        char first_name[T2T_NAME_BYTES], last_name[T2T_NAME_BYTES];
        t2t_layer_name(layer, first_name);
        t2t_layer_name(last, last_name);
        length += (size_t)snprintf(text + length, bytes - length, "%s%s%s%s", length ? ", " : "", first_name,
            last > layer ? "-" : "", last > layer ? last_name : "");
        layer = last;
    }
}

static enum t2t_status add_runs(struct attention_runs *runs, const struct request *request,
    const struct attention_method *method, const struct t2t_model *model)
{
    enum t2t_status status = T2T_OK;
    const size_t seeds = method->random ? request->seeds : 1;
    for (size_t i = 0; i < seeds && !status; i++) {
        struct attention_run *run = &runs->run[runs->count];
        *run = (struct attention_run){.method = method, .seed = request->seed[i]};
        if (seeds > 1)
            snprintf(run->name, sizeof run->name, "%s.seed%llu", method->name, (unsigned long long)run->seed);
        else
            snprintf(run->name, sizeof run->name, "%s", method->name);
        status = build_plan(&runs->plan[runs->count], request, method, run->seed, model);
        if (!status) runs->count++;
    }
    return status;
}

static enum t2t_status choose_reference(struct attention_runs *runs, const char *name)
{
    const struct attention_method *wanted = attention_method(ATTENTION_EXACT);
    if (name) {
        const enum t2t_status status = t2t_find_method("reference", name, &wanted);
        if (status) return status;
    }
    for (size_t i = 0; i < runs->count; i++)
        if (runs->run[i].method == wanted) {
            runs->reference = i;
            return T2T_OK;
        }
    runs->reference = 0;
    if (!name) return T2T_OK;
    return t2t_fail(T2T_BAD_USAGE, "--reference %s: --attention does not list it", name);
}

static enum t2t_status build_runs(struct attention_runs *runs, struct request *request,
    const struct attention_options *options, const struct t2t_model *model)
{
    const size_t layers = t2t_model_config(model)->depth + TOKEN_LAYERS;
    request->options = options;
    enum t2t_status status = read_methods(request, options->attention);
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
            &request->settings, &options->attn_opt, request->method, request->methods, request->replaced);
    if (status) return status;
    const size_t most = request->methods * request->seeds;
    runs->run = calloc(most, sizeof *runs->run);
    runs->plan = calloc(most, sizeof *runs->plan);
    if (!runs->run || !runs->plan) return t2t_fail_memory("attention plans", most * sizeof *runs->plan);
    for (size_t i = 0; i < request->methods && !status; i++)
        status = add_runs(runs, request, request->method[i], model);
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
