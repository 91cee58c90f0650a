/* Which attention each layer uses, with the published options as defaults. */
#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#include "vit/model.h"

void t2t_layer_name(size_t layer, char name[T2T_NAME_BYTES])
{
    if (layer < 2)
        snprintf(name, T2T_NAME_BYTES, "t2t.%zu", layer + 1);
    else
        snprintf(name, T2T_NAME_BYTES, "block.%zu", layer - 2);
}

struct attention_shape t2t_layer_shape(const struct t2t_model *model, size_t layer)
{
    const struct t2t_config *config = t2t_model_config(model);
    assert(layer < config->depth + T2T_TOKEN_LAYERS);
    const size_t heads = layer < T2T_TOKEN_LAYERS ? 1 : config->num_heads;
    const size_t head_dim = t2t_layer_width(config, layer) / heads;
    /* the tokens-to-token layers scale by the width of their input rows, not by that of q and k */
    const size_t scaled_by = layer < T2T_TOKEN_LAYERS ? t2t_layer_in(config, layer) : head_dim;
    return (struct attention_shape){
        .heads = heads,
        .queries = t2t_tokens(config, layer),
        .keys = t2t_tokens(config, layer),
        .head_dim = head_dim,
        .value_dim = head_dim,
        .scale = (float)(1 / sqrt((double)scaled_by)),
    };
}

struct attention_config t2t_kdeformer_published(const struct t2t_model *model, size_t layer)
{
    struct attention_config config = {.kind = ATTENTION_KDEFORMER,
        .sampling = KDE_MULTINOMIAL,
        .probability = KDE_VALUE,
        .pilot = layer == 0 ? 32 : 16, /* should a pilot be asked for */
        .sample_groups = 1};
    if (layer < 2) {
        config.projections = 7;
        config.bucket = 32;
        config.samples = layer == 0 ? 98 : 24;
    } else { /* not published: at 197 tokens a setting has to cost less than exact attention to be of use */
        config.projections = 4;
        config.bucket = 16;
        config.samples = t2t_layer_shape(model, layer).head_dim < 16 ? 16 : 32;
    }
    return config;
}

/* The published products less those of the pilot; what pays was measured (layers/kdeformer-sampling.md). */
static struct attention_config kdeformer_defaults(const struct t2t_model *model, size_t layer)
{
    struct attention_config config = t2t_kdeformer_published(model, layer);
    config.sampling = KDE_SYSTEMATIC;
    config.probability = KDE_PILOT;
    config.sample_groups = 4;
    if (layer < 2) {
        config.bucket = 16;
        config.samples = layer == 0 ? 96 : 28;
    } else {
        config.samples -= 6;
    }
    return config;
}

/* KDEformer's are found by measurement, the others published, for the tokens-to-token layers. No method was published
 * with settings for the blocks of T2T-ViT: there, at 197 tokens, a setting has to cost less than exact attention. */
struct attention_config t2t_attention_defaults(const struct t2t_model *model, enum attention_kind kind, size_t layer)
{
    struct attention_config config = {.kind = kind};
    const bool block = layer >= 2;
    switch (kind) {
    case ATTENTION_KDEFORMER: return kdeformer_defaults(model, layer);
    case ATTENTION_PERFORMER: config.features = 49; break;
    case ATTENTION_REFORMER:
        config.bucket = block ? 16 : 49;
        config.rounds = 2;
        break;
    case ATTENTION_SCATTERBRAIN:
        config.window = block ? 17 : 49;
        config.features = block ? 24 : 48;
        break;
    case ATTENTION_KDE_THEORY:
        config = t2t_kdeformer_published(model, layer);
        config.kind = kind;
        break;
    case ATTENTION_EXACT:
    case ATTENTION_MEAN:
    case ATTENTION_KINDS: break;
    }
    return config;
}

void t2t_plan_exact(const struct t2t_model *model, struct t2t_plan *plan)
{
    *plan = (struct t2t_plan){.seed = 1};
    for (size_t layer = 0; layer < t2t_model_config(model)->depth + T2T_TOKEN_LAYERS; layer++)
        plan->layer[layer] = t2t_attention_defaults(model, ATTENTION_EXACT, layer);
}

enum t2t_status t2t_plan_set(
    const struct t2t_model *model, struct t2t_plan *plan, size_t layer, struct attention_config config)
{
    const struct t2t_config *model_config = t2t_model_config(model);
    const struct attention_method *method = attention_method(config.kind);
    char name[T2T_NAME_BYTES];
    t2t_layer_name(layer, name);
    if (layer >= model_config->depth + T2T_TOKEN_LAYERS)
        return t2t_fail(T2T_BAD_USAGE, "%s has no layer %s; its last block is block.%zu", model_config->name, name,
            model_config->depth - 1);
    if (config.kind != ATTENTION_EXACT && layer < T2T_TOKEN_LAYERS && model_config->tokens_type == T2T_TOKENS_PERFORMER)
        return t2t_fail(T2T_BAD_MODEL,
            "%s has Token_performer layers: %s has no softmax attention that %s could replace; "
            "use a t2t_vit_t_* model, or --layers blocks",
            model_config->name, name, method->name);
    const struct attention_shape shape = t2t_layer_shape(model, layer);
    if (method->check) {
        const enum t2t_status status = method->check(&shape, &config);
        if (status) return t2t_fail(status, "layer %s: %s", name, t2t_last_error());
    }
    plan->layer[layer] = config;
    return T2T_OK;
}
