/* Rounds of forwards and what their clocks say; see profile.h. */
#include "eval/profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/interrupt.h"
#include "eval/picture_source.h"
#include "eval/progress.h"
#include "layers/base/clock.h"
#include "layers/base/random.h"

enum { MOST_ROUNDS = 100000, FIRST_ROUNDS = 64 };

/* What measuring needs and nobody keeps. */
struct bench {
    struct profile *profile;
    struct t2t_session *session;
    struct picture_source source;
    const struct t2t_batch *batch; /* of the source; NULL for random pixels */
    float *pixels;                 /* random ones [batch, 3, size, size] */
    uint64_t *image_index;         /* [batch] */
    float *logits;
    size_t room; /* rounds that rows can hold */
    profile_report *report_partial;
    void *context;
};

/* ---- rows ---- */

static enum t2t_status add_row(
    struct profile *profile, enum profile_part part, size_t run, size_t layer, const char *name)
{
    struct profile_row *grown = realloc(profile->rows, (profile->count + 1) * sizeof *grown);
    if (!grown) return t2t_fail_memory("rows of the profile", (profile->count + 1) * sizeof *grown);
    profile->rows = grown;
    struct profile_row *row = &grown[profile->count++];
    *row = (struct profile_row){.part = part, .run = run, .layer = layer, .share = NAN};
    snprintf(row->name, sizeof row->name, "%s", name);
    return T2T_OK;
}

static enum t2t_status add_layer_rows(struct profile *profile, size_t run, size_t layer)
{
    char name[T2T_NAME_BYTES];
    t2t_layer_name(layer, name);
    enum t2t_status status = add_row(profile, PART_LAYER, run, layer, name);
    if (!status) status = add_row(profile, PART_ATTENTION, run, layer, "attention");
    if (!attention_method(profile->runs->plan[run].layer[layer].kind)->steps) return status;
    if (!status) status = add_row(profile, PART_STEP, run, layer, "random numbers");
    if (profile->options.device.ops->tick) return status; /* its clocks are between operations, not inside */
    for (size_t step = 0; step < ATTENTION_STEPS && !status; step++)
        status = add_row(profile, PART_STEP, run, layer, attention_step_name((enum attention_step)step));
    return status;
}

static enum t2t_status add_rows(struct profile *profile)
{
    static const struct {
        enum profile_part part;
        const char *name;
    } whole[] = {{PART_SUM, "sum of layers"}, {PART_UNATTRIBUTED, "unattributed"}, {PART_FORWARD, "forward, profiled"},
        {PART_PLAIN, "forward"}, {PART_DECODE, "decode, resize"}, {PART_END_TO_END, "end to end"}};
    enum t2t_status status = T2T_OK;
    for (size_t run = 0; run < profile->runs->count; run++) {
        for (size_t layer = 0; layer < t2t_model_config(profile->model)->depth + T2T_TOKEN_LAYERS && !status; layer++)
            status = add_layer_rows(profile, run, layer);
        for (size_t i = 0; i < sizeof whole / sizeof *whole && !status; i++)
            if (profile->pictures || (whole[i].part != PART_DECODE && whole[i].part != PART_END_TO_END))
                status = add_row(profile, whole[i].part, run, 0, whole[i].name);
    }
    return status;
}

static enum t2t_status make_room(struct bench *bench)
{
    struct profile *profile = bench->profile;
    if (profile->rounds < bench->room) return T2T_OK;
    const size_t room = bench->room ? 2 * bench->room : FIRST_ROUNDS;
    for (size_t i = 0; i < profile->count; i++) {
        double *grown = realloc(profile->rows[i].ms.value, room * sizeof *grown);
        if (!grown) return t2t_fail_memory("times of rounds", room * sizeof *grown);
        profile->rows[i].ms.value = grown;
    }
    bench->room = room;
    return T2T_OK;
}

void t2t_profile_free(struct profile *profile)
{
    for (size_t i = 0; i < profile->count; i++) free(profile->rows[i].ms.value);
    free(profile->rows);
    profile->rows = NULL;
    profile->count = 0;
}

const struct profile_row *t2t_profile_find(
    const struct profile *profile, size_t run, enum profile_part part, size_t layer)
{
    for (size_t i = 0; i < profile->count; i++) {
        const struct profile_row *row = &profile->rows[i];
        if (row->run == run && row->part == part && (part > PART_ATTENTION || row->layer == layer)) return row;
    }
    return NULL;
}

/* The same part under another attention: steps have none. */
static const struct profile_row *counterpart(const struct profile *profile, const struct profile_row *row, size_t run)
{
    return row->part == PART_STEP ? NULL : t2t_profile_find(profile, run, row->part, row->layer);
}

static double sum_of(const struct samples *samples)
{
    double sum = 0;
    for (size_t i = 0; i < samples->count; i++) sum += samples->value[i];
    return sum;
}

void t2t_profile_summarise(struct profile *profile)
{
    for (size_t i = 0; i < profile->count; i++) {
        struct profile_row *row = &profile->rows[i];
        const struct profile_row *reference = counterpart(profile, row, profile->runs->reference);
        const struct profile_row *whole = t2t_profile_find(profile, row->run, PART_FORWARD, 0);
        row->share = row->part <= PART_FORWARD ? sum_of(&row->ms) / sum_of(&whole->ms) : NAN;
        row->speedup = reference && row->part != PART_DECODE
                           ? t2t_speedup(reference->ms.value, row->ms.value, row->ms.count)
                           : (struct quartiles){NAN, NAN, NAN};
    }
}

/* ---- pictures ---- */

static enum t2t_status open_pictures(struct bench *bench)
{
    const struct profile *profile = bench->profile;
    const size_t side = t2t_model_config(profile->model)->image_size, count = profile->batch * 3 * side * side;
    bench->image_index = calloc(profile->batch, sizeof *bench->image_index);
    bench->logits = malloc(profile->batch * t2t_model_config(profile->model)->num_classes * sizeof *bench->logits);
    if (!bench->image_index || !bench->logits) return t2t_fail_memory("logits", profile->batch);
    for (size_t i = 0; i < profile->batch; i++) bench->image_index[i] = i;
    if (profile->pictures) return T2T_OK;
    bench->pixels = malloc(count * sizeof *bench->pixels);
    if (!bench->pixels) return t2t_fail_memory("random pixels", count * sizeof *bench->pixels);
    t2t_random_normal((struct t2t_random_key){.seed = 1, .purpose = T2T_RANDOM_TEST}, count, bench->pixels);
    return T2T_OK;
}

/* Reads the batch's files anew and times it. */
static enum t2t_status decode(struct bench *bench, double *seconds)
{
    const struct profile *profile = bench->profile;
    *seconds = 0;
    if (!profile->pictures) return T2T_OK;
    const struct t2t_loader_options options = {
        .preprocess = *profile->preprocess, .batch = profile->batch, .workers = profile->options.threads};
    t2t_source_close(&bench->source);
    const double begin = t2t_now();
    enum t2t_status status = t2t_source_open_files(&bench->source, profile->pictures, &options);
    if (!status) status = t2t_source_next(&bench->source, &bench->batch);
    *seconds = t2t_now() - begin;
    if (!status && bench->batch->failed_count)
        status = t2t_fail(bench->batch->failed[0].status, "%s", bench->batch->failed[0].reason);
    return status;
}

/* ---- one round ---- */

static void report_interrupted(void *context)
{
    const struct bench *bench = context;
    t2t_progress_end();
    bench->report_partial(bench->context);
}

static enum t2t_status forward(struct bench *bench, size_t run, bool clocks, double *seconds)
{
    const struct profile *profile = bench->profile;
    const float *pixels = bench->batch ? bench->batch->pixels : bench->pixels;
    t2t_session_use(bench->session, run);
    t2t_session_clock_steps(bench->session, clocks);
    t2t_interrupt_allow(report_interrupted, bench);
    const double begin = t2t_now();
    const enum t2t_status status =
        t2t_forward(bench->session, pixels, bench->image_index, profile->batch, bench->logits);
    *seconds = t2t_now() - begin;
    t2t_interrupt_hold();
    if (!status) return T2T_OK;
    return t2t_fail(status, "attention %s: %s", profile->runs->run[run].name, t2t_last_error());
}

/* A step's part of the attention's wall clock: what is left after the random numbers, in proportion to the seconds that
 * all threads spent in each step. */
static double step_seconds(const struct t2t_layer_cost *cost, const char *name)
{
    double all = 0;
    for (size_t step = 0; step < ATTENTION_STEPS; step++) all += cost->step_seconds[step];
    for (size_t step = 0; step < ATTENTION_STEPS; step++)
        if (strcmp(name, attention_step_name((enum attention_step)step)) == 0)
            return all > 0 ? (cost->attention_seconds - cost->draw_seconds) * cost->step_seconds[step] / all : 0;
    return cost->draw_seconds;
}

/* Seconds of a part in the forwards of a round. */
static double seconds_of(const struct profile_row *row, const struct t2t_costs *costs, double plain, double decoding)
{
    double layers = 0;
    for (size_t layer = 0; layer < costs->layers; layer++) layers += costs->layer[layer].seconds;
    switch (row->part) {
    case PART_LAYER: return costs->layer[row->layer].seconds;
    case PART_ATTENTION: return costs->layer[row->layer].attention_seconds;
    case PART_STEP: return step_seconds(&costs->layer[row->layer], row->name);
    case PART_SUM: return layers;
    case PART_UNATTRIBUTED: return costs->seconds - layers;
    case PART_FORWARD: return costs->seconds;
    case PART_PLAIN: return plain;
    case PART_DECODE: return decoding;
    case PART_END_TO_END: return decoding + plain;
    }
    return NAN;
}

static void store(struct bench *bench, size_t run, double plain, double decoding)
{
    struct profile *profile = bench->profile;
    const struct t2t_costs *costs = t2t_session_costs(bench->session);
    for (size_t i = 0; i < profile->count; i++) {
        struct profile_row *row = &profile->rows[i];
        if (row->run != run) continue;
        row->ms.value[profile->rounds] = 1e3 * seconds_of(row, costs, plain, decoding) / (double)profile->batch;
        if (row->part == PART_LAYER) {
            row->tokens = costs->layer[row->layer].tokens;
            row->macs = costs->layer[row->layer].macs;
        } else if (row->part == PART_ATTENTION) {
            row->macs = costs->layer[row->layer].attention_macs;
            attention_taken_add(&row->taken, &costs->layer[row->layer].taken);
        } else if (row->part == PART_FORWARD || row->part == PART_PLAIN) {
            row->macs = costs->macs;
        }
    }
}

/* Both forwards of every attention, in another order each time. An interrupted round is dropped whole. */
static enum t2t_status run_round(struct bench *bench)
{
    struct profile *profile = bench->profile;
    double decoding;
    enum t2t_status status = make_room(bench);
    if (!status) status = decode(bench, &decoding);
    for (size_t turn = 0; turn < profile->runs->count && !status; turn++) {
        const size_t run = (turn + profile->rounds) % profile->runs->count;
        double plain, unused;
        status = forward(bench, run, false, &plain);
        if (!status) status = forward(bench, run, true, &unused);
        if (t2t_interrupted()) return T2T_OK;
        if (!status) store(bench, run, plain, decoding);
    }
    if (status) return status;
    profile->rounds++;
    for (size_t i = 0; i < profile->count; i++) profile->rows[i].ms.count = profile->rounds;
    return T2T_OK;
}

/* ---- the whole ---- */

static enum t2t_status warm_up(struct bench *bench)
{
    const struct profile *profile = bench->profile;
    double seconds, decoding;
    enum t2t_status status = decode(bench, &decoding);
    for (size_t run = 0; run < profile->runs->count; run++)
        for (double spent = 0; !status && !t2t_interrupted();) {
            status = forward(bench, run, true, &seconds);
            spent += seconds;
            if (spent >= profile->options.warmup_seconds) break;
        }
    return status;
}

/* Rounds, or the share of the time as if it were rounds, whichever is behind. */
static void show_progress(const struct profile *profile, double elapsed)
{
    const struct profile_options *options = &profile->options;
    const double rounds = (double)profile->rounds, least = (double)options->min_rounds;
    const double by_time = options->min_seconds > 0 ? least * elapsed / options->min_seconds : least;
    t2t_progress_update((size_t)fmin(fmin(rounds, by_time), least), "");
}

static enum t2t_status run_rounds(struct bench *bench)
{
    struct profile *profile = bench->profile;
    enum t2t_status status = warm_up(bench);
    const double begin = t2t_now();
    while (!status && !t2t_interrupted() && profile->rounds < MOST_ROUNDS &&
           (profile->rounds < profile->options.min_rounds || t2t_now() - begin < profile->options.min_seconds)) {
        status = run_round(bench);
        show_progress(profile, t2t_now() - begin);
    }
    profile->signal = t2t_interrupted();
    if (profile->rounds) t2t_profile_summarise(profile);
    return status;
}

enum t2t_status t2t_profile_run(struct profile *profile, profile_report *report_partial, void *context)
{
    struct bench bench = {.profile = profile, .report_partial = report_partial, .context = context};
    const struct t2t_session_options options = {.batch = profile->batch,
        .ops = profile->options.device.ops,
        .device = profile->options.device.options,
        .plans = profile->runs->plan,
        .plan_count = profile->runs->count};
    enum t2t_status status = t2t_session_open(&bench.session, profile->model, &options);
    if (!status) snprintf(profile->device, sizeof profile->device, "%s", t2t_session_describe(bench.session));
    if (!status) status = add_rows(profile);
    if (!status) status = open_pictures(&bench);
    t2t_progress_begin("rounds", profile->options.min_rounds);
    if (!status) status = run_rounds(&bench);
    t2t_progress_end();
    t2t_source_close(&bench.source);
    t2t_session_close(bench.session);
    free(bench.pixels);
    free(bench.image_index);
    free(bench.logits);
    return status;
}
