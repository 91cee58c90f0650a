/* Opening a session: the device, packed weights, memory (session_memory.c). Everything that can fail, fails here. */
#include "vit/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- products ---- */

static enum t2t_status open_product(struct t2t_session *session, struct linear **linear, size_t images, size_t tokens,
    size_t in, size_t out, enum activation activation, size_t residual_stride, const float *weight, const float *bias)
{
    const struct linear_shape shape = {.in_features = in,
        .out_features = out,
        .tokens = tokens,
        .images = images,
        .activation = activation,
        .residual_stride = residual_stride};
    return session->ops->linear_open(session->device, linear, &shape, weight, bias);
}

static enum t2t_status open_layer_products(struct t2t_session *session, size_t layer)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    const struct t2t_layer_weights *w = &t2t_model_weights(session->model)->layer[layer];
    struct layer_products *p = &session->products[layer];
    const size_t tokens = t2t_tokens(config, layer), in = t2t_layer_in(config, layer);
    const size_t width = t2t_layer_width(config, layer), hidden = t2t_layer_hidden(config, layer);
    enum t2t_status status = open_product(
        session, &p->qkv, session->whole.images, tokens, in, 3 * width, ACTIVATION_NONE, 0, w->qkv_weight, w->qkv_bias);
    if (!status)
        status = open_product(session, &p->proj, session->whole.images, tokens, width, width, ACTIVATION_NONE,
            layer < T2T_TOKEN_LAYERS ? 3 * width : width, w->proj_weight, w->proj_bias);
    if (!status)
        status = open_product(session, &p->fc1, session->whole.images, tokens, width, hidden, ACTIVATION_GELU, 0,
            w->fc1_weight, w->fc1_bias);
    if (!status)
        status = open_product(session, &p->fc2, session->whole.images, tokens, hidden, width, ACTIVATION_NONE, width,
            w->fc2_weight, w->fc2_bias);
    return status;
}

static enum t2t_status open_products(struct t2t_session *session)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    const struct t2t_weights *w = t2t_model_weights(session->model);
    enum t2t_status status = T2T_OK;
    for (size_t layer = 0; layer < t2t_session_layers(session) && !status; layer++) {
        status = open_layer_products(session, layer);
        t2t_model_release_pages(session->model); /* packed: else the weights would be resident twice */
    }
    if (!status)
        status =
            open_product(session, &session->project, session->whole.images, t2t_tokens(config, T2T_TOKEN_LAYERS) - 1,
                9 * config->token_dim, config->embed_dim, ACTIVATION_NONE, 0, w->project_weight, w->project_bias);
    if (!status)
        status = open_product(session, &session->head, session->batch, 1, config->embed_dim, config->num_classes,
            ACTIVATION_NONE, 0, w->head_weight, w->head_bias);
    return status;
}

/* ---- weights that no product holds ---- */

static enum t2t_status own_weight(struct t2t_session *session, const float **weight, size_t count)
{
    return *weight ? session->ops->constant(session->device, *weight, count, weight) : T2T_OK;
}

/* Copies to a device with memory of its own. */
static enum t2t_status own_weights(struct t2t_session *session)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    struct t2t_weights *w = &session->weights;
    *w = *t2t_model_weights(session->model);
    if (!session->ops->constant) return T2T_OK;
    enum t2t_status status = own_weight(session, &w->class_token, config->embed_dim);
    if (!status) status = own_weight(session, &w->positions, t2t_tokens(config, T2T_TOKEN_LAYERS) * config->embed_dim);
    if (!status) status = own_weight(session, &w->norm_weight, config->embed_dim);
    if (!status) status = own_weight(session, &w->norm_bias, config->embed_dim);
    for (size_t layer = 0; layer < t2t_session_layers(session) && !status; layer++) {
        struct t2t_layer_weights *own = &w->layer[layer];
        const size_t in = t2t_layer_in(config, layer), width = t2t_layer_width(config, layer);
        status = own_weight(session, &own->norm1_weight, in);
        if (!status) status = own_weight(session, &own->norm1_bias, in);
        if (!status) status = own_weight(session, &own->norm2_weight, width);
        if (!status) status = own_weight(session, &own->norm2_bias, width);
        if (!status) status = own_weight(session, &own->features, t2t_performer_features(config) * width);
    }
    return status;
}

/* ---- opening and closing ---- */

static enum t2t_status copy_plans(struct t2t_session *session, const struct t2t_session_options *options)
{
    session->plans = malloc(options->plan_count * sizeof *session->plans);
    if (!session->plans) return t2t_fail_memory("plans", options->plan_count * sizeof *session->plans);
    memcpy(session->plans, options->plans, options->plan_count * sizeof *session->plans);
    session->plan_count = options->plan_count;
    session->plan = session->plans;
    for (size_t p = 0; p < session->plan_count; p++)
        for (size_t layer = 0; layer < t2t_session_layers(session); layer++)
            session->plans[p].layer[layer].format = options->device.format;
    return T2T_OK;
}

static enum t2t_status check_plans(const struct t2t_session *session)
{
    for (size_t p = 0; p < session->plan_count && session->ops->attention_check; p++)
        for (size_t layer = 0; layer < t2t_session_layers(session); layer++) {
            const struct attention_shape shape = t2t_layer_shape(session->model, layer);
            const enum t2t_status status =
                session->ops->attention_check(&shape, &session->plans[p].layer[layer], session->batch);
            if (status) return status;
        }
    return T2T_OK;
}

static enum t2t_status open_lane(struct t2t_session *session, struct lane *lane)
{
    lane->spans = calloc(session->span_most, sizeof *lane->spans);
    lane->moments = calloc(2 * session->span_most, sizeof *lane->moments);
    lane->cost = calloc(t2t_session_layers(session), sizeof *lane->cost);
    if (lane->spans && lane->moments && lane->cost) return T2T_OK;
    return t2t_fail_memory("clocks", session->span_most * sizeof *lane->spans);
}

static void close_lane(struct lane *lane)
{
    t2t_arena_free(&lane->own_arena);
    free(lane->spans);
    free(lane->moments);
    free(lane->cost);
}

/* Where there is an image for each thread, threads go alone: none waits for another before the end. */
static enum t2t_status open_lanes(struct t2t_session *session)
{
    const struct layer_ops *ops = session->ops;
    const size_t threads = ops->threads(session->device);
    session->whole.device = session->device;
    session->whole.arena = &session->arena;
    session->whole.images = threads && threads < session->batch ? threads : session->batch;
    /* Two costs a layer, of its attention and whole, for each group of images; one thread may get all of them. */
    session->span_most = 2 * t2t_session_layers(session) * session->batch;
    enum t2t_status status = open_lane(session, &session->whole);
    if (status || !ops->one_thread || threads < 2 || threads > session->batch || session->observer ||
        session->attention_observer)
        return status;
    session->thread = calloc(threads, sizeof *session->thread);
    if (!session->thread) return t2t_fail_memory("threads", threads * sizeof *session->thread);
    session->threads = threads;
    for (size_t t = 0; t < threads && !status; t++) {
        session->thread[t].device = ops->one_thread(session->device, t);
        session->thread[t].images = 1;
        session->thread[t].arena = &session->thread[t].own_arena;
        status = open_lane(session, &session->thread[t]);
    }
    return status;
}

static enum t2t_status open_session(struct t2t_session *session, const struct t2t_session_options *options)
{
    if (!options->batch || options->batch > 65536 || !options->plan_count || options->device.threads > 4096)
        return t2t_fail(T2T_BAD_USAGE, "a session needs a batch of 1 to 65536 images, a plan, at most 4096 threads");
    session->batch = options->batch;
    session->observer = options->observer;
    session->attention_observer = options->attention_observer;
    session->observer_context = options->observer_context;
    session->ops = options->ops ? options->ops : &t2t_cpu_ops;
    assert(!session->attention_observer || !session->ops->output);
    enum t2t_status status = copy_plans(session, options);
    if (!status) status = check_plans(session);
    if (!status) status = session->ops->open(&session->device, &options->device);
    if (status) return status;
    status = open_lanes(session);
    if (!status) status = open_products(session);
    if (!status) status = own_weights(session);
    if (!status) status = t2t_session_reserve_memory(session);
    if (status) return status;
    t2t_session_reset_costs(session);
    return T2T_OK;
}

enum t2t_status t2t_session_open(
    struct t2t_session **session, const struct t2t_model *model, const struct t2t_session_options *options)
{
    *session = NULL;
    struct t2t_session *made = calloc(1, sizeof *made);
    if (!made) return t2t_fail_memory("the session", sizeof *made);
    made->model = model;
    const enum t2t_status status = open_session(made, options);
    if (status) {
        t2t_session_close(made);
        return status;
    }
    *session = made;
    return T2T_OK;
}

void t2t_session_close(struct t2t_session *session)
{
    if (!session) return;
    for (size_t layer = 0; session->device && layer < t2t_session_layers(session); layer++) {
        session->ops->linear_close(session->products[layer].qkv);
        session->ops->linear_close(session->products[layer].proj);
        session->ops->linear_close(session->products[layer].fc1);
        session->ops->linear_close(session->products[layer].fc2);
    }
    if (session->device) {
        session->ops->linear_close(session->project);
        session->ops->linear_close(session->head);
        if (session->arena.adopted) session->ops->release(session->device, session->arena.memory);
        session->ops->close(session->device);
    }
    t2t_arena_free(&session->arena);
    t2t_arena_free(&session->draw_arena);
    close_lane(&session->whole);
    for (size_t t = 0; t < session->threads; t++) close_lane(&session->thread[t]);
    free(session->thread);
    free(session->plans);
    free(session);
}

const char *t2t_session_describe(const struct t2t_session *session)
{
    return session->ops->describe(session->device);
}

void t2t_session_ahead(struct t2t_session *session, const float *images, size_t batch)
{
    assert(batch <= session->batch);
    session->ahead = images;
    session->ahead_batch = batch;
}

void t2t_session_use(struct t2t_session *session, size_t plan)
{
    assert(plan < session->plan_count);
    session->plan = &session->plans[plan];
    t2t_session_reset_costs(session);
}
