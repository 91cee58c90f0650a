/* The loop over batches: wait for pictures, let every attention answer, compare the answers.
 *
 * Methods take turns and begin in another order with every batch, so that whoever disturbs the machine disturbs all.
 */
#include "eval/evaluation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/interrupt.h"
#include "eval/metrics.h"
#include "eval/progress.h"
#include "layers/base/clock.h"

enum { TOP = 5 };

/* What the loop needs and nobody keeps. */
struct loop {
    struct evaluation *evaluation;
    struct t2t_session *session;
    size_t classes, layers;
    float *logits; /* [runs, batch, classes] */
    evaluation_report *report_partial;
};

/* ---- memory ---- */

static enum t2t_status allocate_results(struct evaluation *evaluation, size_t classes, size_t layers)
{
    const size_t count = evaluation->runs->count, pictures = evaluation->pictures->count;
    const size_t batches = (pictures + evaluation->options.batch - 1) / evaluation->options.batch;
    evaluation->result = calloc(count, sizeof *evaluation->result);
    if (!evaluation->result) return t2t_fail_memory("results", count * sizeof *evaluation->result);
    for (size_t i = 0; i < count; i++) {
        struct run_result *result = &evaluation->result[i];
        result->forward_ms = calloc(batches, sizeof *result->forward_ms);
        result->layer1_ms = calloc(batches, sizeof *result->layer1_ms);
        result->layer_seconds = calloc(layers, sizeof *result->layer_seconds);
        result->taken = calloc(layers, sizeof *result->taken);
        if (!result->forward_ms || !result->layer1_ms || !result->layer_seconds || !result->taken)
            return t2t_fail_memory("times of batches", 2 * batches * sizeof(double));
        if (!evaluation->options.keep_logits) continue;
        result->logits = malloc(pictures * classes * sizeof *result->logits);
        if (!result->logits) return t2t_fail_memory("all logits", pictures * classes * sizeof *result->logits);
    }
    if (!evaluation->options.keep_logits) return T2T_OK;
    evaluation->kept = malloc(pictures * sizeof *evaluation->kept);
    return evaluation->kept ? T2T_OK : t2t_fail_memory("a list of pictures", pictures * sizeof *evaluation->kept);
}

void t2t_evaluation_free(struct evaluation *evaluation)
{
    for (size_t i = 0; evaluation->result && i < evaluation->runs->count; i++) {
        struct run_result *result = &evaluation->result[i];
        free(result->forward_ms);
        free(result->layer1_ms);
        free(result->layer_seconds);
        free(result->taken);
        free(result->logits);
    }
    free(evaluation->result);
    free(evaluation->kept);
    for (size_t i = 0; i < evaluation->skipped_count; i++) {
        free(evaluation->skipped[i].name);
        free(evaluation->skipped[i].reason);
    }
    free(evaluation->skipped);
}

/* ---- one batch ---- */

static void say_interrupted(const struct evaluation *evaluation)
{
    t2t_progress_end();
    t2t_error("interrupted: %zu of %zu pictures done", evaluation->images, evaluation->pictures->count);
}

static void report_interrupted(void *context)
{
    const struct loop *loop = context;
    loop->evaluation->signal = t2t_interrupted();
    say_interrupted(loop->evaluation);
    loop->report_partial(loop->evaluation);
}

static const char *name_of(const struct evaluation *evaluation, size_t sample)
{
    return evaluation->pictures->samples[sample].name;
}

/* One attention's logits of a batch, with its times; `next` is the batch of the forward after it, or NULL. */
static enum t2t_status forward(
    struct loop *loop, size_t run, const struct t2t_batch *batch, const struct t2t_batch *next)
{
    float *logits = loop->logits + run * loop->evaluation->options.batch * loop->classes;
    t2t_session_use(loop->session, run);
    if (next) t2t_session_ahead(loop->session, next->pixels, next->count);
    t2t_interrupt_allow(report_interrupted, loop);
    const enum t2t_status status = t2t_forward(loop->session, batch->pixels, batch->image_index, batch->count, logits);
    t2t_interrupt_hold();
    if (!status) return T2T_OK;
    return t2t_fail(status, "attention %s, pictures %s to %s: %s", loop->evaluation->runs->run[run].name,
        name_of(loop->evaluation, batch->sample[0]), name_of(loop->evaluation, batch->sample[batch->count - 1]),
        t2t_last_error());
}

static void add_times(struct loop *loop, size_t run, size_t pictures)
{
    struct evaluation *evaluation = loop->evaluation;
    struct run_result *result = &evaluation->result[run];
    const struct t2t_costs *costs = t2t_session_costs(loop->session);
    result->forward_seconds += costs->seconds;
    result->forward_ms[evaluation->batches] = 1e3 * costs->seconds / (double)pictures;
    result->layer1_ms[evaluation->batches] = 1e3 * costs->layer[0].attention_seconds / (double)pictures;
    const double share = (double)pictures / (double)(evaluation->images + pictures);
    result->macs += share * (costs->macs - result->macs);
    result->layer1_macs += share * (costs->layer[0].attention_macs - result->layer1_macs);
    for (size_t layer = 0; layer < loop->layers; layer++) {
        result->layer_seconds[layer] += costs->layer[layer].attention_seconds;
        attention_taken_add(&result->taken[layer], &costs->layer[layer].taken);
    }
}

/* Counts what every attention made of picture `at` of a batch. */
static void score(const struct loop *loop, const struct t2t_batch *batch, size_t at)
{
    const struct evaluation *evaluation = loop->evaluation;
    const size_t stride = evaluation->options.batch * loop->classes;
    const float *reference = loop->logits + evaluation->runs->reference * stride + at * loop->classes;
    const size_t label = evaluation->labelled ? (size_t)batch->label[at] : 0;
    const bool reference_right = evaluation->labelled && t2t_rank_of(reference, loop->classes, label) == 0;
    size_t reference_answer;
    t2t_top_classes(reference, loop->classes, 1, &reference_answer);
    size_t first = 0, drop = 0; /* first run of the seeds that `run` is one of; how many of those so far differ */
    for (size_t run = 0; run < evaluation->runs->count; run++) {
        struct run_result *result = &evaluation->result[run];
        const float *logits = loop->logits + run * stride + at * loop->classes;
        size_t answer;
        t2t_top_classes(logits, loop->classes, 1, &answer);
        result->agreed += answer == reference_answer;
        if (result->logits)
            memcpy(result->logits + (evaluation->images + at) * loop->classes, logits, loop->classes * sizeof *logits);
        if (!evaluation->labelled) continue;
        const size_t rank = t2t_rank_of(logits, loop->classes, label);
        result->correct1 += rank == 0;
        result->correct5 += rank < TOP;
        result->lost += reference_right && rank != 0;
        result->gained += !reference_right && rank == 0;
        if (evaluation->runs->run[run].variant != evaluation->runs->run[first].variant) {
            first = run;
            drop = 0;
        }
        if (reference_right != (rank == 0)) /* the squares grow by (drop + 1)^2 - drop^2 */
            evaluation->result[first].drop_squares += 2 * drop++ + 1;
        result->loss += t2t_log_loss(logits, loop->classes, label);
    }
}

static enum t2t_status answer_batch(struct loop *loop, const struct t2t_batch *batch)
{
    struct evaluation *evaluation = loop->evaluation;
    const size_t runs = evaluation->runs->count;
    for (size_t turn = 0; turn < runs; turn++) {
        const size_t run = (turn + evaluation->batches) % runs;
        const struct t2t_batch *next = turn + 1 < runs ? batch : t2t_source_peek(evaluation->source);
        const enum t2t_status status = forward(loop, run, batch, next);
        if (status) return status;
        if (t2t_interrupted()) return T2T_OK; /* the batch is dropped whole */
        add_times(loop, run, batch->count);
    }
    for (size_t at = 0; at < batch->count; at++) {
        score(loop, batch, at);
        if (evaluation->kept) evaluation->kept[evaluation->images + at] = batch->sample[at];
        evaluation->decode_seconds += batch->report[at].decode_seconds;
        evaluation->resize_seconds += batch->report[at].resize_seconds;
    }
    evaluation->images += batch->count;
    evaluation->batches++;
    return T2T_OK;
}

/* ---- pictures that cannot be used ---- */

static enum t2t_status skip(struct evaluation *evaluation, const struct t2t_failed_picture *failed)
{
    if (!evaluation->options.skip_failed || failed->status == T2T_NO_RESOURCE)
        return t2t_fail(failed->status, "%s%s", failed->reason,
            failed->status == T2T_BAD_DATA ? "; --on-error skip leaves such pictures out" : "");
    struct skipped_picture *grown =
        realloc(evaluation->skipped, (evaluation->skipped_count + 1) * sizeof *evaluation->skipped);
    if (!grown) return t2t_fail_memory("skipped pictures", sizeof *grown);
    evaluation->skipped = grown;
    const struct skipped_picture entry = {strdup(name_of(evaluation, failed->sample)), strdup(failed->reason)};
    grown[evaluation->skipped_count++] = entry;
    if (!entry.name || !entry.reason) return t2t_fail_memory("skipped pictures", sizeof entry);
    t2t_warn("skipped: %s", failed->reason);
    if (evaluation->skipped_count <= evaluation->options.most_skipped) return T2T_OK;
    return t2t_fail(T2T_BAD_DATA, "%zu pictures cannot be used, more than --max-skipped %zu; the last: %s",
        evaluation->skipped_count, evaluation->options.most_skipped, failed->reason);
}

static enum t2t_status note_pictures(struct evaluation *evaluation, const struct t2t_batch *batch)
{
    for (size_t i = 0; i < batch->failed_count; i++) {
        const enum t2t_status status = skip(evaluation, &batch->failed[i]);
        if (status) return status;
    }
    for (size_t i = 0; i < batch->count; i++) {
        if (!batch->report[i].warned) continue;
        evaluation->warned++;
        t2t_warn("%s: %s", name_of(evaluation, batch->sample[i]), batch->report[i].warning);
    }
    return T2T_OK;
}

/* ---- the loop ---- */

static void show_progress(const struct evaluation *evaluation)
{
    const struct run_result *reference = &evaluation->result[evaluation->runs->reference];
    char state[128] = "";
    if (evaluation->labelled && evaluation->images) {
        const struct interval interval = t2t_wilson(reference->correct1, evaluation->images);
        snprintf(state, sizeof state, "%s top-1 %.1f [%.1f, %.1f]",
            evaluation->runs->run[evaluation->runs->reference].name,
            100 * (double)reference->correct1 / (double)evaluation->images, 100 * interval.low, 100 * interval.high);
    }
    t2t_progress_update(evaluation->images + evaluation->skipped_count, state);
}

/* Every attention answers the first batch a few times before anything is counted. */
static enum t2t_status warm_up(struct loop *loop, const struct t2t_batch *batch)
{
    enum t2t_status status = T2T_OK;
    for (size_t round = 0; round < loop->evaluation->options.warmup; round++)
        for (size_t run = 0; run < loop->evaluation->runs->count && !status && !t2t_interrupted(); run++)
            status = forward(loop, run, batch, batch);
    return status;
}

static enum t2t_status run_batches(struct loop *loop)
{
    struct evaluation *evaluation = loop->evaluation;
    enum t2t_status status = T2T_OK;
    bool warm = false;
    while (!status && !t2t_interrupted()) {
        const struct t2t_batch *batch;
        t2t_interrupt_allow(report_interrupted, loop);
        status = t2t_source_next(evaluation->source, &batch);
        t2t_interrupt_hold();
        if (status || !batch || t2t_interrupted()) break;
        status = note_pictures(evaluation, batch);
        if (status || !batch->count) continue;
        if (!warm) {
            status = warm_up(loop, batch);
            evaluation->begin = t2t_now();
        } else {
            evaluation->wait_seconds += batch->wait_seconds;
        }
        warm = true;
        if (!status && !t2t_interrupted()) status = answer_batch(loop, batch);
        evaluation->wall_seconds = t2t_now() - evaluation->begin;
        show_progress(evaluation);
    }
    evaluation->signal = t2t_interrupted();
    return status;
}

static enum t2t_status open_loop(struct loop *loop)
{
    struct evaluation *evaluation = loop->evaluation;
    const struct t2t_session_options options = {.batch = evaluation->options.batch,
        .ops = evaluation->options.device.ops,
        .device = evaluation->options.device.options,
        .plans = evaluation->runs->plan,
        .plan_count = evaluation->runs->count};
    enum t2t_status status = t2t_session_open(&loop->session, evaluation->model, &options);
    if (status) return status;
    snprintf(evaluation->device, sizeof evaluation->device, "%s", t2t_session_describe(loop->session));
    const size_t logits = evaluation->runs->count * options.batch * loop->classes;
    loop->logits = malloc(logits * sizeof *loop->logits);
    if (!loop->logits) return t2t_fail_memory("logits", logits * sizeof *loop->logits);
    return allocate_results(evaluation, loop->classes, loop->layers);
}

enum t2t_status t2t_evaluate(struct evaluation *evaluation, evaluation_report *report_partial)
{
    const struct t2t_config *config = t2t_model_config(evaluation->model);
    struct loop loop = {.evaluation = evaluation,
        .classes = config->num_classes,
        .layers = config->depth + T2T_TOKEN_LAYERS,
        .report_partial = report_partial};
    enum t2t_status status = open_loop(&loop);
    t2t_interrupt_hold();
    if (!status) {
        t2t_detail("%s", evaluation->device);
        t2t_progress_begin("pictures", evaluation->pictures->count);
        status = run_batches(&loop);
        t2t_progress_end();
        if (!status && evaluation->signal) say_interrupted(evaluation);
    }
    if (!status && !evaluation->images && !evaluation->signal)
        status = t2t_fail(T2T_BAD_DATA, "none of the %zu pictures could be used", evaluation->pictures->count);
    t2t_session_close(loop.session);
    free(loop.logits);
    return status;
}
