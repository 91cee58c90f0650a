/* T2T-ViT (Yuan et al., ICCV 2021, arXiv 2101.11986) from a weights file to logits: the public interface.
 *
 * Two lifetimes: a model is read-only after loading and may be shared by threads; a session owns a device, packed
 * weights and all working memory, and serves one thread at a time. vit/MODEL.md specifies the network.
 */
#ifndef T2T_VIT_T2T_VIT_H
#define T2T_VIT_T2T_VIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/attention.h"
#include "layers/base/status.h"
#include "layers/layers.h"

enum {
    T2T_MAX_DEPTH = 126,
    T2T_TOKEN_LAYERS = 2,
    T2T_MAX_LAYERS = T2T_TOKEN_LAYERS + T2T_MAX_DEPTH, /* with attention: tokens-to-token 1 and 2, then the blocks */
    T2T_NAME_BYTES = 64
};

enum t2t_tokens_type { T2T_TOKENS_TRANSFORMER, T2T_TOKENS_PERFORMER };

struct t2t_config {
    char name[T2T_NAME_BYTES]; /* "t2t_vit_t_14", or "custom" */
    enum t2t_tokens_type tokens_type;
    size_t image_size; /* side of the square picture, divisible by 16 */
    size_t num_classes;
    size_t embed_dim, depth, num_heads;
    double mlp_ratio; /* hidden width of a block's MLP = (size_t)(embed_dim * mlp_ratio) */
    size_t token_dim; /* width of the tokens-to-token layers, 64 in all official variants */
};

/* How pictures become input, as the weights were trained; timm's evaluation values where the file is silent. */
struct t2t_input_config {
    double crop_pct;        /* resize the shorter side to floor(image_size / crop_pct), then centre crop */
    char interpolation[16]; /* "bicubic" or "bilinear" */
    float mean[3], std[3];  /* of RGB in 0 ... 1 */
};
extern const struct t2t_input_config t2t_timm_input; /* what counts where nothing is said */

/* The eleven official variants, 1000 classes at 224 px. NULL after the last. */
const struct t2t_config *t2t_variant(size_t index);
const struct t2t_config *t2t_variant_named(const char *name);

struct t2t_model;

/* Opens a safetensors file, finds its variant (metadata `model`, or `variant`, which then must not contradict it),
 * and checks every tensor's presence, type and shape and that all values are finite. The file stays mapped.
 * On failure *model is NULL, the status T2T_BAD_MODEL (or T2T_NO_RESOURCE). Release with t2t_model_free(). */
enum t2t_status t2t_model_load(struct t2t_model **model, const char *variant_or_null, const char *path);
void t2t_model_free(struct t2t_model *model);

/* A model of a configuration with random weights (normal, scaled by the width of the input; norms as they begin in
 * training): it has the shapes and the cost of a trained one and knows nothing. Release with t2t_model_free(). */
enum t2t_status t2t_model_random(struct t2t_model **model, const struct t2t_config *config, uint64_t seed);

const struct t2t_config *t2t_model_config(const struct t2t_model *model);
const struct t2t_input_config *t2t_model_input(const struct t2t_model *model);
/* num_classes names from the metadata, or NULL. Owned by the model. */
const char *const *t2t_model_class_names(const struct t2t_model *model);
size_t t2t_model_parameters(const struct t2t_model *model);

/* Layer names for people and reports: "t2t.1", "t2t.2", "block.0" ... Writes at most T2T_NAME_BYTES. */
void t2t_layer_name(size_t layer, char name[T2T_NAME_BYTES]);

/* What each layer's attention is in one run: a session can hold several plans and switch between forwards. */
struct t2t_plan {
    uint64_t seed;
    struct attention_config layer[T2T_MAX_LAYERS]; /* [2 + depth] are used */
};

/* The model as trained: exact attention everywhere (Token_performer layers keep their own performer). */
void t2t_plan_exact(const struct t2t_model *model, struct t2t_plan *plan);
/* The options of a method for one layer of a model unless others are asked for: the published ones, but KDEformer's
 * samples are drawn better at the same cost (layers/kdeformer-sampling.md). */
struct attention_config t2t_attention_defaults(const struct t2t_model *model, enum attention_kind kind, size_t layer);
/* KDEformer as published. */
struct attention_config t2t_kdeformer_published(const struct t2t_model *model, size_t layer);
/* Replaces one layer's attention. T2T_BAD_MODEL where an approximation cannot stand (Token_performer has no softmax
 * attention to replace), T2T_BAD_USAGE where the options do not fit the layer. */
enum t2t_status t2t_plan_set(
    const struct t2t_model *model, struct t2t_plan *plan, size_t layer, struct attention_config config);
/* Sizes of one layer's attention. */
struct attention_shape t2t_layer_shape(const struct t2t_model *model, size_t layer);

/* Called after each stage with its output: "soft_split0", "t2t.1", "t2t.2", "tokens", "block.N", "logits". All but the
 * last come a few images at a time: `output` begins with image `first_image` of the batch. */
typedef void t2t_observer(void *context, const char *stage, size_t first_image, struct matrix output);

/* Called after each softmax attention of layer `layer`, or its replacement, with what it was given and its output; the
 * call's first image is image `first_image` of the batch. */
typedef void t2t_attention_observer(void *context, size_t layer, size_t first_image, const struct attention_call *call);

struct t2t_session_options {
    size_t batch;                               /* most images in one forward, at least 1 */
    const struct layer_ops *ops;                /* the device; NULL: the CPU */
    struct layer_device_options device;         /* its number format is also that of every plan's attention */
    const struct t2t_plan *plans;               /* copied */
    size_t plan_count;                          /* at least 1; plan 0 is in use after opening */
    t2t_observer *observer;                     /* or NULL */
    t2t_attention_observer *attention_observer; /* or NULL; on the CPU alone */
    void *observer_context;                     /* of both */
};

struct t2t_session;

/* Packs weights and plans all memory. The model must outlive the session. On failure *session is NULL. */
enum t2t_status t2t_session_open(
    struct t2t_session **session, const struct t2t_model *model, const struct t2t_session_options *options);
void t2t_session_close(struct t2t_session *session);
void t2t_session_use(struct t2t_session *session, size_t plan);
const char *t2t_session_describe(const struct t2t_session *session);

/* images [batch, 3, image_size, image_size], normalised; image_index [batch]: place of each picture in the sorted
 * data set, keys the random draws; logits [batch, num_classes].
 * T2T_NOT_FINITE names the first stage and image with NaN or infinity; the logits are then worthless. */
enum t2t_status t2t_forward(
    struct t2t_session *session, const float *images, const uint64_t *image_index, size_t batch, float *logits);

/* Before a forward: the pictures of the one after it, or NULL. A device with memory of its own copies them there while
 * it computes; they must stay as they are until they have had their forward. Others take no notice. */
void t2t_session_ahead(struct t2t_session *session, const float *images, size_t batch);

/* Where the time of a session's forwards went since opening or the last reset, summed over images. */
struct t2t_layer_cost {
    char name[T2T_NAME_BYTES];
    size_t tokens;
    double attention_macs;                /* of one image under the plan in use, with what a target error took */
    double macs;                          /* ... of the whole layer: its products and attention */
    double attention_seconds;             /* softmax attention or its replacement alone, wall clock or the device's */
    double draw_seconds;                  /* random numbers, on the CPU of those */
    double seconds;                       /* the whole layer, on the same clock */
    double step_seconds[ATTENTION_STEPS]; /* of every thread, where t2t_session_clock_steps() asked for them */
    struct attention_taken taken;         /* where the plan has a target error */
};
struct t2t_costs {
    size_t images;
    double seconds; /* whole forwards, wall clock */
    double macs;    /* of one image under the plan in use: every product and attention */
    size_t layers;
    struct t2t_layer_cost layer[T2T_MAX_LAYERS];
};
const struct t2t_costs *t2t_session_costs(const struct t2t_session *session);
void t2t_session_reset_costs(struct t2t_session *session);
/* Also clocks the steps of attention from here on, or no longer: at first it does not. */
void t2t_session_clock_steps(struct t2t_session *session, bool on);

#endif
