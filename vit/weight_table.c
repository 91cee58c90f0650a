/* The names and shapes of every tensor of a T2T-ViT, as the official state_dict has them: two tables, expanded over
 * the layers. Sizes are symbols, so one row serves all variants.
 */
#include <stdio.h>
#include <string.h>

#include "vit/model.h"

enum size { NONE, ONE, IN, WIDTH, WIDTH_3, HIDDEN, FEATURES, SPLIT, EMBED, POSITIONS, CLASSES };

struct row {
    const char *name;
    enum size shape[3];
    size_t offset;
};

#define LAYER(FIELD) offsetof(struct t2t_layer_weights, FIELD)
#define NETWORK(FIELD) offsetof(struct t2t_weights, FIELD)

static const struct row transformer_rows[] = {
    {"norm1.weight", {IN}, LAYER(norm1_weight)},
    {"norm1.bias", {IN}, LAYER(norm1_bias)},
    {"attn.qkv.weight", {WIDTH_3, IN}, LAYER(qkv_weight)},
    {"attn.proj.weight", {WIDTH, WIDTH}, LAYER(proj_weight)},
    {"attn.proj.bias", {WIDTH}, LAYER(proj_bias)},
    {"norm2.weight", {WIDTH}, LAYER(norm2_weight)},
    {"norm2.bias", {WIDTH}, LAYER(norm2_bias)},
    {"mlp.fc1.weight", {HIDDEN, WIDTH}, LAYER(fc1_weight)},
    {"mlp.fc1.bias", {HIDDEN}, LAYER(fc1_bias)},
    {"mlp.fc2.weight", {WIDTH, HIDDEN}, LAYER(fc2_weight)},
    {"mlp.fc2.bias", {WIDTH}, LAYER(fc2_bias)},
};

static const struct row performer_rows[] = {
    {"w", {FEATURES, WIDTH}, LAYER(features)},
    {"kqv.weight", {WIDTH_3, IN}, LAYER(qkv_weight)},
    {"kqv.bias", {WIDTH_3}, LAYER(qkv_bias)},
    {"proj.weight", {WIDTH, WIDTH}, LAYER(proj_weight)},
    {"proj.bias", {WIDTH}, LAYER(proj_bias)},
    {"norm1.weight", {IN}, LAYER(norm1_weight)},
    {"norm1.bias", {IN}, LAYER(norm1_bias)},
    {"norm2.weight", {WIDTH}, LAYER(norm2_weight)},
    {"norm2.bias", {WIDTH}, LAYER(norm2_bias)},
    {"mlp.0.weight", {HIDDEN, WIDTH}, LAYER(fc1_weight)},
    {"mlp.0.bias", {HIDDEN}, LAYER(fc1_bias)},
    {"mlp.2.weight", {WIDTH, HIDDEN}, LAYER(fc2_weight)},
    {"mlp.2.bias", {WIDTH}, LAYER(fc2_bias)},
};

static const struct row network_rows[] = {
    {"tokens_to_token.project.weight", {EMBED, SPLIT}, NETWORK(project_weight)},
    {"tokens_to_token.project.bias", {EMBED}, NETWORK(project_bias)},
    {"cls_token", {ONE, ONE, EMBED}, NETWORK(class_token)},
    {"pos_embed", {ONE, POSITIONS, EMBED}, NETWORK(positions)},
    {"norm.weight", {EMBED}, NETWORK(norm_weight)},
    {"norm.bias", {EMBED}, NETWORK(norm_bias)},
    {"head.weight", {CLASSES, EMBED}, NETWORK(head_weight)},
    {"head.bias", {CLASSES}, NETWORK(head_bias)},
};

enum { PATCH_CHANNELS = 3 * 7 * 7 };

size_t t2t_tokens(const struct t2t_config *config, size_t layer)
{
    const size_t stride = layer == 0 ? 4 : layer == 1 ? 8 : 16;
    const size_t grid = config->image_size / stride;
    return grid * grid + (layer >= T2T_TOKEN_LAYERS ? 1 : 0);
}

size_t t2t_layer_in(const struct t2t_config *config, size_t layer)
{
    return layer == 0 ? PATCH_CHANNELS : layer == 1 ? 9 * config->token_dim : config->embed_dim;
}

size_t t2t_layer_width(const struct t2t_config *config, size_t layer)
{
    return layer < T2T_TOKEN_LAYERS ? config->token_dim : config->embed_dim;
}

size_t t2t_layer_hidden(const struct t2t_config *config, size_t layer)
{
    return layer < T2T_TOKEN_LAYERS ? config->token_dim : (size_t)((double)config->embed_dim * config->mlp_ratio);
}

size_t t2t_performer_features(const struct t2t_config *config)
{
    return config->token_dim / 2;
}

static size_t resolve(const struct t2t_config *config, size_t layer, enum size size)
{
    switch (size) {
    case NONE: return 0;
    case ONE: return 1;
    case IN: return t2t_layer_in(config, layer);
    case WIDTH: return t2t_layer_width(config, layer);
    case WIDTH_3: return 3 * t2t_layer_width(config, layer);
    case HIDDEN: return t2t_layer_hidden(config, layer);
    case FEATURES: return t2t_performer_features(config);
    case SPLIT: return 9 * config->token_dim;
    case EMBED: return config->embed_dim;
    case POSITIONS: return t2t_tokens(config, T2T_TOKEN_LAYERS);
    case CLASSES: return config->num_classes;
    }
    return 0;
}

static void expand(const struct t2t_config *config, size_t layer, const struct row *row, const char *prefix,
    size_t base, struct t2t_expected_tensor *expected)
{
    snprintf(expected->name, sizeof expected->name, "%s%s", prefix, row->name);
    expected->rank = 0;
    for (size_t i = 0; i < 3 && row->shape[i] != NONE; i++)
        expected->shape[expected->rank++] = resolve(config, layer, row->shape[i]);
    expected->offset = base + row->offset;
}

bool t2t_expected_tensor(const struct t2t_config *config, size_t index, struct t2t_expected_tensor *expected)
{
    for (size_t layer = 0; layer < T2T_TOKEN_LAYERS + config->depth; layer++) {
        const bool performer = layer < T2T_TOKEN_LAYERS && config->tokens_type == T2T_TOKENS_PERFORMER;
        const struct row *rows = performer ? performer_rows : transformer_rows;
        const size_t count = performer ? sizeof performer_rows / sizeof *performer_rows
                                       : sizeof transformer_rows / sizeof *transformer_rows;
        if (index >= count) {
            index -= count;
            continue;
        }
        char prefix[64];
        if (layer < T2T_TOKEN_LAYERS)
            snprintf(prefix, sizeof prefix, "tokens_to_token.attention%zu.", layer + 1);
        else
            snprintf(prefix, sizeof prefix, "blocks.%zu.", layer - T2T_TOKEN_LAYERS);
        const size_t base = offsetof(struct t2t_weights, layer) + layer * sizeof(struct t2t_layer_weights);
        expand(config, layer, &rows[index], prefix, base, expected);
        return true;
    }
    if (index >= sizeof network_rows / sizeof *network_rows) return false;
    expand(config, 0, &network_rows[index], "", 0, expected);
    return true;
}
