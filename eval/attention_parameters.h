/* The options of attention methods by name, for sweeps and reports: each a field of struct attention_config. */
#ifndef T2T_EVAL_ATTENTION_PARAMETERS_H
#define T2T_EVAL_ATTENTION_PARAMETERS_H

#include <jansson.h>
#include <stdbool.h>

#include "layers/attention.h"

struct attention_parameter {
    const char *name;         /* "samples" */
    size_t offset;            /* in struct attention_config */
    unsigned methods;         /* bit `kind` is set where the method has it */
    const char *const *words; /* of an enum's values in their order, ended by NULL */
    bool share;               /* a float of 0 to 1; without this and words it is a size_t */
};

/* The rows in order; NULL after the last. */
const struct attention_parameter *t2t_attention_parameter(size_t index);
bool t2t_method_has(enum attention_kind kind, const struct attention_parameter *parameter);

/* A field of a configuration: a number, or the place of a word. */
double t2t_parameter_get(const struct attention_parameter *parameter, const struct attention_config *config);
void t2t_parameter_set(const struct attention_parameter *parameter, struct attention_config *config, double value);

/* The value that a text means. False: it means none. */
bool t2t_parameter_parse(const struct attention_parameter *parameter, const char *text, double *value);

/* Whether both mean the same: the method and all of its options. */
bool t2t_same_config(const struct attention_config *one, const struct attention_config *other);

/* Relative errors below this are no targets. */
#define LEAST_ERROR 1e-7

/* {"samples": 98, "sampling": "systematic", ...}: what the configuration's method looks at. */
json_t *t2t_config_as_json(const struct attention_config *config);

/* Adds "taken" to an object: what a target error took of buckets and samples, in the mean, and the share of heads in
 * which it was not met with the samples that were allowed; nothing where there was no target. */
void t2t_set_taken(json_t *object, const struct attention_taken *taken);

/* The same in words: "41.3 samples, buckets of 16.0 (not met in 2 of 8)". */
enum { TAKEN_BYTES = 160 };
void t2t_taken_text(const struct attention_taken *taken, char text[TAKEN_BYTES]);

/* What "64 features" means for methods that differ: options that make a query meet about as many columns, as in the
 * word vector experiment of KDEformer's authors (arXiv 2302.02451, section 4.1; demo_glove.py): the size or half of it
 * for each option. The others are the published ones, or those found best where there are such. False where a method
 * has no size to speak of. */
bool t2t_feature_config(enum attention_kind kind, bool published, size_t features, struct attention_config *config);

#endif
