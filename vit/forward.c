/* T2T-ViT, from normalised pixels to logits (Yuan et al., ICCV 2021, section 3; vit/MODEL.md).
 *
 *   [B, 3, S, S]  soft split 7/4  [n1, 147]  token layer 1  [n1, 64]      n1 = (S/4)^2 = 3136
 *                 soft split 3/2  [n2, 576]  token layer 2  [n2, 64]      n2 = (S/8)^2 =  784
 *                 soft split 3/2  [n3, 576]  project        [n3, D]       n3 = (S/16)^2 = 196
 *   class token, positions [1 + n3, D], depth blocks, norm, head          [B, classes]
 */
#include <assert.h>
#include <omp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/base/clock.h"
#include "layers/base/finite.h"
#include "vit/session.h"

/* One call of t2t_forward(), as a lane sees it. */
struct run {
    struct t2t_session *session;
    struct lane *lane;
    const struct layer_ops *ops;
    struct layer_device *device; /* the lane's */
    const struct t2t_config *config;
    const struct t2t_weights *weights;
    const float *images; /* the caller's */
    const float *pixels; /* the same, where the device reads them */
    const uint64_t *image_index;
    size_t batch;
    t2t_observer *observer;
    void *observer_context;
};

/* Moments and costs of the run's own lane. */
static size_t tick(const struct run *run)
{
    return t2t_lane_tick(run->session, run->lane);
}

static void charge(const struct run *run, double *seconds, size_t from)
{
    t2t_lane_charge(run->session, run->lane, seconds, from);
}

/* For profilers of the device: what follows has this name; NULL ends it. */
static void range(const struct run *run, const char *name)
{
    if (run->ops->range) run->ops->range(run->device, name);
}

static void layer_range(const struct run *run, size_t layer)
{
    char name[T2T_NAME_BYTES];
    t2t_layer_name(layer, name);
    range(run, name);
}

/* ---- between the host and the device ---- */

/* Copies the output of a stage to the host, where it is elsewhere. */
static void observe(const struct run *run, const char *stage, size_t first_image, struct matrix output)
{
    if (!run->observer) return;
    float *copy = NULL;
    if (run->ops->output) {
        const size_t count = output.batch * output.tokens * output.stride;
        copy = malloc(count * sizeof *copy);
        if (!copy) return; /* what fails is told by the forward that is observed */
        run->ops->output(run->device, output.data, count, copy);
        if (run->ops->finish(run->device)) memset(copy, 0, count * sizeof *copy);
        output.data = copy;
    }
    run->observer(run->observer_context, stage, first_image, output);
    free(copy);
}

static size_t picture_floats(const struct run *run)
{
    return 3 * run->config->image_size * run->config->image_size;
}

/* Where the device reads the pictures. */
static const float *take_pictures(const struct run *run)
{
    if (!run->ops->input) return run->images;
    run->ops->input(run->device, run->images, run->batch * picture_floats(run), run->session->pixels.data);
    return run->session->pixels.data;
}

/* The next forward's pictures, while the device is busy with this one's. */
static void begin_next_pictures(const struct run *run)
{
    struct t2t_session *session = run->session;
    if (session->ahead && run->ops->input_ahead)
        run->ops->input_ahead(run->device, session->ahead, session->ahead_batch * picture_floats(run));
    session->ahead = NULL;
}

/* ---- the network ---- */

/* A planned matrix, for the images at hand. */
static struct matrix of(struct matrix planned, size_t images)
{
    assert(images <= planned.batch);
    planned.batch = images;
    return planned;
}

/* Some images of a planned matrix. */
static struct matrix images_of(struct matrix planned, size_t first_image, size_t images)
{
    assert(first_image + images <= planned.batch);
    planned.data += first_image * planned.tokens * planned.stride;
    planned.batch = images;
    return planned;
}

static struct matrix columns(struct matrix all, size_t first, size_t count)
{
    all.data += first;
    all.channels = count;
    return all;
}

static void draw(const struct run *run, size_t layer, size_t first_image, size_t images)
{
    const struct t2t_plan *plan = run->session->plan;
    const struct attention_shape shape = t2t_layer_shape(run->session->model, layer);
    const double begin = t2t_now();
    attention_draw(&shape, &plan->layer[layer], plan->seed, (uint32_t)layer, run->image_index + first_image, images,
        &run->lane->draws[layer]);
    run->lane->cost[layer].draw_seconds += t2t_now() - begin;
}

/* softmax(scale q k^T) v, or what the plan has in its place. */
static void attention(const struct run *run, size_t layer, const struct layer_memory *memory, size_t first_image,
    struct matrix qkv, struct matrix attended)
{
    const struct t2t_plan *plan = run->session->plan;
    const struct attention_shape shape = t2t_layer_shape(run->session->model, layer);
    const size_t width = attended.channels;
    struct t2t_layer_cost *cost = &run->lane->cost[layer];
    const size_t begin = tick(run);
    draw(run, layer, first_image, qkv.batch);
    const struct attention_draw_memory *draws = &run->lane->draws[layer];
    const struct attention_call call = {
        .shape = shape,
        .config = plan->layer[layer],
        .draws = {.projection = draws->projection,
            .sample_uniform = draws->sample_uniform,
            .pilot_uniform = draws->pilot_uniform,
            .features = draws->features,
            .rotation = draws->rotation},
        .batch = qkv.batch,
        .q = qkv.data,
        .k = qkv.data + width,
        .v = qkv.data + 2 * width,
        .q_stride = qkv.stride,
        .k_stride = qkv.stride,
        .v_stride = qkv.stride,
        .out = attended.data,
        .out_stride = attended.stride,
        .scratch = memory->scratch,
        .step_seconds = run->session->clock_steps && !run->ops->tick ? cost->step_seconds : NULL,
        .taken = plan->layer[layer].target_error > 0 ? &cost->taken : NULL,
    };
    run->ops->attention(run->device, &call);
    charge(run, &cost->attention_seconds, begin);
    if (run->session->attention_observer)
        run->session->attention_observer(run->session->observer_context, layer, first_image, &call);
}

/* Token_performer's own attention; its product is ordered k, q, v. */
static void performer_attention(
    const struct run *run, size_t layer, const struct layer_memory *memory, struct matrix kqv, struct matrix attended)
{
    const size_t width = attended.channels;
    const size_t begin = tick(run);
    run->ops->performer_attention(run->device, run->weights->layer[layer].features, t2t_performer_features(run->config),
        columns(kqv, 0, width), columns(kqv, width, width), columns(kqv, 2 * width, width), attended, memory->scratch);
    charge(run, &run->lane->cost[layer].attention_seconds, begin);
}

/* x + fc2(gelu(fc1(norm2(x)))), in place. */
static void mlp(const struct run *run, size_t layer, struct matrix normed, struct matrix hidden, struct matrix x)
{
    const struct t2t_layer_weights *w = &run->weights->layer[layer];
    const struct layer_products *products = &run->session->products[layer];
    run->ops->layer_norm(run->device, x, w->norm2_weight, w->norm2_bias, normed);
    run->ops->linear(run->device, products->fc1, normed, NULL, hidden);
    run->ops->linear(run->device, products->fc2, hidden, &x, x);
}

/* Re-structurisation: split rows [n, in] to tokens [n, token_dim]. The skip connection starts from v, since the rows
 * that come in are wider than the tokens that go out. */
static struct matrix token_layer(const struct run *run, size_t layer, size_t first_image, size_t images)
{
    struct layer_memory *memory = &run->lane->token_layer[layer];
    const struct t2t_layer_weights *w = &run->weights->layer[layer];
    const struct layer_products *products = &run->session->products[layer];
    const struct matrix split = of(memory->split, images), qkv = of(memory->qkv, images);
    const struct matrix attended = of(memory->attended, images), out = of(memory->out, images);
    const struct matrix v = columns(qkv, 2 * out.channels, out.channels);

    run->ops->layer_norm(run->device, split, w->norm1_weight, w->norm1_bias, split);
    run->ops->linear(run->device, products->qkv, split, NULL, qkv);
    if (run->config->tokens_type == T2T_TOKENS_PERFORMER)
        performer_attention(run, layer, memory, qkv, attended);
    else
        attention(run, layer, memory, first_image, qkv, attended);
    run->ops->linear(run->device, products->proj, attended, &v, out);
    mlp(run, layer, of(memory->normed, images), of(memory->hidden, images), out);
    return out;
}

/* Soft splits and token layers for a few images of the batch, into their rows of the residual stream. */
static void tokens_to_token(const struct run *run, size_t first_image, size_t images)
{
    const struct t2t_session *session = run->session;
    struct lane *lane = run->lane;
    const size_t side = run->config->image_size, token_dim = run->config->token_dim;
    const struct soft_split_shape split0 = {.side = side, .channels = 3, .kernel = 7, .stride = 4, .padding = 2};
    const struct soft_split_shape split1 = {
        .side = side / 4, .channels = token_dim, .kernel = 3, .stride = 2, .padding = 1};
    const struct soft_split_shape split2 = {
        .side = side / 8, .channels = token_dim, .kernel = 3, .stride = 2, .padding = 1};
    const struct matrix windows0 = of(lane->token_layer[0].split, images);
    const struct matrix windows1 = of(lane->token_layer[1].split, images);
    const struct matrix windows2 = of(lane->last_split, images);
    const struct matrix projected = of(lane->projected, images);
    const struct matrix stream = images_of(session->stream, first_image, images);

    layer_range(run, 0);
    size_t begin = tick(run);
    run->ops->soft_split_image(run->device, &split0, run->pixels + first_image * picture_floats(run), windows0);
    observe(run, "soft_split0", first_image, windows0);
    const struct matrix tokens1 = token_layer(run, 0, first_image, images);
    observe(run, "t2t.1", first_image, tokens1);
    charge(run, &lane->cost[0].seconds, begin);
    range(run, NULL);

    layer_range(run, 1);
    begin = tick(run);
    run->ops->soft_split_tokens(run->device, &split1, tokens1, windows1);
    const struct matrix tokens2 = token_layer(run, 1, first_image, images);
    observe(run, "t2t.2", first_image, tokens2);
    charge(run, &lane->cost[1].seconds, begin);
    range(run, NULL);

    run->ops->soft_split_tokens(run->device, &split2, tokens2, windows2);
    run->ops->linear(run->device, session->project, windows2, NULL, projected);
    observe(run, "tokens", first_image, projected);
    run->ops->assemble_tokens(run->device, projected, run->weights->class_token, run->weights->positions, stream);
}

/* x + proj(attention(norm1(x))), then the MLP: a pre-norm transformer block, in place. */
static void block(const struct run *run, size_t number, size_t first_image, size_t images)
{
    const size_t layer = T2T_TOKEN_LAYERS + number;
    struct layer_memory *memory = &run->lane->block;
    const struct t2t_layer_weights *w = &run->weights->layer[layer];
    const struct layer_products *products = &run->session->products[layer];
    const struct matrix x = images_of(run->session->stream, first_image, images);
    const struct matrix normed = of(memory->normed, images), qkv = of(memory->qkv, images);
    const struct matrix attended = of(memory->attended, images);

    layer_range(run, layer);
    const size_t begin = tick(run);
    run->ops->layer_norm(run->device, x, w->norm1_weight, w->norm1_bias, normed);
    run->ops->linear(run->device, products->qkv, normed, NULL, qkv);
    attention(run, layer, memory, first_image, qkv, attended);
    run->ops->linear(run->device, products->proj, attended, &x, x);
    mlp(run, layer, normed, of(memory->hidden, images), x);
    charge(run, &run->lane->cost[layer].seconds, begin);
    range(run, NULL);

    char stage[T2T_NAME_BYTES];
    t2t_layer_name(layer, stage);
    observe(run, stage, first_image, x);
}

/* head(norm(class token)): LayerNorm is row by row, so only the class tokens need it. */
static void classify(const struct run *run, float *logits)
{
    struct t2t_session *session = run->session;
    struct matrix class_tokens = of(session->stream, run->batch);
    class_tokens.stride *= class_tokens.tokens;
    class_tokens.tokens = 1;
    const struct matrix rows = of(session->class_rows, run->batch);
    const size_t classes = run->config->num_classes;
    struct matrix out = {.data = logits, .batch = run->batch, .tokens = 1, .channels = classes, .stride = classes};
    if (run->ops->output) out.data = session->logits.data;
    run->ops->layer_norm(run->device, class_tokens, run->weights->norm_weight, run->weights->norm_bias, rows);
    run->ops->linear(run->device, session->head, rows, NULL, out);
    observe(run, "logits", 0, out);
}

/* From pixels to the end of the residual stream. */
static void features(const struct run *run, size_t first_image, size_t images)
{
    tokens_to_token(run, first_image, images);
    for (size_t i = 0; i < run->config->depth; i++) block(run, i, first_image, images);
}

/* Each thread takes the next image, as long as there is one for every thread. Returns how many were taken. */
static size_t features_by_threads(const struct run *run)
{
    const size_t threads = run->session->threads;
    const size_t images = threads && !run->observer ? run->batch - run->batch % threads : 0;
#pragma omp parallel for num_threads((int)threads) schedule(dynamic) if (images)
    for (size_t image = 0; image < images; image++) {
        struct run alone = *run;
        alone.lane = &run->session->thread[omp_get_thread_num()];
        alone.device = alone.lane->device;
        features(&alone, image, 1);
    }
    return images;
}

static void network(const struct run *run, float *logits)
{
    const size_t most = run->session->whole.images;
    for (size_t first = features_by_threads(run); first < run->batch; first += most)
        features(run, first, run->batch - first < most ? run->batch - first : most);
    classify(run, logits);
}

/* What is left of the network for the host where the device has recorded it. */
static void draw_all(const struct run *run)
{
    const bool performer = run->config->tokens_type == T2T_TOKENS_PERFORMER;
    for (size_t layer = performer ? T2T_TOKEN_LAYERS : 0; layer < T2T_TOKEN_LAYERS + run->config->depth; layer++)
        draw(run, layer, 0, run->batch);
    t2t_lane_charge_again(run->lane);
}

/* Under one plan, forwards of one size are queued in the same way, unless somebody looks into them. */
static void queue_network(const struct run *run, float *logits)
{
    const struct t2t_session *session = run->session;
    const size_t number = (size_t)(session->plan - session->plans) * (session->batch + 1) + run->batch;
    if (!run->ops->graph_begin || run->observer) {
        network(run, logits);
        return;
    }
    if (run->ops->graph_begin(run->device, number))
        network(run, logits);
    else
        draw_all(run);
    run->ops->graph_end(run->device);
}

static enum t2t_status forward(struct run *run, float *logits)
{
    range(run, "forward");
    run->pixels = take_pictures(run);
    queue_network(run, logits);
    begin_next_pictures(run);
    if (run->ops->output)
        run->ops->output(run->device, run->session->logits.data, run->batch * run->config->num_classes, logits);
    const enum t2t_status status = run->ops->finish ? run->ops->finish(run->device) : T2T_OK;
    t2t_session_settle(run->session);
    range(run, NULL);
    return status;
}

/* ---- NaN and infinity ---- */

struct not_finite {
    bool found;
    char stage[T2T_NAME_BYTES];
    size_t image;
};

static void find_not_finite(void *context, const char *stage, size_t first_image, struct matrix output)
{
    struct not_finite *first = context;
    for (size_t row = 0; row < output.batch * output.tokens && !first->found; row++)
        if (t2t_first_not_finite(output.data + row * output.stride, output.channels) < output.channels) {
            first->found = true;
            first->image = first_image + row / output.tokens;
            snprintf(first->stage, sizeof first->stage, "%s", stage);
        }
}

/* Runs the batch once more to say where things went wrong. */
static enum t2t_status explain_not_finite(struct run run, float *logits)
{
    const struct t2t_costs costs = run.session->costs;
    struct not_finite first = {.stage = "logits"};
    run.observer = find_not_finite;
    run.observer_context = &first;
    const enum t2t_status status = forward(&run, logits);
    run.session->costs = costs;
    if (status) return status;
    return t2t_fail(T2T_NOT_FINITE, "NaN or infinity in the output of %s for picture %zu of the batch (index %llu)",
        first.stage, first.image, (unsigned long long)run.image_index[first.image]);
}

enum t2t_status t2t_forward(
    struct t2t_session *session, const float *images, const uint64_t *image_index, size_t batch, float *logits)
{
    assert(batch >= 1 && batch <= session->batch);
    struct run run = {
        .session = session,
        .lane = &session->whole,
        .ops = session->ops,
        .device = session->device,
        .config = t2t_model_config(session->model),
        .weights = &session->weights,
        .images = images,
        .image_index = image_index,
        .batch = batch,
        .observer = session->observer,
        .observer_context = session->observer_context,
    };
    const double begin = t2t_now();
    const enum t2t_status status = forward(&run, logits);
    if (status) return status;
    session->costs.seconds += t2t_now() - begin;
    session->costs.images += batch;
    const size_t count = batch * run.config->num_classes;
    if (t2t_first_not_finite(logits, count) < count) return explain_not_finite(run, logits);
    return T2T_OK;
}
