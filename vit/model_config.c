/* Metadata of a weights file, read strictly: a value that is present but makes no sense is an error, never a default. */
#include "vit/model_config.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_IMAGE_SIZE = 4096,
    MAX_EMBED_DIM = 8192,
    MAX_TOKEN_DIM = 1024,
    MAX_HEADS = 1024,
    MAX_CLASSES = 1000000,
    MAX_MLP_RATIO = 64
};

static enum t2t_status bad_value(
    const struct t2t_tensors *file, const char *key, const char *value, const char *expected)
{
    return t2t_fail(
        T2T_BAD_MODEL, "%s: metadata %s is \"%.100s\", expected %s", t2t_tensors_path(file), key, value, expected);
}

static bool parse_number(const char *text, double *number)
{
    char *end;
    errno = 0;
    *number = strtod(text, &end);
    if (end == text || errno == ERANGE || !isfinite(*number)) return false;
    while (isspace((unsigned char)*end)) end++;
    return *end == '\0';
}

/* ---- sizes ---- */

struct size_key {
    const char *key;
    size_t offset; /* in struct t2t_config */
    size_t largest;
    bool required; /* of a custom network */
};

static const struct size_key custom_sizes[] = {
    {"embed_dim", offsetof(struct t2t_config, embed_dim), MAX_EMBED_DIM, true},
    {"depth", offsetof(struct t2t_config, depth), T2T_MAX_DEPTH, true},
    {"num_heads", offsetof(struct t2t_config, num_heads), MAX_HEADS, true},
    {"token_dim", offsetof(struct t2t_config, token_dim), MAX_TOKEN_DIM, false},
};

static enum t2t_status read_size(
    const struct t2t_tensors *file, const char *key, const char *text, size_t largest, size_t *size)
{
    double number;
    if (!parse_number(text, &number) || number < 1 || number > (double)largest || number != floor(number)) {
        char expected[64];
        snprintf(expected, sizeof expected, "a whole number from 1 to %zu", largest);
        return bad_value(file, key, text, expected);
    }
    *size = (size_t)number;
    return T2T_OK;
}

static enum t2t_status missing_key(const struct t2t_tensors *file, const char *key)
{
    return t2t_fail(T2T_BAD_MODEL,
        "%s: metadata %s is missing; a custom network needs tokens_type, embed_dim, depth, num_heads and mlp_ratio",
        t2t_tensors_path(file), key);
}

static enum t2t_status read_tokens_type(const struct t2t_tensors *file, enum t2t_tokens_type *type)
{
    const char *text = t2t_tensors_metadata(file, "tokens_type");
    if (!text) return missing_key(file, "tokens_type");
    if (strcmp(text, "transformer") == 0)
        *type = T2T_TOKENS_TRANSFORMER;
    else if (strcmp(text, "performer") == 0)
        *type = T2T_TOKENS_PERFORMER;
    else
        return bad_value(file, "tokens_type", text, "\"transformer\" or \"performer\"");
    return T2T_OK;
}

static enum t2t_status read_custom(const struct t2t_tensors *file, struct t2t_config *config)
{
    *config = (struct t2t_config){.name = "custom", .token_dim = 64};
    enum t2t_status status = read_tokens_type(file, &config->tokens_type);
    for (size_t i = 0; i < sizeof custom_sizes / sizeof *custom_sizes && !status; i++) {
        const struct size_key *row = &custom_sizes[i];
        const char *text = t2t_tensors_metadata(file, row->key);
        if (text)
            status = read_size(file, row->key, text, row->largest, (size_t *)((char *)config + row->offset));
        else if (row->required)
            status = missing_key(file, row->key);
    }
    if (status) return status;
    const char *ratio = t2t_tensors_metadata(file, "mlp_ratio");
    if (!ratio) return missing_key(file, "mlp_ratio");
    if (!parse_number(ratio, &config->mlp_ratio) || config->mlp_ratio <= 0 || config->mlp_ratio > MAX_MLP_RATIO ||
        (double)config->embed_dim * config->mlp_ratio < 1)
        return bad_value(file, "mlp_ratio", ratio, "a number above 0 and at most 64");
    if (config->embed_dim % config->num_heads)
        return t2t_fail(T2T_BAD_MODEL, "%s: metadata num_heads %zu does not divide embed_dim %zu",
            t2t_tensors_path(file), config->num_heads, config->embed_dim);
    if (config->tokens_type == T2T_TOKENS_PERFORMER && config->token_dim < 2)
        return bad_value(file, "token_dim", "1", "at least 2 for tokens_type performer");
    return T2T_OK;
}

static void list_variants(char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; t2t_variant(i) && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i ? ", " : "", t2t_variant(i)->name);
}

static enum t2t_status find_variant(
    const struct t2t_tensors *file, const char *variant_or_null, struct t2t_config *config)
{
    const char *stated = t2t_tensors_metadata(file, "model");
    const char *name = variant_or_null ? variant_or_null : stated;
    char known[256];
    list_variants(known, sizeof known);
    if (!name)
        return t2t_fail(T2T_BAD_MODEL, "%s: nothing says which network this is; name it with --model (%s)",
            t2t_tensors_path(file), known);
    if (variant_or_null && stated && strcmp(variant_or_null, stated) != 0)
        return t2t_fail(T2T_BAD_MODEL, "%s: the file says it is %.64s, not %.64s; leave --model away",
            t2t_tensors_path(file), stated, variant_or_null);
    if (strcmp(name, "custom") == 0) return read_custom(file, config);
    const struct t2t_config *variant = t2t_variant_named(name);
    if (!variant)
        return t2t_fail(T2T_BAD_MODEL, "%s: there is no model \"%.64s\"; known are custom, %s", t2t_tensors_path(file),
            name, known);
    *config = *variant;
    return T2T_OK;
}

/* Side of the picture that a position table of `rows` rows belongs to, 0 when there is none. */
static size_t side_of_positions(size_t rows)
{
    for (size_t side = 16; side <= MAX_IMAGE_SIZE; side += 16)
        if (side / 16 * (side / 16) + 1 == rows) return side;
    return 0;
}

enum t2t_status t2t_read_config(const struct t2t_tensors *file, const char *variant_or_null, struct t2t_config *config)
{
    enum t2t_status status = find_variant(file, variant_or_null, config);
    if (status) return status;

    const struct t2t_tensor *head = t2t_tensors_find(file, "head.weight");
    if (head && head->rank == 2) config->num_classes = head->shape[0];
    if (config->num_classes < 1 || config->num_classes > MAX_CLASSES)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor head.weight must have 1 to %d rows, one a class",
            t2t_tensors_path(file), MAX_CLASSES);

    const char *image_size = t2t_tensors_metadata(file, "image_size");
    const struct t2t_tensor *positions = t2t_tensors_find(file, "pos_embed");
    const size_t implied = positions && positions->rank == 3 ? side_of_positions(positions->shape[1]) : 0;
    if (image_size) {
        status = read_size(file, "image_size", image_size, MAX_IMAGE_SIZE, &config->image_size);
        if (!status && config->image_size % 16) status = bad_value(file, "image_size", image_size, "a multiple of 16");
    } else if (implied) {
        config->image_size = implied;
    } else if (config->image_size == 0) {
        config->image_size = 224; /* whatever is wrong with pos_embed is said when it is bound */
    }
    return status;
}

/* ---- input ---- */

/* Three numbers, as a JSON list or bare: "[0.485, 0.456, 0.406]" or "0.485, 0.456, 0.406". */
static bool parse_three(const char *text, float three[3])
{
    const char *at = text + strspn(text, " [(");
    for (size_t i = 0; i < 3; i++) {
        char *end;
        const double number = strtod(at, &end);
        if (end == at || !isfinite(number)) return false;
        three[i] = (float)number;
        at = end + strspn(end, " ");
        if (i < 2) {
            if (*at != ',') return false;
            at += 1 + strspn(at + 1, " ");
        }
    }
    at += strspn(at, " ])");
    return *at == '\0';
}

const struct t2t_input_config t2t_timm_input = {
    .crop_pct = 0.9, .interpolation = "bicubic", .mean = {0.485F, 0.456F, 0.406F}, .std = {0.229F, 0.224F, 0.225F}};

enum t2t_status t2t_read_input_config(const struct t2t_tensors *file, struct t2t_input_config *input)
{
    *input = t2t_timm_input;
    const char *text = t2t_tensors_metadata(file, "crop_pct");
    if (text && (!parse_number(text, &input->crop_pct) || input->crop_pct < 0.05 || input->crop_pct > 1))
        return bad_value(file, "crop_pct", text, "a number from 0.05 to 1");
    text = t2t_tensors_metadata(file, "interpolation");
    if (text && strcmp(text, "bicubic") != 0 && strcmp(text, "bilinear") != 0)
        return bad_value(file, "interpolation", text, "\"bicubic\" or \"bilinear\"");
    if (text) snprintf(input->interpolation, sizeof input->interpolation, "%s", text);
    text = t2t_tensors_metadata(file, "mean");
    if (text && !parse_three(text, input->mean)) return bad_value(file, "mean", text, "three numbers, [r, g, b]");
    text = t2t_tensors_metadata(file, "std");
    if (text && (!parse_three(text, input->std) || !(input->std[0] > 0 && input->std[1] > 0 && input->std[2] > 0)))
        return bad_value(file, "std", text, "three numbers above 0, [r, g, b]");
    return T2T_OK;
}

/* ---- class names ---- */

static char **copy_names(const json_t *list)
{
    const size_t count = json_array_size(list);
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += json_string_length(json_array_get(list, i)) + 1;
    char **names = malloc((count + 1) * sizeof *names + bytes);
    if (!names) return NULL;
    char *text = (char *)(names + count + 1);
    for (size_t i = 0; i < count; i++) {
        const size_t length = json_string_length(json_array_get(list, i)) + 1;
        memcpy(text, json_string_value(json_array_get(list, i)), length);
        names[i] = text;
        text += length;
    }
    names[count] = NULL;
    return names;
}

enum t2t_status t2t_read_class_names(const struct t2t_tensors *file, size_t num_classes, char ***names)
{
    *names = NULL;
    const char *text = t2t_tensors_metadata(file, "class_names");
    if (!text) return T2T_OK;
    json_t *list = json_loads(text, 0, NULL);
    bool fits = json_is_array(list) && json_array_size(list) == num_classes;
    for (size_t i = 0; fits && i < num_classes; i++) fits = json_is_string(json_array_get(list, i));
    enum t2t_status status = T2T_OK;
    if (!fits) {
        char expected[64];
        snprintf(expected, sizeof expected, "a JSON list of %zu strings", num_classes);
        status = bad_value(file, "class_names", text, expected);
    } else if (!(*names = copy_names(list))) {
        status = t2t_fail_memory("class names", strlen(text));
    }
    json_decref(list);
    return status;
}
