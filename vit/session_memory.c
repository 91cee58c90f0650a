/* A session's working memory and that of its random numbers, planned once: what never lives together takes the same
 * bytes, and a forward allocates nothing.
 */
#include "vit/session.h"

static struct matrix take_matrix(struct t2t_arena *arena, size_t batch, size_t tokens, size_t channels)
{
    return (struct matrix){.data = t2t_arena_take(arena, batch * tokens * channels, sizeof(float)),
        .batch = batch,
        .tokens = tokens,
        .channels = channels,
        .stride = channels};
}

struct attention_draw_counts t2t_layer_draws(
    const struct t2t_session *session, const struct t2t_plan *plan, size_t layer)
{
    const struct attention_config *config = &plan->layer[layer];
    const struct attention_shape shape = t2t_layer_shape(session->model, layer);
    const struct attention_method *method = attention_method(config->kind);
    return method->draw_counts ? method->draw_counts(&shape, config) : (struct attention_draw_counts){0};
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Scratch of layers first ... last - 1, which use the same memory one after another, under any plan. */
static void *take_scratch(struct t2t_session *session, const struct lane *lane, size_t first, size_t last)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    size_t scratch = 0;
    for (size_t p = 0; p < session->plan_count; p++)
        for (size_t layer = first; layer < last; layer++) {
            const struct attention_shape shape = t2t_layer_shape(session->model, layer);
            scratch = larger(scratch,
                session->ops->attention_scratch(lane->device, &shape, &session->plans[p].layer[layer], lane->images));
        }
    if (first < T2T_TOKEN_LAYERS && config->tokens_type == T2T_TOKENS_PERFORMER)
        scratch = larger(scratch, session->ops->performer_scratch(lane->device, t2t_tokens(config, first),
                                      config->token_dim, t2t_performer_features(config), lane->images));
    return t2t_arena_take(lane->arena, scratch, 1);
}

/* Likewise for draws. */
static void take_draws(struct t2t_session *session, struct lane *lane, size_t first, size_t last)
{
    struct t2t_arena *arena = &session->draw_arena;
    struct attention_draw_counts most = {0}; /* of an image */
    for (size_t p = 0; p < session->plan_count; p++)
        for (size_t layer = first; layer < last; layer++) {
            const size_t heads = t2t_layer_shape(session->model, layer).heads;
            const struct attention_draw_counts draws = t2t_layer_draws(session, &session->plans[p], layer);
            most.projection = larger(most.projection, draws.projection * heads);
            most.sample_uniform = larger(most.sample_uniform, draws.sample_uniform * heads);
            most.features = larger(most.features, draws.features * heads);
            most.rotation = larger(most.rotation, draws.rotation * heads);
            most.pilot_uniform = larger(most.pilot_uniform, draws.pilot_uniform * heads);
        }
    struct attention_draw_memory draws;
    draws.projection = t2t_arena_take(arena, lane->images * most.projection, sizeof *draws.projection);
    draws.sample_uniform = t2t_arena_take(arena, lane->images * most.sample_uniform, sizeof *draws.sample_uniform);
    draws.features = t2t_arena_take(arena, lane->images * most.features, sizeof *draws.features);
    draws.rotation = t2t_arena_take(arena, lane->images * most.rotation, sizeof *draws.rotation);
    draws.pilot_uniform = t2t_arena_take(arena, lane->images * most.pilot_uniform, sizeof *draws.pilot_uniform);
    for (size_t layer = first; layer < last; layer++) lane->draws[layer] = draws;
}

/* A device that computes later reads the draws of one block when those of the next have been made. */
static void plan_draws(struct t2t_session *session, struct lane *lane)
{
    const size_t layers = t2t_session_layers(session);
    const size_t alone = session->ops->reserve_draws ? layers : T2T_TOKEN_LAYERS;
    for (size_t layer = 0; layer < alone; layer++) take_draws(session, lane, layer, layer + 1);
    if (alone < layers) take_draws(session, lane, alone, layers);
}

static void plan_token_layer(struct t2t_session *session, struct lane *lane, size_t layer)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    struct layer_memory *memory = &lane->token_layer[layer];
    struct t2t_arena *arena = lane->arena;
    const size_t images = lane->images, tokens = t2t_tokens(config, layer), width = t2t_layer_width(config, layer);
    memory->qkv = take_matrix(arena, images, tokens, 3 * width);
    const size_t after_qkv = t2t_arena_mark(arena);
    memory->split = take_matrix(arena, images, tokens, t2t_layer_in(config, layer));
    t2t_arena_release(arena, after_qkv);
    memory->attended = take_matrix(arena, images, tokens, width);
    memory->scratch = take_scratch(session, lane, layer, layer + 1);
    memory->normed = memory->attended;
    memory->hidden = take_matrix(arena, images, tokens, t2t_layer_hidden(config, layer));
}

static void plan_blocks(struct t2t_session *session, struct lane *lane)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    struct layer_memory *memory = &lane->block;
    struct t2t_arena *arena = lane->arena;
    const size_t images = lane->images, tokens = t2t_tokens(config, T2T_TOKEN_LAYERS), width = config->embed_dim;
    memory->normed = take_matrix(arena, images, tokens, width);
    memory->attended = memory->normed;
    const size_t after_normed = t2t_arena_mark(arena);
    memory->qkv = take_matrix(arena, images, tokens, 3 * width);
    memory->scratch = take_scratch(session, lane, T2T_TOKEN_LAYERS, t2t_session_layers(session));
    t2t_arena_release(arena, after_normed);
    memory->hidden = take_matrix(arena, images, tokens, t2t_layer_hidden(config, T2T_TOKEN_LAYERS));
}

/* Stages that never live together take the same bytes. */
static void plan_lane(struct t2t_session *session, struct lane *lane)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    struct t2t_arena *arena = lane->arena;
    const size_t tokens = t2t_tokens(config, T2T_TOKEN_LAYERS), stages = t2t_arena_mark(arena);
    for (size_t layer = 0; layer < T2T_TOKEN_LAYERS; layer++)
        lane->token_layer[layer].out = take_matrix(arena, lane->images, t2t_tokens(config, layer), config->token_dim);
    const size_t token_stages = t2t_arena_mark(arena);
    for (size_t layer = 0; layer < T2T_TOKEN_LAYERS; layer++) {
        plan_token_layer(session, lane, layer);
        t2t_arena_release(arena, token_stages);
    }
    lane->last_split = take_matrix(arena, lane->images, tokens - 1, 9 * config->token_dim);
    lane->projected = take_matrix(arena, lane->images, tokens - 1, config->embed_dim);
    t2t_arena_release(arena, stages);
    plan_blocks(session, lane);
    plan_draws(session, lane);
}

/* Runs twice, first to measure. */
static void plan_memory(struct t2t_session *session)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    struct t2t_arena *arena = &session->arena;
    const size_t tokens = t2t_tokens(config, T2T_TOKEN_LAYERS);
    session->stream = take_matrix(arena, session->batch, tokens, config->embed_dim);
    session->class_rows = take_matrix(arena, session->batch, 1, config->embed_dim);
    if (session->ops->input) {
        session->pixels = take_matrix(arena, session->batch, config->image_size * config->image_size, 3);
        session->logits = take_matrix(arena, session->batch, 1, config->num_classes);
    }
    plan_lane(session, &session->whole);
    t2t_arena_release(arena, 0);
    for (size_t t = 0; t < session->threads; t++) {
        plan_lane(session, &session->thread[t]);
        t2t_arena_release(session->thread[t].arena, 0);
    }
}

/* ---- reserving ---- */

/* What a device with memory of its own has of it, and of the host's. */
static enum t2t_status reserve_on_device(struct t2t_session *session)
{
    const size_t side = t2t_model_config(session->model)->image_size;
    void *memory;
    enum t2t_status status = session->ops->reserve(session->device, session->arena.peak, &memory);
    if (status) return status;
    t2t_arena_adopt(&session->arena, memory);
    status = session->ops->reserve_draws(session->device, session->draw_arena.peak, &memory);
    if (status) return status;
    t2t_arena_adopt(&session->draw_arena, memory);
    return session->ops->input_open(session->device, session->batch * side * side * 3);
}

enum t2t_status t2t_session_reserve_memory(struct t2t_session *session)
{
    enum t2t_status status;
    plan_memory(session);
    if (session->ops->reserve) {
        status = reserve_on_device(session);
    } else {
        status = t2t_arena_reserve(&session->arena);
        if (!status) status = t2t_arena_reserve(&session->draw_arena);
    }
    for (size_t t = 0; t < session->threads && !status; t++) status = t2t_arena_reserve(session->thread[t].arena);
    if (!status) plan_memory(session);
    return status;
}
