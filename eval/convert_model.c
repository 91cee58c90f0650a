/* Reading a network's sizes off its tensors' shapes. */
#include "eval/convert_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "eval/options.h"
#include "vit/model.h"

enum {
    MOST_EMBED_DIM = 8192,
    MOST_TOKEN_DIM = 1024,
    MOST_HEADS = 1024,
    MOST_IMAGE_SIZE = 4096,
    MOST_CLASSES = 1000000
};
enum { LIST_BYTES = 400 };

/* ---- sizes from shapes ---- */

/* shape[axis] of a tensor of that rank, within 1 ... most. */
static enum t2t_status read_size(const struct t2t_checkpoint *checkpoint, const char *path, const char *name,
    size_t rank, size_t axis, size_t most, size_t *size)
{
    const struct t2t_tensor *tensor = t2t_checkpoint_find(checkpoint, name);
    char text[128];
    if (!tensor)
        return t2t_fail(T2T_BAD_MODEL,
            "%s: tensor %s is missing, so these are not the weights of a T2T-ViT (the first of %zu tensors is %.200s)",
            path, name, t2t_checkpoint_count(checkpoint), t2t_checkpoint_at(checkpoint, 0)->name);
    if (tensor->rank != rank || tensor->shape[axis] < 1 || tensor->shape[axis] > most)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %s is %s, expected %zu dimensions and 1 to %zu in place %zu", path,
            name, t2t_tensor_shape_text(tensor, text), rank, most, axis + 1);
    *size = tensor->shape[axis];
    return T2T_OK;
}

static size_t count_blocks(const struct t2t_checkpoint *checkpoint)
{
    size_t depth = 0;
    for (char name[64]; depth <= T2T_MAX_DEPTH; depth++) {
        snprintf(name, sizeof name, "blocks.%zu.norm1.weight", depth);
        if (!t2t_checkpoint_find(checkpoint, name)) break;
    }
    return depth;
}

/* Side of the picture that a table of `rows` positions belongs to: a class token and a square of tokens, 16 px each. */
static size_t side_of(size_t rows)
{
    for (size_t grid = 1; grid <= MOST_IMAGE_SIZE / 16; grid++)
        if (grid * grid + 1 == rows) return grid * 16;
    return 0;
}

static enum t2t_status read_sizes(
    const struct t2t_checkpoint *checkpoint, const char *path, struct t2t_config *config, size_t *hidden)
{
    static const char performer[] = "tokens_to_token.attention1.kqv.weight";
    *config = (struct t2t_config){
        .tokens_type = t2t_checkpoint_find(checkpoint, performer) ? T2T_TOKENS_PERFORMER : T2T_TOKENS_TRANSFORMER};
    if (t2t_checkpoint_count(checkpoint) == 0) return t2t_fail(T2T_BAD_MODEL, "%s: holds no tensors", path);
    size_t rows = 0;
    enum t2t_status status = read_size(checkpoint, path, "cls_token", 3, 2, MOST_EMBED_DIM, &config->embed_dim);
    if (!status)
        status = read_size(
            checkpoint, path, "tokens_to_token.attention1.norm2.weight", 1, 0, MOST_TOKEN_DIM, &config->token_dim);
    if (!status) status = read_size(checkpoint, path, "blocks.0.mlp.fc1.weight", 2, 0, 64 * config->embed_dim, hidden);
    if (!status) status = read_size(checkpoint, path, "head.weight", 2, 0, MOST_CLASSES, &config->num_classes);
    if (!status)
        status =
            read_size(checkpoint, path, "pos_embed", 3, 1, 1 + (MOST_IMAGE_SIZE / 16) * (MOST_IMAGE_SIZE / 16), &rows);
    if (status) return status;
    config->depth = count_blocks(checkpoint);
    if (config->depth == 0 || config->depth > T2T_MAX_DEPTH)
        return t2t_fail(T2T_BAD_MODEL, "%s: has %zu blocks (blocks.0.norm1.weight ...), expected 1 to %d", path,
            config->depth, T2T_MAX_DEPTH);
    config->image_size = side_of(rows);
    if (!config->image_size)
        return t2t_fail(
            T2T_BAD_MODEL, "%s: tensor pos_embed has %zu rows, expected one more than a square number", path, rows);
    config->mlp_ratio = (double)*hidden / (double)config->embed_dim;
    while ((size_t)((double)config->embed_dim * config->mlp_ratio) < *hidden) config->mlp_ratio *= 1 + 0x1p-52;
    return T2T_OK;
}

/* ---- variants ---- */

static bool has_sizes(const struct t2t_config *variant, const struct t2t_config *sizes, size_t hidden)
{
    return variant->tokens_type == sizes->tokens_type && variant->embed_dim == sizes->embed_dim &&
           variant->depth == sizes->depth && variant->token_dim == sizes->token_dim &&
           (size_t)((double)variant->embed_dim * variant->mlp_ratio) == hidden;
}

struct candidates {
    const struct t2t_config *variant[16];
    size_t count;
};

static struct candidates find_candidates(const struct t2t_config *sizes, size_t hidden)
{
    struct candidates found = {.count = 0};
    for (size_t i = 0; t2t_variant(i) && found.count < 16; i++)
        if (has_sizes(t2t_variant(i), sizes, hidden)) found.variant[found.count++] = t2t_variant(i);
    return found;
}

static void list_candidates(const struct candidates *candidates, char text[LIST_BYTES])
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < candidates->count && used < LIST_BYTES; i++)
        used += (size_t)snprintf(text + used, LIST_BYTES - used, "%s--model %s (%zu heads)", i ? " or " : "",
            candidates->variant[i]->name, candidates->variant[i]->num_heads);
}

static enum t2t_status unknown_model(const char *name)
{
    const char *known[32] = {"custom"};
    char list[LIST_BYTES] = "custom";
    size_t count = 1, used = strlen(list);
    for (; t2t_variant(count - 1) && count < 32 && used < LIST_BYTES; count++) {
        known[count] = t2t_variant(count - 1)->name;
        used += (size_t)snprintf(list + used, LIST_BYTES - used, ", %s", known[count]);
    }
    const char *near = t2t_nearest_word(name, known, count);
    return t2t_fail(T2T_BAD_USAGE, "--model \"%s\": expected %s%s%s%s", name, list, near ? "; did you mean " : "",
        near ? near : "", near ? "?" : "");
}

static enum t2t_status name_variant(
    const char *path, const char *name, const struct candidates *candidates, struct t2t_config *config)
{
    for (size_t i = 0; i < candidates->count; i++)
        if (strcmp(candidates->variant[i]->name, name) == 0) {
            config->num_heads = candidates->variant[i]->num_heads;
            config->mlp_ratio = candidates->variant[i]->mlp_ratio;
            snprintf(config->name, sizeof config->name, "%s", name);
            return T2T_OK;
        }
    char list[LIST_BYTES];
    list_candidates(candidates, list);
    return t2t_fail(T2T_BAD_MODEL, "%s: its shapes (%s, embed_dim %zu, depth %zu, MLP %.0f) are not those of %s%s%s",
        path, config->tokens_type == T2T_TOKENS_PERFORMER ? "performer" : "transformer", config->embed_dim,
        config->depth, (double)config->embed_dim * config->mlp_ratio, name, candidates->count ? "; they fit " : "",
        list);
}

static enum t2t_status name_custom(const char *path, size_t num_heads, struct t2t_config *config)
{
    snprintf(config->name, sizeof config->name, "custom");
    config->num_heads = num_heads;
    if (num_heads >= 1 && num_heads <= MOST_HEADS && config->embed_dim % num_heads == 0) return T2T_OK;
    return t2t_fail(T2T_BAD_MODEL,
        "%s: is no official variant (%s, embed_dim %zu, depth %zu, MLP %.0f), and no shape tells its number of heads: "
        "give --num-heads N, a divisor of %zu",
        path, config->tokens_type == T2T_TOKENS_PERFORMER ? "performer" : "transformer", config->embed_dim,
        config->depth, (double)config->embed_dim * config->mlp_ratio, config->embed_dim);
}

/* The number of heads that a safetensors file states. */
static size_t stated_heads(const struct t2t_checkpoint *checkpoint)
{
    const struct t2t_tensors *file = t2t_checkpoint_safetensors(checkpoint);
    const char *text = file ? t2t_tensors_metadata(file, "num_heads") : NULL;
    size_t heads = 0;
    return text && t2t_parse_number(text, 1, MOST_HEADS, &heads) ? heads : 0;
}

/* The candidate of the name that the file states, else the one with the number of heads, else the only one. */
static const struct t2t_config *decide(
    const struct candidates *candidates, const char *stated, size_t num_heads, bool *undecided)
{
    const struct t2t_config *found = NULL;
    size_t fitting = 0;
    for (size_t i = 0; i < candidates->count; i++) {
        const struct t2t_config *variant = candidates->variant[i];
        if (num_heads && variant->num_heads != num_heads) continue;
        if (strcasecmp(variant->name, stated) == 0) {
            *undecided = false;
            return variant;
        }
        found = variant;
        fitting++;
    }
    *undecided = fitting > 1;
    return found;
}

static enum t2t_status find_name(const struct t2t_checkpoint *checkpoint, const char *path,
    const struct convert_model_request *request, const struct candidates *candidates, struct t2t_config *config)
{
    const char *stated = t2t_checkpoint_info(checkpoint)->arch;
    const size_t heads = request->num_heads ? request->num_heads : stated_heads(checkpoint);
    const char *model = request->model ? request->model : strcasecmp(stated, "custom") == 0 ? "custom" : NULL;
    if (model && strcmp(model, "custom") == 0) return name_custom(path, heads, config);
    if (model) {
        const struct t2t_config *variant = t2t_variant_named(model);
        if (!variant) return unknown_model(model);
        if (request->num_heads && request->num_heads != variant->num_heads)
            return t2t_fail(T2T_BAD_USAGE, "--num-heads %zu: %s has %zu heads; leave one of the two away",
                request->num_heads, model, variant->num_heads);
        return name_variant(path, model, candidates, config);
    }
    bool undecided;
    const struct t2t_config *variant = decide(candidates, stated, request->num_heads, &undecided);
    if (undecided) {
        char list[LIST_BYTES];
        list_candidates(candidates, list);
        return t2t_fail(T2T_BAD_MODEL,
            "%s: its shapes fit several variants, which differ in their heads alone; say which it is: %s", path, list);
    }
    return variant ? name_variant(path, variant->name, candidates, config) : name_custom(path, heads, config);
}

enum t2t_status t2t_convert_find_model(const struct t2t_checkpoint *checkpoint, const char *path,
    const struct convert_model_request *request, struct t2t_config *config)
{
    size_t hidden = 0;
    enum t2t_status status = read_sizes(checkpoint, path, config, &hidden);
    if (status) return status;
    if (request->num_classes && request->num_classes != config->num_classes)
        return t2t_fail(T2T_BAD_MODEL, "%s: head.weight has %zu classes, not the %zu of --num-classes", path,
            config->num_classes, request->num_classes);
    const struct candidates candidates = find_candidates(config, hidden);
    return find_name(checkpoint, path, request, &candidates, config);
}

/* ---- selection ---- */

static enum t2t_status check_tensor(const struct t2t_checkpoint *checkpoint, const char *path,
    const struct t2t_config *config, const struct t2t_expected_tensor *expected)
{
    const struct t2t_tensor *tensor = t2t_checkpoint_find(checkpoint, expected->name);
    struct t2t_tensor as_expected = {.rank = expected->rank};
    memcpy(as_expected.shape, expected->shape, sizeof expected->shape);
    char wanted[128], found[128];
    t2t_tensor_shape_text(&as_expected, wanted);
    if (!tensor)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %s is missing; a %s of %zu px has it as %s", path, expected->name,
            config->name, config->image_size, wanted);
    if (tensor->rank != expected->rank ||
        memcmp(tensor->shape, expected->shape, expected->rank * sizeof *expected->shape) != 0)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %s is %s, a %s of %zu px has it as %s", path, expected->name,
            t2t_tensor_shape_text(tensor, found), config->name, config->image_size, wanted);
    if (tensor->dtype > T2T_F64)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %s holds %s values, expected floating point numbers", path,
            expected->name, t2t_dtype_name(tensor->dtype));
    return T2T_OK;
}

enum t2t_status t2t_convert_select(const struct t2t_checkpoint *checkpoint, const char *path,
    const struct t2t_config *config, bool *wanted, size_t *unknown)
{
    const size_t count = t2t_checkpoint_count(checkpoint);
    memset(wanted, 0, count * sizeof *wanted);
    *unknown = count;
    struct t2t_expected_tensor expected;
    for (size_t i = 0; t2t_expected_tensor(config, i, &expected); i++) {
        const enum t2t_status status = check_tensor(checkpoint, path, config, &expected);
        if (status) return status;
        wanted[t2t_checkpoint_find(checkpoint, expected.name) - t2t_checkpoint_at(checkpoint, 0)] = true;
        --*unknown;
    }
    return T2T_OK;
}
