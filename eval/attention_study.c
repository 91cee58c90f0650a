/* Rounds of timed calls, and their errors; see attention_study.h. */
#include "eval/attention_study.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/interrupt.h"
#include "eval/matrix_norms.h"
#include "eval/progress.h"
#include "layers/base/arena.h"
#include "layers/base/clock.h"
#include "layers/layers.h"

/* ---- cases ---- */

static enum t2t_status add_case(struct study *study, const char *name, struct attention_config config, size_t features,
    const struct attention_settings *settings)
{
    const struct attention_shape *shape = &study->input->shape;
    struct study_case *grown = realloc(study->cases, (study->count + 1) * sizeof *grown);
    if (!grown) return t2t_fail_memory("cases", (study->count + 1) * sizeof *grown);
    study->cases = grown;
    t2t_apply_attention_settings(settings, study->input->layer, &config);
    const struct attention_method *method = attention_method(config.kind);
    const enum t2t_status status = method->check ? method->check(shape, &config) : T2T_OK;
    if (status) return status;
    grown[study->count++] = (struct study_case){
        .method = method, .features = features, .config = config, .macs = method->macs(shape, &config)};
    snprintf(grown[study->count - 1].name, sizeof grown->name, "%s", name);
    return T2T_OK;
}

enum t2t_status t2t_study_plan(struct study *study, const struct method_list *methods, const size_t *features,
    size_t feature_count, const struct attention_settings *settings)
{
    const size_t most = study->input->shape.keys;
    struct attention_config config = {.kind = ATTENTION_EXACT};
    enum t2t_status status = add_case(study, attention_method(ATTENTION_EXACT)->name, config, 0, settings);
    study->left_out = 0;
    for (size_t i = 0; i < feature_count; i++) study->left_out += features[i] > most;
    for (size_t m = 0; m < methods->count && !status; m++) {
        const enum attention_kind kind = methods->method[m]->kind;
        char name[32];
        t2t_method_label(methods, m, name, sizeof name);
        if (kind == ATTENTION_EXACT) continue;
        if (!t2t_feature_config(kind, methods->published[m], 0, &config))
            status = add_case(study, name, config, 0, settings);
        for (size_t i = 0; i < feature_count && !status; i++)
            if (features[i] <= most && t2t_feature_config(kind, methods->published[m], features[i], &config))
                status = add_case(study, name, config, features[i], settings);
    }
    return status;
}

void t2t_study_free(struct study *study)
{
    for (size_t i = 0; i < study->count; i++) {
        free(study->cases[i].spectral);
        free(study->cases[i].frobenius);
        free(study->cases[i].ms);
        free(study->cases[i].draw_ms);
    }
    free(study->cases);
    study->cases = NULL;
    study->count = 0;
}

/* ---- memory ---- */

/* What measuring needs and nobody keeps. */
struct bench {
    struct study *study;
    struct layer_device *device;
    struct t2t_arena arena;
    void *scratch;
    struct attention_draw_memory draws;
    float *exact;               /* [units, queries, heads * value_dim] */
    float *out;                 /* [queries, heads * value_dim] */
    struct matrix_norms *norms; /* [units, heads] of exact */
    study_report *report_partial;
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Runs twice: on an arena that measures, and on one with memory. */
static void take_memory(struct bench *bench)
{
    const struct attention_input *input = bench->study->input;
    const struct attention_shape *shape = &input->shape;
    const size_t out = shape->queries * shape->heads * shape->value_dim;
    struct attention_draw_counts most = {0};
    size_t scratch = 0;
    for (size_t i = 0; i < bench->study->count; i++) {
        const struct study_case *at = &bench->study->cases[i];
        scratch = larger(scratch, t2t_cpu_ops.attention_scratch(bench->device, shape, &at->config, 1));
        if (!at->method->draw_counts) continue;
        const struct attention_draw_counts counts = at->method->draw_counts(shape, &at->config);
        most.projection = larger(most.projection, counts.projection);
        most.sample_uniform = larger(most.sample_uniform, counts.sample_uniform);
        most.pilot_uniform = larger(most.pilot_uniform, counts.pilot_uniform);
        most.features = larger(most.features, counts.features);
        most.rotation = larger(most.rotation, counts.rotation);
    }
    struct attention_draw_memory *draws = &bench->draws;
    bench->scratch = t2t_arena_take(&bench->arena, scratch, 1);
    draws->projection = t2t_arena_take(&bench->arena, shape->heads * most.projection, sizeof *draws->projection);
    draws->sample_uniform =
        t2t_arena_take(&bench->arena, shape->heads * most.sample_uniform, sizeof *draws->sample_uniform);
    draws->pilot_uniform =
        t2t_arena_take(&bench->arena, shape->heads * most.pilot_uniform, sizeof *draws->pilot_uniform);
    draws->features = t2t_arena_take(&bench->arena, shape->heads * most.features, sizeof *draws->features);
    draws->rotation = t2t_arena_take(&bench->arena, shape->heads * most.rotation, sizeof *draws->rotation);
    bench->exact = t2t_arena_take(&bench->arena, input->units * out, sizeof *bench->exact);
    bench->out = t2t_arena_take(&bench->arena, out, sizeof *bench->out);
    bench->norms = t2t_arena_take(&bench->arena, input->units * shape->heads, sizeof *bench->norms);
}

static size_t rounds_of(const struct study *study)
{
    return larger(study->runs + 1, study->seeds);
}

static enum t2t_status allocate_results(struct study *study)
{
    const size_t rounds = rounds_of(study);
    for (size_t i = 0; i < study->count; i++) {
        struct study_case *at = &study->cases[i];
        at->spectral = malloc(study->seeds * sizeof *at->spectral);
        at->frobenius = malloc(study->seeds * sizeof *at->frobenius);
        at->ms = malloc(rounds * sizeof *at->ms);
        at->draw_ms = malloc(rounds * sizeof *at->draw_ms);
        if (!at->spectral || !at->frobenius || !at->ms || !at->draw_ms)
            return t2t_fail_memory("results", 2 * (study->seeds + rounds) * sizeof(double));
    }
    return T2T_OK;
}

static enum t2t_status open_bench(struct bench *bench)
{
    struct study *study = bench->study;
    enum t2t_status status =
        t2t_cpu_ops.open(&bench->device, &(struct layer_device_options){.threads = study->threads});
    if (status) return status;
    snprintf(study->device, sizeof study->device, "%s", t2t_cpu_ops.describe(bench->device));
    take_memory(bench);
    status = t2t_arena_reserve(&bench->arena);
    if (status) return status;
    take_memory(bench);
    return allocate_results(study);
}

/* ---- one call ---- */

static void report_interrupted(void *context)
{
    const struct bench *bench = context;
    t2t_progress_end();
    bench->report_partial(bench->study);
}

/* One unit's attention into `out`; adds the seconds of its draws and of everything. */
static void attend(struct bench *bench, struct study_case *at, uint64_t seed, size_t unit, float *out,
    double *draw_seconds, double *seconds)
{
    const struct attention_input *input = bench->study->input;
    const struct attention_shape *shape = &input->shape;
    const size_t width = shape->heads * shape->head_dim, value_width = shape->heads * shape->value_dim;
    t2t_interrupt_allow(report_interrupted, bench);
    const double begin = t2t_now();
    attention_draw(shape, &at->config, seed, input->layer, input->image_index + unit, 1, &bench->draws);
    const double drawn = t2t_now();
    const struct attention_call call = {
        .shape = *shape,
        .config = at->config,
        .draws = {.projection = bench->draws.projection,
            .sample_uniform = bench->draws.sample_uniform,
            .pilot_uniform = bench->draws.pilot_uniform,
            .features = bench->draws.features,
            .rotation = bench->draws.rotation},
        .batch = 1,
        .q = input->q + unit * shape->queries * width,
        .k = input->k + unit * shape->keys * width,
        .v = input->v + unit * shape->keys * value_width,
        .q_stride = width,
        .k_stride = width,
        .v_stride = value_width,
        .out = out,
        .out_stride = value_width,
        .scratch = bench->scratch,
        .taken = at->config.target_error > 0 ? &at->taken : NULL,
    };
    t2t_cpu_ops.attention(bench->device, &call);
    const double end = t2t_now();
    t2t_interrupt_hold();
    *draw_seconds += drawn - begin;
    *seconds += end - begin;
}

/* Norms of large heads take seconds: an interrupt need not wait for them. */
static enum t2t_status norms_of_head(
    struct bench *bench, const float *out, const float *exact, struct matrix_norms *norms)
{
    const struct attention_shape *shape = &bench->study->input->shape;
    t2t_interrupt_allow(report_interrupted, bench);
    const enum t2t_status status =
        t2t_norms_of_difference(out, exact, shape->queries, shape->value_dim, shape->heads * shape->value_dim, norms);
    t2t_interrupt_hold();
    return status;
}

/* Adds a unit's errors, a share of their mean over units and heads. */
static enum t2t_status add_error(
    struct bench *bench, const struct study_case *at, size_t unit, struct matrix_norms *error)
{
    const struct attention_shape *shape = &bench->study->input->shape;
    const size_t width = shape->heads * shape->value_dim;
    const float *exact = bench->exact + unit * shape->queries * width;
    const double share = 1 / (double)(bench->study->input->units * shape->heads);
    for (size_t head = 0; head < shape->heads; head++) {
        struct matrix_norms of;
        const size_t column = head * shape->value_dim;
        const enum t2t_status status = norms_of_head(bench, bench->out + column, exact + column, &of);
        if (status || t2t_interrupted()) return status;
        const struct matrix_norms *whole = &bench->norms[unit * shape->heads + head];
        error->spectral += share * of.spectral / whole->spectral;
        error->frobenius += share * of.frobenius / whole->frobenius;
    }
    if (isfinite(error->spectral) && isfinite(error->frobenius)) return T2T_OK;
    return t2t_fail(T2T_NOT_FINITE, "%s at size %zu gives NaN or infinity (unit %zu)", at->name, at->features, unit);
}

/* All units with one seed. */
static enum t2t_status run_case(struct bench *bench, struct study_case *at, size_t round)
{
    const struct study *study = bench->study;
    const bool measured = round < study->seeds && (round == 0 || at->method->random);
    struct matrix_norms error = {0};
    double draw_seconds = 0, seconds = 0;
    for (size_t unit = 0; unit < study->input->units; unit++) {
        attend(bench, at, study->seed[round % study->seeds], unit, bench->out, &draw_seconds, &seconds);
        if (t2t_interrupted()) return T2T_OK;
        const enum t2t_status status = measured ? add_error(bench, at, unit, &error) : T2T_OK;
        if (status || t2t_interrupted()) return status; /* a round is counted whole or not at all */
    }
    const double units = (double)study->input->units;
    at->macs = attention_macs(&study->input->shape, &at->config, &at->taken);
    if (measured) {
        at->spectral[at->errors] = error.spectral;
        at->frobenius[at->errors++] = error.frobenius;
    }
    if (round == 0) return T2T_OK;
    at->draw_ms[at->times] = 1e3 * draw_seconds / units;
    at->ms[at->times++] = 1e3 * seconds / units;
    return T2T_OK;
}

/* ---- all rounds ---- */

/* The exact output and its norms, which every error is relative to. */
static enum t2t_status prepare(struct bench *bench)
{
    const struct attention_shape *shape = &bench->study->input->shape;
    const size_t width = shape->heads * shape->value_dim;
    double unused = 0;
    for (size_t unit = 0; unit < bench->study->input->units && !t2t_interrupted(); unit++) {
        float *out = bench->exact + unit * shape->queries * width;
        attend(bench, &bench->study->cases[0], 0, unit, out, &unused, &unused);
        if (t2t_interrupted()) return T2T_OK;
        for (size_t head = 0; head < shape->heads; head++) {
            struct matrix_norms *norms = &bench->norms[unit * shape->heads + head];
            const enum t2t_status status = norms_of_head(bench, out + head * shape->value_dim, NULL, norms);
            if (status || t2t_interrupted()) return status;
            if (!(norms->spectral > 0 && isfinite(norms->frobenius)))
                return t2t_fail(T2T_NOT_FINITE,
                    "the exact output of unit %zu, head %zu is 0, NaN or infinite: errors cannot be relative to it",
                    unit, head);
        }
    }
    return T2T_OK;
}

enum t2t_status t2t_study_run(struct study *study, study_report *report_partial)
{
    struct bench bench = {.study = study, .report_partial = report_partial};
    const size_t rounds = rounds_of(study);
    enum t2t_status status = open_bench(&bench);
    if (!status) t2t_detail("%s", study->device);
    t2t_progress_begin("runs", rounds * study->count);
    if (!status) status = prepare(&bench);
    for (size_t round = 0; round < rounds && !status; round++)
        for (size_t turn = 0; turn < study->count && !status && !t2t_interrupted(); turn++) {
            struct study_case *at = &study->cases[(turn + round) % study->count];
            char state[64];
            status = run_case(&bench, at, round);
            snprintf(state, sizeof state, "%s %zu", at->name, at->features);
            t2t_progress_update(round * study->count + turn + 1, state);
        }
    t2t_progress_end();
    study->signal = t2t_interrupted();
    t2t_arena_free(&bench.arena);
    t2t_cpu_ops.close(bench.device);
    return status;
}
