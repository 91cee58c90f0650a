/* Settings of options by method, layer and key; see attention_settings.h. */
#include "eval/attention_settings.h"

#include <stdio.h>
#include <string.h>

#include "eval/attention_names.h"
#include "eval/option_lists.h"

static enum t2t_status read_value(const char *value, struct attention_setting *setting)
{
    char all[256] = "a whole number up to 16777216";
    if (setting->parameter->share) strcpy(all, "a number from 0 to 1");
    if (t2t_parameter_parse(setting->parameter, value, &setting->value)) return T2T_OK;
    for (size_t i = 0; setting->parameter->words && setting->parameter->words[i]; i++) {
        const size_t length = i ? strlen(all) : 0;
        snprintf(all + length, sizeof all - length, "%s%s", length ? ", " : "", setting->parameter->words[i]);
    }
    return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": expected %s, not \"%s\"", setting->option, setting->text, all, value);
}

static enum t2t_status find_key(const char *name, const char *value, struct attention_setting *setting)
{
    char all[256] = "";
    const struct attention_parameter *parameter;
    for (size_t i = 0; (parameter = t2t_attention_parameter(i)); i++) {
        if (!t2t_method_has(setting->method->kind, parameter)) continue;
        if (strcmp(parameter->name, name) == 0) {
            setting->parameter = parameter;
            return read_value(value, setting);
        }
        const size_t length = strlen(all);
        snprintf(all + length, sizeof all - length, "%s%s", length ? ", " : "", parameter->name);
    }
    const char *method = setting->method->name;
    if (!*all) return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": %s has no options", setting->option, setting->text, method);
    return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": %s has no option \"%s\"; there are %s", setting->option, setting->text,
        method, name, all);
}

/* "performer.features=64", "reformer.t2t.1.bucket=49": the method ends at the first point, the key begins after the
 * last, and what is between them is layers. */
static enum t2t_status read_setting(
    const char *option, const char *text, size_t layers, struct attention_setting *setting)
{
    char copy[SETTING_BYTES];
    if (strlen(text) >= sizeof copy) return t2t_fail(T2T_BAD_USAGE, "--%s \"%.40s...\": too long", option, text);
    strcpy(copy, text);
    strcpy(setting->text, text);
    setting->option = option;
    char *value = strchr(copy, '='), *layer = strchr(copy, '.');
    if (value) *value++ = '\0';
    char *key = strrchr(copy, '.');
    if (!value || !layer || !key)
        return t2t_fail(T2T_BAD_USAGE,
            "--%s \"%s\": expected METHOD.KEY=VALUE or METHOD.LAYER.KEY=VALUE, as in performer.features=64 or "
            "reformer.t2t.1.bucket=49",
            option, text);
    *layer++ = '\0';
    *key++ = '\0';
    const enum t2t_status status = t2t_find_method(option, copy, &setting->method);
    if (status) return status;
    setting->first = 0;
    setting->last = layers - 1;
    if (layer < key && !t2t_find_layers(layer, layers, &setting->first, &setting->last))
        return t2t_fail(T2T_BAD_USAGE,
            "--%s \"%s\": this model has no layer \"%s\"; its layers are t2t.1, t2t.2, block.0 ... block.%zu (or "
            "t2t, blocks, all)",
            option, text, layer, layers - 3);
    return find_key(key, value, setting);
}

static enum t2t_status add_setting(
    struct attention_settings *settings, const char *option, const char *text, size_t layers)
{
    if (settings->count == SETTINGS_MOST)
        return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": more than %d settings", option, text, SETTINGS_MOST);
    const enum t2t_status status = read_setting(option, text, layers, &settings->setting[settings->count]);
    if (!status) settings->count++;
    return status;
}

enum t2t_status t2t_read_attention_settings(
    struct attention_settings *settings, const struct option_texts *texts, size_t layers)
{
    enum t2t_status status = T2T_OK;
    settings->count = 0;
    for (size_t i = 0; i < texts->count && !status; i++)
        status = add_setting(settings, "attn-opt", texts->text[i], layers);
    return status;
}

/* ---- sweeps ---- */

static bool has_key(const struct attention_method *method, const char *name)
{
    const struct attention_parameter *parameter;
    for (size_t i = 0; (parameter = t2t_attention_parameter(i)); i++)
        if (t2t_method_has(method->kind, parameter) && strcmp(parameter->name, name) == 0) return true;
    return false;
}

/* A method may be listed twice: with its published options too. */
static bool is_first(const struct attention_method *const *methods, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (methods[i] == methods[index]) return false;
    return true;
}

/* A setting [METHOD.]KEY=VALUE for every value. */
static enum t2t_status add_points(
    struct attention_settings *points, const char *method, const char *key, const char *values, size_t layers)
{
    char copy[LIST_BYTES], text[LIST_BYTES + SETTING_BYTES];
    enum t2t_status status = t2t_copy_list("sweep", values, copy);
    char *rest = copy;
    for (const char *value; !status && (value = t2t_next_word(&rest));) {
        snprintf(text, sizeof text, "%s%s%s=%s", method, *method ? "." : "", key, value);
        status = add_setting(points, "sweep", text, layers);
        for (size_t i = 0; !status && i + 1 < points->count; i++)
            if (strcmp(points->setting[i].text, text) == 0)
                status = t2t_fail(T2T_BAD_USAGE, "--sweep: %s is listed twice", text);
    }
    return status;
}

enum t2t_status t2t_read_sweeps(struct attention_settings *points, const struct option_texts *texts,
    const struct attention_method *const *methods, size_t count, size_t layers)
{
    enum t2t_status status = T2T_OK;
    points->count = 0;
    for (size_t i = 0; i < texts->count && !status; i++) {
        const char *text = texts->text[i], *values = strchr(text, '=');
        char key[SETTING_BYTES];
        if (!values || values == text || (size_t)(values - text) >= sizeof key)
            return t2t_fail(T2T_BAD_USAGE,
                "--sweep \"%.80s\": expected KEY=LIST or METHOD.KEY=LIST, as in samples=24,49,98,196", text);
        snprintf(key, sizeof key, "%.*s", (int)(values - text), text);
        if (strchr(key, '.')) {
            status = add_points(points, "", key, values + 1, layers);
            continue;
        }
        const size_t before = points->count;
        for (size_t m = 0; m < count && !status; m++)
            if (has_key(methods[m], key) && is_first(methods, m))
                status = add_points(points, methods[m]->name, key, values + 1, layers);
        if (!status && points->count == before)
            return t2t_fail(T2T_BAD_USAGE, "--sweep \"%s\": no method of --attention has an option \"%s\"", text, key);
    }
    return status;
}

/* ---- using them ---- */

void t2t_apply_attention_setting(const struct attention_setting *setting, size_t layer, struct attention_config *config)
{
    if (setting->method->kind == config->kind && layer >= setting->first && layer <= setting->last)
        t2t_parameter_set(setting->parameter, config, setting->value);
}

void t2t_apply_attention_settings(
    const struct attention_settings *settings, size_t layer, struct attention_config *config)
{
    for (size_t i = 0; i < settings->count; i++) t2t_apply_attention_setting(&settings->setting[i], layer, config);
}

enum t2t_status t2t_check_attention_settings(const struct attention_settings *settings,
    const struct attention_method *const *methods, size_t count, const bool *replaced, const char *reason)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct attention_setting *setting = &settings->setting[i];
        bool listed = false, applies = false;
        for (size_t j = 0; j < count; j++) listed = listed || methods[j] == setting->method;
        for (size_t layer = setting->first; layer <= setting->last; layer++) applies = applies || replaced[layer];
        if (!listed)
            return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": --attention does not list %s", setting->option, setting->text,
                setting->method->name);
        if (!applies) return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": %s", setting->option, setting->text, reason);
    }
    return T2T_OK;
}
