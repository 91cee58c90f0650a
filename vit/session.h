/* A session's insides: packed weights, planned memory, clocks. Made by session.c and
 * session_memory.c, used by forward.c and costs.c. */
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
    struct matrix out; /* [tokens, width] of a tokens-to-token layer; blocks work on the residual stream in place */
    void *scratch;     /* of attention */
};

/* What takes images through the network: all of a device, some images at a time, or one thread of it, one at a time. */
struct lane {
    struct layer_device *device;
    size_t images; /* most at a time */
    /* Of its working memory: the session's, or its own where lanes live at the same time. */
    struct t2t_arena *arena, own_arena;
    struct layer_memory token_layer[T2T_TOKEN_LAYERS], block;
    /* Blocks share theirs where each is done before the next draws. */
    struct attention_draw_memory draws[T2T_MAX_LAYERS];
    struct matrix last_split; /* [tokens, 9 token_dim] */
    struct matrix projected;  /* [tokens, embed_dim] */
    struct span *spans;
    double *moments; /* of the CPU */
    size_t span_count, tick_count;
    size_t spans_before;         /* of the forward before, which are still there */
    struct t2t_layer_cost *cost; /* [layers] of the forward at hand: only its seconds */
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
    struct lane whole;   /* the device, as many images at a time as stay in a cache */
    struct lane *thread; /* each thread of it alone */
    size_t threads;      /* that go alone; 0: none does */

    struct layer_products products[T2T_MAX_LAYERS];
    struct linear *project, *head;

    struct t2t_arena arena;      /* the device's */
    struct t2t_arena draw_arena; /* random numbers: the host's */
    struct matrix pixels;        /* [image_size^2, 3], any order: where the device has memory of its own */
    const float *ahead;          /* pictures of the forward after the next, or NULL */
    size_t ahead_batch;
    struct matrix logits;     /* [1, num_classes]: likewise */
    struct matrix stream;     /* [1 + tokens, embed_dim]: the residual stream of the blocks */
    struct matrix class_rows; /* [1, embed_dim]: the class tokens, normed */

    t2t_observer *observer;
    t2t_attention_observer *attention_observer;
    void *observer_context;
    struct t2t_costs costs;
    bool clock_steps;
    size_t span_most; /* of a lane in one forward */
};

/* costs.c: a moment of a lane, passed once everything before it is done;
 * adding the time since one to a cost; at the end of a forward, adding up what every lane took. */
size_t t2t_lane_tick(const struct t2t_session *session, struct lane *lane);
void t2t_lane_charge(const struct t2t_session *session, struct lane *lane, double *seconds, size_t from);
/* The clocks of the forward before once more, for one that a device repeats by itself. */
void t2t_lane_charge_again(struct lane *lane);
void t2t_session_settle(struct t2t_session *session);

/* session_memory.c: plans and reserves the memory of all lanes. */
enum t2t_status t2t_session_reserve_memory(struct t2t_session *session);

static inline size_t t2t_session_layers(const struct t2t_session *session)
{
    return T2T_TOKEN_LAYERS + t2t_model_config(session->model)->depth;
}

/* Draws of one (image, head) of a layer under a plan. */
struct attention_draw_counts t2t_layer_draws(
    const struct t2t_session *session, const struct t2t_plan *plan, size_t layer);

#endif
