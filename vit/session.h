/* A session's insides: packed weights, planned memory, clocks. Shared by session.c, which makes them, and forward.c. */
#ifndef T2T_VIT_SESSION_H
#define T2T_VIT_SESSION_H

#include "layers/base/arena.h"
#include "layers/layers.h"
#include "vit/model.h"

/* The products of one layer. */
struct layer_products {
    struct linear *qkv, *proj, *fc1, *fc2;
};

/* A cost that grows by the time between two moments, once they have passed. */
struct span {
    double *seconds;
    size_t from, to;
};

/* Working memory of one layer, for as many images as it handles at a time. Names that share bytes never live
 * together: `split` dies when qkv is made, `normed` when attended is. */
struct layer_memory {
    struct matrix split;    /* tokens-to-token layers: windows [tokens, in], then normed in place */
    struct matrix normed;   /* [tokens, width] */
    struct matrix qkv;      /* [tokens, 3 width] */
    struct matrix attended; /* [tokens, width] */
    struct matrix hidden;   /* [tokens, hidden] */
    struct matrix out;      /* [tokens, width]: of a block, the residual stream itself */
    void *scratch;          /* of attention */
    struct attention_draw_memory draws;
};

struct t2t_session {
    const struct t2t_model *model;
    const struct layer_ops *ops;
    struct layer_device *device;
    struct t2t_weights weights; /* the model's; those that no product holds are the device's own */
    struct t2t_plan *plans;
    size_t plan_count;
    const struct t2t_plan *plan; /* the one in use */
    size_t batch;
    size_t group; /* images that go through the tokens-to-token layers together, so that they stay in cache */

    struct layer_products products[T2T_MAX_LAYERS];
    struct linear *project, *head;

    struct t2t_arena arena;      /* the device's */
    struct t2t_arena draw_arena; /* random numbers: the host's */
    struct matrix pixels;        /* [image_size^2, 3], any order: where the device has memory of its own */
    struct matrix logits;        /* [1, num_classes]: likewise */
    struct layer_memory token_layer[2], block;
    struct matrix last_split; /* [tokens, 9 token_dim] */
    struct matrix projected;  /* [tokens, embed_dim] */
    struct matrix stream;     /* [1 + tokens, embed_dim]: the residual stream of the blocks */
    struct matrix class_rows; /* [1, embed_dim]: the class tokens, normed */

    t2t_observer *observer;
    t2t_attention_observer *attention_observer;
    void *observer_context;
    struct t2t_costs costs;
    bool clock_steps;
    struct span *spans;
    double *moments; /* of the CPU */
    size_t span_count, tick_count, span_most;
};

/* Draws of one (image, head) of a layer under a plan. */
struct attention_draw_counts t2t_layer_draws(
    const struct t2t_session *session, const struct t2t_plan *plan, size_t layer);

#endif
