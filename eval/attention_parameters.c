/* The table of options, and the table of feature sizes. */
#include "eval/attention_parameters.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "eval/options.h"

_Static_assert(sizeof(enum kde_sampling) == sizeof(unsigned) && sizeof(enum kde_probability) == sizeof(unsigned),
    "enums are read and written as unsigned numbers");

#define METHOD(KIND) (1U << (KIND))
#define FIELD(NAME) #NAME, offsetof(struct attention_config, NAME)

enum { LARGEST_VALUE = 16777216 };

static const char *const sampling_words[] = {"multinomial", "systematic", NULL};
static const char *const probability_words[] = {"value", "pilot", "uniform", "column-norm", NULL};

static const struct attention_parameter parameters[] = {
    {FIELD(samples), METHOD(ATTENTION_KDEFORMER) | METHOD(ATTENTION_KDE_THEORY), NULL, false},
    {FIELD(bucket), METHOD(ATTENTION_KDEFORMER) | METHOD(ATTENTION_KDE_THEORY) | METHOD(ATTENTION_REFORMER), NULL,
        false},
    {FIELD(projections), METHOD(ATTENTION_KDEFORMER) | METHOD(ATTENTION_KDE_THEORY), NULL, false},
    {FIELD(sampling), METHOD(ATTENTION_KDEFORMER), sampling_words, false},
    {FIELD(probability), METHOD(ATTENTION_KDEFORMER), probability_words, false},
    {FIELD(pilot), METHOD(ATTENTION_KDEFORMER), NULL, false},
    {FIELD(sample_groups), METHOD(ATTENTION_KDEFORMER), NULL, false},
    {"error", offsetof(struct attention_config, target_error), METHOD(ATTENTION_KDEFORMER), NULL, true},
    {FIELD(features), METHOD(ATTENTION_PERFORMER) | METHOD(ATTENTION_SCATTERBRAIN), NULL, false},
    {FIELD(window), METHOD(ATTENTION_SCATTERBRAIN), NULL, false},
    {FIELD(rounds), METHOD(ATTENTION_REFORMER), NULL, false},
};

enum { PARAMETERS = sizeof parameters / sizeof *parameters };

const struct attention_parameter *t2t_attention_parameter(size_t index)
{
    return index < PARAMETERS ? &parameters[index] : NULL;
}

bool t2t_method_has(enum attention_kind kind, const struct attention_parameter *parameter)
{
    return parameter->methods & METHOD(kind);
}

double t2t_parameter_get(const struct attention_parameter *parameter, const struct attention_config *config)
{
    const char *field = (const char *)config + parameter->offset;
    size_t number;
    float share;
    unsigned choice; /* what C gives an enum without negative values here */
    if (parameter->words) {
        memcpy(&choice, field, sizeof choice);
        return choice;
    }
    if (parameter->share) {
        memcpy(&share, field, sizeof share);
        return (double)share;
    }
    memcpy(&number, field, sizeof number);
    return (double)number;
}

void t2t_parameter_set(const struct attention_parameter *parameter, struct attention_config *config, double value)
{
    char *field = (char *)config + parameter->offset;
    const unsigned choice = (unsigned)value;
    const float share = (float)value;
    const size_t number = (size_t)value;
    if (parameter->words)
        memcpy(field, &choice, sizeof choice);
    else if (parameter->share)
        memcpy(field, &share, sizeof share);
    else
        memcpy(field, &number, sizeof number);
}

bool t2t_parameter_parse(const struct attention_parameter *parameter, const char *text, double *value)
{
    size_t number = 0;
    if (parameter->share) return t2t_parse_real(text, 0, 1, value) && !(*value > 0 && *value < LEAST_ERROR);
    if (!parameter->words && !t2t_parse_number(text, 0, LARGEST_VALUE, &number)) return false;
    if (parameter->words)
        while (parameter->words[number] && strcmp(parameter->words[number], text) != 0) number++;
    *value = (double)number;
    return !parameter->words || parameter->words[number];
}

bool t2t_same_config(const struct attention_config *one, const struct attention_config *other)
{
    if (one->kind != other->kind) return false;
    for (size_t i = 0; i < PARAMETERS; i++) {
        const double a = t2t_parameter_get(&parameters[i], one), b = t2t_parameter_get(&parameters[i], other);
        if (t2t_method_has(one->kind, &parameters[i]) && (a < b || a > b)) return false;
    }
    return true;
}

json_t *t2t_config_as_json(const struct attention_config *config)
{
    json_t *options = json_object();
    for (size_t i = 0; i < PARAMETERS; i++) {
        const struct attention_parameter *parameter = &parameters[i];
        if (!t2t_method_has(config->kind, parameter)) continue;
        const double value = t2t_parameter_get(parameter, config);
        json_t *json = parameter->words   ? json_string(parameter->words[(size_t)value])
                       : parameter->share ? json_real(value)
                                          : json_integer((json_int_t)value);
        json_object_set_new(options, parameter->name, json);
    }
    return options;
}

void t2t_set_taken(json_t *object, const struct attention_taken *taken)
{
    if (taken->units > 0)
        json_object_set_new(object, "taken",
            json_pack("{s:f,s:f,s:f}", "bucket", taken->bucket / taken->units, "samples", taken->samples / taken->units,
                "unmet", taken->unmet / taken->units));
}

void t2t_taken_text(const struct attention_taken *taken, char text[TAKEN_BYTES])
{
    const int length = snprintf(text, TAKEN_BYTES, "%.1f samples, buckets of %.1f", taken->samples / taken->units,
        taken->bucket / taken->units);
    if (taken->unmet > 0)
        snprintf(text + length, TAKEN_BYTES - (size_t)length,
            " (not met with all that were allowed: %.0f of %.0f heads)", taken->unmet, taken->units);
}

/* ---- feature sizes ---- */

/* A method's options: `whole` is the feature size, `half` half of it. A reformer's chunk of half the
 * size sees itself and the one before, which makes the whole. */
static const struct feature_size {
    bool known;
    size_t whole, half;                      /* offsets in struct attention_config; NONE */
    struct attention_config best, published; /* the options beside those */
} feature_sizes[ATTENTION_KINDS] = {
#define AT(NAME) offsetof(struct attention_config, NAME)
#define NONE SIZE_MAX
    [ATTENTION_KDEFORMER] = {true, AT(samples), AT(bucket),
        {.projections = 7, .sampling = KDE_SYSTEMATIC, .probability = KDE_PILOT, .pilot = 32, .sample_groups = 4},
        {.projections = 7, .sample_groups = 1}},
    [ATTENTION_KDE_THEORY] = {true, AT(samples), AT(bucket), {.projections = 7}, {.projections = 7}},
    [ATTENTION_PERFORMER] = {true, AT(features), NONE, {.features = 0}, {.features = 0}},
    [ATTENTION_REFORMER] = {true, NONE, AT(bucket), {.rounds = 2}, {.rounds = 2}},
    [ATTENTION_SCATTERBRAIN] = {true, AT(features), AT(window), {.features = 0}, {.features = 0}},
};

bool t2t_feature_config(enum attention_kind kind, bool published, size_t features, struct attention_config *config)
{
    const struct feature_size *size = &feature_sizes[kind];
    const size_t half = features / 2;
    *config = published ? size->published : size->best;
    config->kind = kind;
    if (size->known && size->whole != NONE) memcpy((char *)config + size->whole, &features, sizeof features);
    if (size->known && size->half != NONE) memcpy((char *)config + size->half, &half, sizeof half);
    return size->known;
}
