/* Options of methods as data: a row a key; see attention_settings.h. */
#include "eval/attention_settings.h"

#include <stdio.h>
#include <string.h>

#include "eval/attention_names.h"

enum { NAME_BYTES = 64, LARGEST_VALUE = 16777216 };

static const struct {
    enum attention_kind kind;
    const char *key;
    size_t offset;
} keys[] = {
    {ATTENTION_KDEFORMER, "samples", offsetof(struct attention_config, samples)},
    {ATTENTION_KDEFORMER, "pilot", offsetof(struct attention_config, pilot)},
    {ATTENTION_KDEFORMER, "sample_groups", offsetof(struct attention_config, sample_groups)},
    {ATTENTION_KDEFORMER, "bucket", offsetof(struct attention_config, bucket)},
    {ATTENTION_KDEFORMER, "projections", offsetof(struct attention_config, projections)},
    {ATTENTION_PERFORMER, "features", offsetof(struct attention_config, features)},
    {ATTENTION_REFORMER, "bucket", offsetof(struct attention_config, bucket)},
    {ATTENTION_REFORMER, "rounds", offsetof(struct attention_config, rounds)},
    {ATTENTION_SCATTERBRAIN, "window", offsetof(struct attention_config, window)},
    {ATTENTION_SCATTERBRAIN, "features", offsetof(struct attention_config, features)},
};
enum { KEYS = sizeof keys / sizeof *keys };

static enum t2t_status find_key(const char *text, const char *name, struct attention_setting *setting)
{
    char all[256] = "";
    for (size_t i = 0; i < KEYS; i++) {
        if (keys[i].kind != setting->method->kind) continue;
        if (strcmp(keys[i].key, name) == 0) {
            setting->offset = keys[i].offset;
            return T2T_OK;
        }
        const size_t length = strlen(all);
        snprintf(all + length, sizeof all - length, "%s%s", length ? ", " : "", keys[i].key);
    }
    if (!*all) return t2t_fail(T2T_BAD_USAGE, "--attn-opt \"%s\": %s has no options", text, setting->method->name);
    return t2t_fail(T2T_BAD_USAGE, "--attn-opt \"%s\": %s has no option \"%s\"; there are %s", text,
        setting->method->name, name, all);
}

/* "performer.features=64", "reformer.t2t.1.bucket=49": the method ends at the first point, the key begins after the
 * last, and what is between them is layers. */
static enum t2t_status read_setting(const char *text, size_t layers, struct attention_setting *setting)
{
    char copy[4 * NAME_BYTES];
    if (strlen(text) >= sizeof copy) return t2t_fail(T2T_BAD_USAGE, "--attn-opt \"%.40s...\": too long", text);
    strcpy(copy, text);
    char *value = strchr(copy, '='), *layer = strchr(copy, '.');
    if (value) *value++ = '\0';
    char *key = strrchr(copy, '.');
    if (!value || !layer || !key)
        return t2t_fail(T2T_BAD_USAGE,
            "--attn-opt \"%s\": expected METHOD.KEY=VALUE or METHOD.LAYER.KEY=VALUE, as in performer.features=64 or "
            "reformer.t2t.1.bucket=49",
            text);
    *layer++ = '\0';
    *key++ = '\0';
    const enum t2t_status status = t2t_find_method("attn-opt", copy, &setting->method);
    if (status) return status;
    setting->first = 0;
    setting->last = layers - 1;
    if (layer < key && !t2t_find_layers(layer, layers, &setting->first, &setting->last))
        return t2t_fail(T2T_BAD_USAGE,
            "--attn-opt \"%s\": this model has no layer \"%s\"; its layers are t2t.1, t2t.2, block.0 ... block.%zu (or "
            "t2t, blocks, all)",
            text, layer, layers - 3);
    if (!t2t_parse_number(value, 0, LARGEST_VALUE, &setting->value))
        return t2t_fail(T2T_BAD_USAGE, "--attn-opt \"%s\": expected a whole number up to %d, not \"%s\"", text,
            LARGEST_VALUE, value);
    return find_key(text, key, setting);
}

enum t2t_status t2t_read_attention_settings(
    struct attention_settings *settings, const struct option_texts *texts, size_t layers)
{
    enum t2t_status status = T2T_OK;
    settings->count = 0;
    for (size_t i = 0; i < texts->count && !status; i++) {
        status = read_setting(texts->text[i], layers, &settings->setting[i]);
        if (!status) settings->count++;
    }
    return status;
}

void t2t_apply_attention_settings(
    const struct attention_settings *settings, size_t layer, struct attention_config *config)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct attention_setting *setting = &settings->setting[i];
        if (setting->method->kind == config->kind && layer >= setting->first && layer <= setting->last)
            *(size_t *)(void *)((char *)config + setting->offset) = setting->value;
    }
}

enum t2t_status t2t_check_attention_settings(const struct attention_settings *settings,
    const struct option_texts *texts, const struct attention_method *const *methods, size_t count, const bool *replaced)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct attention_setting *setting = &settings->setting[i];
        bool listed = false, applies = false;
        for (size_t j = 0; j < count; j++) listed = listed || methods[j] == setting->method;
        for (size_t layer = setting->first; layer <= setting->last; layer++) applies = applies || replaced[layer];
        if (!listed)
            return t2t_fail(T2T_BAD_USAGE, "--attn-opt \"%s\": --attention does not list %s", texts->text[i],
                setting->method->name);
        if (!applies)
            return t2t_fail(T2T_BAD_USAGE, "--attn-opt \"%s\": --layers leaves its layers as they are", texts->text[i]);
    }
    return T2T_OK;
}
