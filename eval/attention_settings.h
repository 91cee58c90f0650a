/* --attn-opt METHOD[.LAYER].KEY=VALUE: options of any method, for all of its layers or some. */
#ifndef T2T_EVAL_ATTENTION_SETTINGS_H
#define T2T_EVAL_ATTENTION_SETTINGS_H

#include "eval/attention_parameters.h"
#include "eval/options.h"
#include "vit/t2t_vit.h"

enum { SETTINGS_MOST = 64, SETTING_BYTES = 64 };

struct attention_setting {
    const char *option;       /* that it comes from, "attn-opt" */
    char text[SETTING_BYTES]; /* "performer.features=64" */
    const struct attention_method *method;
    size_t first, last; /* layers */
    const struct attention_parameter *parameter;
    double value;
};

struct attention_settings {
    struct attention_setting setting[SETTINGS_MOST];
    size_t count;
};

/* Reads what was given, in order, for a network of `layers`. T2T_BAD_USAGE with a sentence for an unknown method, layer
 * or key, or a value that it cannot have. Whether a value suits its method, t2t_plan_set() says. */
enum t2t_status t2t_read_attention_settings(
    struct attention_settings *settings, const struct option_texts *texts, size_t layers);

/* The same for --sweep [METHOD[.LAYER].]KEY=VALUE,VALUE,...: a setting for each value. A key alone is meant for every one
 * of `methods` that has it. */
enum t2t_status t2t_read_sweeps(struct attention_settings *points, const struct option_texts *texts,
    const struct attention_method *const *methods, size_t count, size_t layers);

/* Sets a layer's options where its method is meant; where several settings meet, the last one holds. */
void t2t_apply_attention_setting(
    const struct attention_setting *setting, size_t layer, struct attention_config *config);
void t2t_apply_attention_settings(
    const struct attention_settings *settings, size_t layer, struct attention_config *config);

/* T2T_BAD_USAGE when a setting is for a method that is not among `methods`, or for layers of which none is replaced. */
enum t2t_status t2t_check_attention_settings(const struct attention_settings *settings,
    const struct attention_method *const *methods, size_t count, const bool *replaced, const char *reason);

#endif
