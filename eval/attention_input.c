/* Three sources of q, k and v; see attention_input.h. */
#include "eval/attention_input.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/glove.h"
#include "layers/base/random.h"

void t2t_input_free(struct attention_input *input)
{
    free(input->image_index);
    free(input->q);
    free(input->k);
    free(input->v);
    *input = (struct attention_input){0};
}

/* Room for shape and units, which are set. */
static enum t2t_status allocate(struct attention_input *input)
{
    const struct attention_shape *shape = &input->shape;
    const size_t width = shape->heads * shape->head_dim, value_width = shape->heads * shape->value_dim;
    const size_t q = input->units * shape->queries * width, k = input->units * shape->keys * width;
    const size_t v = input->units * shape->keys * value_width;
    input->image_index = calloc(input->units, sizeof *input->image_index);
    input->q = malloc(q * sizeof *input->q);
    input->k = malloc(k * sizeof *input->k);
    input->v = malloc(v * sizeof *input->v);
    if (input->image_index && input->q && input->k && input->v) return T2T_OK;
    t2t_input_free(input);
    return t2t_fail_memory("queries, keys and values", (q + k + v) * sizeof(float));
}

static struct attention_shape square(size_t rows, size_t dim, float scale)
{
    return (struct attention_shape){
        .heads = 1, .queries = rows, .keys = rows, .head_dim = dim, .value_dim = dim, .scale = scale};
}

/* ---- word vectors ---- */

enum t2t_status t2t_input_glove(struct attention_input *input, const char *path, size_t rows, size_t units)
{
    *input = (struct attention_input){.units = units};
    float *vectors;
    size_t dim;
    enum t2t_status status = t2t_glove_read(path, 2 * rows * units, &vectors, &dim);
    if (status) return status;
    input->shape = square(rows, dim, 1);
    status = allocate(input);
    const size_t count = rows * dim;
    const float divisor = powf(10, 0.25F);
    for (size_t unit = 0; unit < units && !status; unit++) {
        const float *from = vectors + 2 * unit * count;
        for (size_t i = 0; i < count; i++) input->q[unit * count + i] = from[i] / divisor;
        memcpy(input->v + unit * count, from + count, count * sizeof *from);
        input->image_index[unit] = unit;
    }
    if (!status) memcpy(input->k, input->q, units * count * sizeof *input->k);
    snprintf(input->description, sizeof input->description,
        "word vectors of %s: q = k = %zu rows / 10^0.25, v the rows after them", path, rows);
    free(vectors);
    return status;
}

/* ---- clusters ---- */

enum { CLUSTERS = 64, CENTRES = 0, VALUES = 1, MEMBERS = 2, NOISE = 3 /* and two more: of q, k, v */ };

static struct t2t_random_key stream(size_t unit, uint32_t number)
{
    return (struct t2t_random_key){.seed = 1, .image = unit, .layer = number, .purpose = T2T_RANDOM_TEST};
}

/* A cluster for a uniform number: the first is the largest, number c has a share that falls as 1 / (c + 1). */
static size_t cluster_of(uint32_t uniform)
{
    double total = 0, sum = 0;
    for (size_t c = 0; c < CLUSTERS; c++) total += 1 / (double)(c + 1);
    for (size_t c = 0; c + 1 < CLUSTERS; c++) {
        sum += 1 / (double)(c + 1) / total;
        if ((double)uniform < sum * 0x1p32) return c;
    }
    return CLUSTERS - 1;
}

/* Rows around the centres of their clusters. */
static void draw_rows(float *out, const float *centres, const uint32_t *member, size_t rows, size_t dim, float spread)
{
    for (size_t row = 0; row < rows; row++) {
        const float *centre = centres + cluster_of(member[row]) * dim;
        for (size_t c = 0; c < dim; c++) out[row * dim + c] = centre[c] + spread * out[row * dim + c];
    }
}

/* Scores of a query and a key of one cluster are about dim^0.5 * 0.64, of others 0 +- 0.64: with dim 64 a cluster's keys
 * weigh 150 times as much as others. */
enum t2t_status t2t_input_clusters(struct attention_input *input, size_t rows, size_t dim, size_t units)
{
    static const float centre_size = 0.8F, spread = 0.4F;
    *input = (struct attention_input){.units = units, .shape = square(rows, dim, 1 / sqrtf((float)dim))};
    enum t2t_status status = allocate(input);
    if (status) return status;
    float *centres = malloc(2 * CLUSTERS * dim * sizeof *centres), *values = centres + CLUSTERS * dim;
    uint32_t *member = malloc(rows * sizeof *member);
    if (!centres || !member) status = t2t_fail_memory("clusters", (2 * CLUSTERS * dim + rows) * sizeof *centres);
    for (size_t unit = 0; unit < units && !status; unit++) {
        t2t_random_normal(stream(unit, CENTRES), CLUSTERS * dim, centres);
        t2t_random_normal(stream(unit, VALUES), CLUSTERS * dim, values);
        for (size_t i = 0; i < CLUSTERS * dim; i++) centres[i] *= centre_size;
        float *const out[] = {input->q + unit * rows * dim, input->k + unit * rows * dim, input->v + unit * rows * dim};
        t2t_random_uint32(stream(unit, MEMBERS), rows, member);
        for (uint32_t i = 0; i < 3; i++) {
            t2t_random_normal(stream(unit, NOISE + i), rows * dim, out[i]);
            draw_rows(out[i], i == 2 ? values : centres, member, rows, dim, spread);
        }
        input->image_index[unit] = unit;
    }
    snprintf(input->description, sizeof input->description, "synthetic: %d clusters of %zu rows", CLUSTERS, rows);
    free(centres);
    free(member);
    if (status) t2t_input_free(input);
    return status;
}

/* ---- captured from a layer ---- */

struct capture {
    struct attention_input *input;
    size_t layer, first; /* unit of the batch's first picture */
};

static void copy_rows(float *out, const float *from, size_t rows, size_t width, size_t stride)
{
    for (size_t row = 0; row < rows; row++) memcpy(out + row * width, from + row * stride, width * sizeof *out);
}

static void capture_call(void *context, size_t layer, size_t first_image, const struct attention_call *call)
{
    const struct capture *capture = context;
    const struct attention_input *input = capture->input;
    const struct attention_shape *shape = &call->shape;
    if (layer != capture->layer) return;
    const size_t unit = capture->first + first_image;
    const size_t width = shape->heads * shape->head_dim, value_width = shape->heads * shape->value_dim;
    copy_rows(input->q + unit * shape->queries * width, call->q, call->batch * shape->queries, width, call->q_stride);
    copy_rows(input->k + unit * shape->keys * width, call->k, call->batch * shape->keys, width, call->k_stride);
    copy_rows(
        input->v + unit * shape->keys * value_width, call->v, call->batch * shape->keys, value_width, call->v_stride);
}

static enum t2t_status capture_pictures(
    struct capture *capture, struct t2t_session *session, struct picture_source *source, size_t units, float *logits)
{
    struct attention_input *input = capture->input;
    enum t2t_status status = T2T_OK;
    while (!status && input->units < units) {
        const struct t2t_batch *batch;
        status = t2t_source_next(source, &batch);
        if (status || !batch) break;
        if (batch->failed_count) return t2t_fail(batch->failed[0].status, "%s", batch->failed[0].reason);
        const size_t count = batch->count < units - input->units ? batch->count : units - input->units;
        capture->first = input->units;
        memcpy(input->image_index + input->units, batch->image_index, count * sizeof *input->image_index);
        status = t2t_forward(session, batch->pixels, batch->image_index, count, logits);
        input->units += count;
    }
    if (!status && !input->units) return t2t_fail(T2T_BAD_DATA, "there are no pictures to take q, k and v from");
    return status;
}

enum t2t_status t2t_input_captured(struct attention_input *input, const struct t2t_model *model, size_t layer,
    struct picture_source *source, size_t units, size_t threads)
{
    const struct t2t_config *config = t2t_model_config(model);
    char name[T2T_NAME_BYTES];
    t2t_layer_name(layer, name);
    *input = (struct attention_input){.units = units, .layer = (uint32_t)layer};
    if (layer < T2T_TOKEN_LAYERS && config->tokens_type == T2T_TOKENS_PERFORMER)
        return t2t_fail(T2T_BAD_MODEL,
            "%s has Token_performer layers: %s has no softmax attention to study; use a t2t_vit_t_* model, or a block",
            config->name, name);
    input->shape = t2t_layer_shape(model, layer);
    enum t2t_status status = allocate(input);
    if (status) return status;
    input->units = 0;
    struct t2t_plan plan;
    t2t_plan_exact(model, &plan);
    struct capture capture = {.input = input, .layer = layer};
    const struct t2t_session_options options = {.batch = source->batch,
        .device = {.threads = threads},
        .plans = &plan,
        .plan_count = 1,
        .attention_observer = capture_call,
        .observer_context = &capture};
    struct t2t_session *session;
    status = t2t_session_open(&session, model, &options);
    float *logits = malloc(source->batch * config->num_classes * sizeof *logits);
    if (!status && !logits) status = t2t_fail_memory("logits", source->batch * config->num_classes * sizeof *logits);
    if (!status) status = capture_pictures(&capture, session, source, units, logits);
    snprintf(input->description, sizeof input->description, "%s of %s on %zu picture%s", name, config->name,
        input->units, input->units == 1 ? "" : "s");
    t2t_session_close(session);
    free(logits);
    if (status) t2t_input_free(input);
    return status;
}
