/* What a forward costs: clocks around the layers, and multiply-accumulates by formula. */
#include <assert.h>
#include <string.h>

#include "layers/base/clock.h"
#include "vit/session.h"

/* ---- multiply-accumulates ---- */

/* Multiply-accumulates of a layer's products with weights, one image: qkv, proj, fc1, fc2. */
static double product_macs(const struct t2t_config *config, size_t layer)
{
    const double tokens = (double)t2t_tokens(config, layer), in = (double)t2t_layer_in(config, layer);
    const double width = (double)t2t_layer_width(config, layer), hidden = (double)t2t_layer_hidden(config, layer);
    return tokens * width * (3 * in + width + 2 * hidden);
}

/* With what a target error took so far. */
static void count_macs(struct t2t_session *session)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    struct t2t_costs *costs = &session->costs;
    costs->macs =
        (double)(t2t_tokens(config, T2T_TOKEN_LAYERS) - 1) * 9 * (double)config->token_dim * (double)config->embed_dim +
        (double)config->embed_dim * (double)config->num_classes; /* project and head */
    for (size_t layer = 0; layer < costs->layers; layer++) {
        const struct attention_shape shape = t2t_layer_shape(session->model, layer);
        struct t2t_layer_cost *cost = &costs->layer[layer];
        cost->attention_macs = attention_macs(&shape, &session->plan->layer[layer], &cost->taken);
        if (layer < T2T_TOKEN_LAYERS && config->tokens_type == T2T_TOKENS_PERFORMER) /* phi(q), phi(k), two products */
            cost->attention_macs =
                4.0 * (double)cost->tokens * (double)t2t_performer_features(config) * (double)config->token_dim;
        cost->macs = cost->attention_macs + product_macs(config, layer);
        costs->macs += cost->macs;
    }
}

/* ---- clocks ---- */

size_t t2t_lane_tick(const struct t2t_session *session, struct lane *lane)
{
    const size_t number = lane->tick_count++;
    assert(number < 2 * session->span_most);
    if (session->ops->tick)
        session->ops->tick(lane->device, number);
    else
        lane->moments[number] = t2t_now();
    return number;
}

void t2t_lane_charge(const struct t2t_session *session, struct lane *lane, double *seconds, size_t from)
{
    lane->spans[lane->span_count++] =
        (struct span){.seconds = seconds, .from = from, .to = t2t_lane_tick(session, lane)};
}

void t2t_lane_charge_again(struct lane *lane)
{
    lane->span_count = lane->spans_before;
}

/* Adds what a lane took: `share` of it is wall clock. */
static void settle(struct t2t_session *session, struct lane *lane, double share)
{
    for (size_t i = 0; i < lane->span_count; i++) {
        const struct span *span = &lane->spans[i];
        *span->seconds += session->ops->seconds ? session->ops->seconds(lane->device, span->from, span->to)
                                                : lane->moments[span->to] - lane->moments[span->from];
    }
    lane->spans_before = lane->span_count;
    lane->span_count = lane->tick_count = 0;
    for (size_t layer = 0; layer < session->costs.layers; layer++) {
        struct t2t_layer_cost *sum = &session->costs.layer[layer], *cost = &lane->cost[layer];
        sum->seconds += share * cost->seconds;
        sum->attention_seconds += share * cost->attention_seconds;
        sum->draw_seconds += share * cost->draw_seconds;
        for (size_t step = 0; step < ATTENTION_STEPS; step++) sum->step_seconds[step] += cost->step_seconds[step];
        attention_taken_add(&sum->taken, &cost->taken);
    }
    memset(lane->cost, 0, session->costs.layers * sizeof *lane->cost);
}

void t2t_session_settle(struct t2t_session *session)
{
    settle(session, &session->whole, 1);
    for (size_t t = 0; t < session->threads; t++) settle(session, &session->thread[t], 1 / (double)session->threads);
    count_macs(session);
}

/* ---- what a session tells ---- */

const struct t2t_costs *t2t_session_costs(const struct t2t_session *session)
{
    return &session->costs;
}

void t2t_session_clock_steps(struct t2t_session *session, bool on)
{
    session->clock_steps = on;
}

void t2t_session_reset_costs(struct t2t_session *session)
{
    const struct t2t_config *config = t2t_model_config(session->model);
    struct t2t_costs *costs = &session->costs;
    memset(costs, 0, sizeof *costs);
    costs->layers = T2T_TOKEN_LAYERS + config->depth;
    for (size_t layer = 0; layer < costs->layers; layer++) {
        t2t_layer_name(layer, costs->layer[layer].name);
        costs->layer[layer].tokens = t2t_tokens(config, layer);
    }
    count_macs(session);
}
