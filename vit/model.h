/* A model's weights as the forward pass names them, and the table that says what a weights file must hold.
 * Internal to vit/ and to programs that list or convert weights.
 */
#ifndef T2T_VIT_MODEL_H
#define T2T_VIT_MODEL_H

#include "vit/t2t_vit.h"
#include "weights/safetensors.h"

/* A layer with attention and an MLP: a tokens-to-token layer of width token_dim, or a block of width embed_dim.
 * `in` is the width of its input rows. Token_performer's qkv is ordered k, q, v and has a bias; others have none. */
struct t2t_layer_weights {
    const float *norm1_weight, *norm1_bias; /* [in] */
    const float *qkv_weight;                /* [3 width, in] */
    const float *qkv_bias;                  /* [3 width] or NULL */
    const float *proj_weight, *proj_bias;   /* [width, width], [width] */
    const float *norm2_weight, *norm2_bias; /* [width] */
    const float *fc1_weight, *fc1_bias;     /* [hidden, width], [hidden] */
    const float *fc2_weight, *fc2_bias;     /* [width, hidden], [width] */
    const float *features;                  /* Token_performer: [token_dim / 2, token_dim], else NULL */
};

struct t2t_weights {
    struct t2t_layer_weights layer[T2T_MAX_LAYERS]; /* tokens-to-token 1 and 2, then the blocks */
    const float *project_weight, *project_bias;     /* [embed_dim, 9 token_dim], [embed_dim] */
    const float *class_token;                       /* [embed_dim] */
    const float *positions;                         /* [1 + tokens, embed_dim] */
    const float *norm_weight, *norm_bias;           /* [embed_dim] */
    const float *head_weight, *head_bias;           /* [num_classes, embed_dim], [num_classes] */
};

const struct t2t_weights *t2t_model_weights(const struct t2t_model *model);

/* Memory of mapped weights that were just checked or packed; what is used again comes back from the file. */
void t2t_model_release_pages(const struct t2t_model *model);

/* Sizes that follow from a configuration. */
size_t t2t_tokens(const struct t2t_config *config, size_t layer);      /* rows of a layer: 3136, 784, 197 at 224 px */
size_t t2t_layer_in(const struct t2t_config *config, size_t layer);    /* 147, 576, embed_dim */
size_t t2t_layer_width(const struct t2t_config *config, size_t layer); /* token_dim, embed_dim */
size_t t2t_layer_hidden(const struct t2t_config *config, size_t layer);
size_t t2t_performer_features(const struct t2t_config *config);

/* One tensor that a model of some configuration consists of. */
struct t2t_expected_tensor {
    char name[96];
    size_t rank;
    size_t shape[3];
    size_t offset; /* of its pointer in struct t2t_weights */
};

/* Number `index` of the tensors of a configuration, in the order of the network; false after the last. */
bool t2t_expected_tensor(const struct t2t_config *config, size_t index, struct t2t_expected_tensor *expected);

#endif
