/* t2tvit-classify: what is on these pictures, answered as soon as each is ready. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/answers.h"
#include "eval/classify_settings.h"
#include "eval/interrupt.h"
#include "eval/logits_file.h"
#include "eval/output.h"
#include "eval/picture_list.h"
#include "eval/picture_source.h"
#include "eval/progress.h"
#include "eval/sha256.h"
#include "eval/text_formats.h"

/* What answering needs. */
struct classification {
    const struct t2t_model *model;
    struct attention_runs runs;
    struct class_names classes;
    struct t2t_preprocess preprocess;
    struct picture_list list;
    struct t2t_tensors *tensors; /* of --raw-input */
    struct t2t_dataset raw;
    const struct t2t_dataset *pictures; /* one of the two */
    struct picture_source source;
    struct chosen_device device;
    struct t2t_session *session;
    FILE *out;
    float *logits;      /* [runs, batch, classes] */
    float **kept;       /* [runs] [pictures, classes], with --save-logits */
    const char **names; /* [answered] */
    size_t batch, answered, failed;
};

/* ---- answers ---- */

/* Standard output is all that a reader sees until now: it gets every batch at once. */
static enum t2t_status flush(FILE *out)
{
    if (out == stdout) return t2t_output_flush();
    return fflush(out) == 0 ? T2T_OK
                            : t2t_fail(T2T_CANNOT_WRITE, "%s: cannot be written: %s", settings.output, strerror(errno));
}

static void report_failed(struct classification *c, const struct t2t_failed_picture *failed)
{
    const struct t2t_sample *sample = &c->pictures->samples[failed->sample];
    const size_t length = strlen(sample->path);
    /* a copy of standard input has a path that says nothing */
    if (strcmp(sample->name, "-") == 0 && strncmp(failed->reason, sample->path, length) == 0)
        t2t_error("standard input%s", failed->reason + length);
    else
        t2t_error("%s", failed->reason);
    c->failed++;
}

static enum t2t_status print_answers(struct classification *c, const struct t2t_batch *batch)
{
    const size_t classes = c->classes.count;
    const struct answer_style style = {.format = (enum answer_format)settings.format,
        .value = (enum answer_value)settings.value,
        .names = (enum class_name_style)settings.names,
        .top = settings.top < classes ? settings.top : classes,
        .classes = &c->classes,
        .runs = &c->runs};
    for (size_t i = 0; i < batch->count; i++) {
        const char *name = c->pictures->samples[batch->sample[i]].name;
        if (batch->report[i].warned) t2t_warn("%s: %s", name, batch->report[i].warning);
        if (!t2t_answers_print(c->out, &style, name, c->logits + i * classes, c->batch * classes))
            return t2t_fail_memory("answers", classes * sizeof(double));
        for (size_t run = 0; c->kept && run < c->runs.count; run++)
            memcpy(c->kept[run] + c->answered * classes, c->logits + (run * c->batch + i) * classes,
                classes * sizeof *c->logits);
        if (c->kept) c->names[c->answered] = name;
        c->answered++;
    }
    return flush(c->out);
}

/* Every finished picture has been printed already. */
static void report_interrupt(void *context)
{
    const struct classification *c = context;
    t2t_error("interrupted: %zu of %zu pictures answered%s%s%s", c->answered, c->pictures->count,
        settings.output ? "; " : "", settings.output ? settings.output : "",
        settings.output ? " is written only when all are" : "");
}

static enum t2t_status answer_batch(struct classification *c, const struct t2t_batch *batch)
{
    enum t2t_status status = T2T_OK;
    for (size_t run = 0; run < c->runs.count && !status; run++) {
        const struct t2t_batch *next = run + 1 < c->runs.count ? batch : t2t_source_peek(&c->source);
        t2t_session_use(c->session, run);
        if (next) t2t_session_ahead(c->session, next->pixels, next->count);
        t2t_interrupt_allow(report_interrupt, c);
        status = t2t_forward(
            c->session, batch->pixels, batch->image_index, batch->count, c->logits + run * c->batch * c->classes.count);
        t2t_interrupt_hold();
        if (status)
            return t2t_fail(status, "attention %s, %s and what follows: %s", c->runs.run[run].name,
                c->pictures->samples[batch->sample[0]].name, t2t_last_error());
    }
    return t2t_interrupted() ? T2T_OK : print_answers(c, batch);
}

static enum t2t_status print_digests(struct classification *c, const struct t2t_batch *batch)
{
    const size_t bytes = 3 * c->preprocess.image_size * c->preprocess.image_size;
    for (size_t i = 0; i < batch->count; i++) {
        char digest[T2T_SHA256_TEXT];
        const char *name = c->pictures->samples[batch->sample[i]].name;
        const enum t2t_status status = t2t_sha256_bytes(batch->crops + i * bytes, bytes, digest);
        if (status) return status;
        t2t_digest_line(c->out, digest, name);
        c->answered++;
    }
    return flush(c->out);
}

static enum t2t_status run_batches(struct classification *c)
{
    enum t2t_status status = T2T_OK;
    while (!status && !t2t_interrupted()) {
        const struct t2t_batch *batch;
        t2t_interrupt_allow(report_interrupt, c);
        status = t2t_source_next(&c->source, &batch);
        t2t_interrupt_hold();
        if (status || !batch || t2t_interrupted()) break;
        for (size_t i = 0; i < batch->failed_count; i++) report_failed(c, &batch->failed[i]);
        if (batch->count) status = settings.digest ? print_digests(c, batch) : answer_batch(c, batch);
    }
    if (!status && t2t_interrupted()) report_interrupt(c);
    return status;
}

/* ---- opening ---- */

static enum t2t_status list_pictures(struct classification *c, size_t operands, char **operand)
{
    enum t2t_status status = T2T_OK;
    t2t_list_init(&c->list);
    c->pictures = &c->list.pictures;
    if (settings.raw_input) return T2T_OK;
    for (size_t i = 0; i < operands && !status; i++)
        status = t2t_list_operand(&c->list, operand[i], settings.recursive);
    for (size_t i = 0; i < settings.files_from.count && !status; i++)
        status = t2t_list_from_file(&c->list, settings.files_from.text[i], settings.nul, settings.recursive);
    if (!status && !c->list.pictures.count)
        status = t2t_fail(T2T_BAD_USAGE, "no pictures: name files or folders, or - for standard input");
    return status;
}

static enum t2t_status open_source(struct classification *c)
{
    const size_t threads = t2t_choose_threads(&settings.model);
    c->batch = settings.batch ? settings.batch : threads;
    if (settings.raw_input) {
        const enum t2t_status status =
            t2t_raw_input_open(&c->tensors, &c->raw, settings.raw_input, c->preprocess.image_size, c->classes.count, 0);
        if (status) return status;
        c->pictures = &c->raw;
    }
    if (c->batch > c->pictures->count) c->batch = c->pictures->count;
    if (c->tensors) return t2t_source_open_raw(&c->source, c->tensors, c->pictures, c->preprocess.image_size, c->batch);
    const struct t2t_loader_options options = {.preprocess = c->preprocess,
        .batch = c->batch,
        .workers = threads,
        .ahead = settings.digest ? 1 : t2t_batches_ahead(&c->device)};
    return t2t_source_open_files(&c->source, c->pictures, &options);
}

static enum t2t_status open_kept(struct classification *c)
{
    if (!settings.save_logits) return T2T_OK;
    const size_t bytes = c->pictures->count * c->classes.count * sizeof(float);
    c->kept = calloc(c->runs.count, sizeof *c->kept);
    c->names = calloc(c->pictures->count, sizeof *c->names);
    if (!c->kept || !c->names) return t2t_fail_memory("all logits", bytes);
    for (size_t run = 0; run < c->runs.count; run++) {
        c->kept[run] = malloc(bytes);
        if (!c->kept[run]) return t2t_fail_memory("all logits", bytes);
    }
    return T2T_OK;
}

static enum t2t_status open_network(struct classification *c)
{
    const struct t2t_session_options options = {.batch = c->batch,
        .ops = c->device.ops,
        .device = c->device.options,
        .plans = c->runs.plan,
        .plan_count = c->runs.count};
    const enum t2t_status status = t2t_session_open(&c->session, c->model, &options);
    if (status) return status;
    t2t_detail("%s", t2t_session_describe(c->session));
    c->logits = malloc(c->runs.count * c->batch * c->classes.count * sizeof *c->logits);
    return c->logits ? T2T_OK : t2t_fail_memory("logits", c->runs.count * c->batch * c->classes.count * 4);
}

/* ---- results ---- */

static enum t2t_status save_logits(const struct classification *c)
{
    struct logits_of_run *runs = calloc(c->runs.count, sizeof *runs);
    if (!runs) return t2t_fail_memory("names of attentions", c->runs.count);
    for (size_t i = 0; i < c->runs.count; i++) runs[i] = (struct logits_of_run){c->runs.run[i].name, c->kept[i]};
    const enum t2t_status status = t2t_logits_write(
        settings.save_logits, runs, c->runs.count, c->answered, c->classes.count, c->names, t2t_interrupted() != 0);
    free(runs);
    return status;
}

/* Answers go to memory first where a file is to hold them, so that it appears whole. */
static enum t2t_status classify(struct classification *c)
{
    char *text = NULL;
    size_t bytes = 0;
    const struct answer_style style = {
        .format = (enum answer_format)settings.format, .value = (enum answer_value)settings.value};
    c->out = settings.output ? open_memstream(&text, &bytes) : stdout;
    if (!c->out) return t2t_fail_memory("answers", 1 << 16);
    t2t_interrupt_hold();
    if (!settings.digest) t2t_answers_begin(c->out, &style);
    enum t2t_status status = run_batches(c);
    if (settings.output) {
        if (fclose(c->out) != 0 && !status) status = t2t_fail_memory("answers", bytes);
        if (!status && !t2t_interrupted()) status = t2t_output_write(settings.output, text, bytes);
        free(text);
    }
    if (!status && settings.save_logits && c->answered) status = save_logits(c);
    return status;
}

static void close_all(struct classification *c)
{
    t2t_source_close(&c->source);
    t2t_session_close(c->session);
    for (size_t run = 0; c->kept && run < c->runs.count; run++) free(c->kept[run]);
    free(c->kept);
    free(c->names);
    free(c->logits);
    if (c->tensors) t2t_raw_input_close(c->tensors, &c->raw);
    t2t_list_close(&c->list);
    t2t_class_names_close(&c->classes);
    t2t_attention_runs_free(&c->runs);
}

static enum t2t_status run(size_t operands, char **operand, size_t *failed)
{
    struct classification c = {.batch = 0};
    struct t2t_model *model = NULL;
    char *weights = NULL;
    const bool with_model = !settings.digest || settings.model.weights;
    enum t2t_status status = t2t_classify_check(operands);
    if (!status) status = t2t_interrupt_arm();
    if (!status) status = list_pictures(&c, operands, operand);
    if (!status && with_model) status = t2t_open_model(&settings.model, &model, &weights);
    if (!status) status = t2t_classify_check_inputs(c.pictures, weights);
    c.model = model;
    if (!status) status = t2t_choose_preprocess(&settings.model, model, &c.preprocess);
    if (!status && !settings.digest) status = t2t_attention_runs(&c.runs, &settings.attention, model);
    if (!status && !settings.digest) status = t2t_class_names_open(&c.classes, settings.labels, model);
    if (!status && !settings.digest) status = t2t_choose_device(&settings.model, &c.device);
    if (!status) status = open_source(&c);
    if (!status && !settings.digest) status = open_kept(&c);
    if (!status && !settings.digest) status = open_network(&c);
    if (!status) status = classify(&c);
    if (!status && c.failed && c.pictures->count > 1)
        t2t_error("%zu of %zu pictures could not be used", c.failed, c.pictures->count);
    *failed = c.failed;
    close_all(&c);
    t2t_model_free(model);
    free(weights);
    return status;
}

int main(int argc, char **argv)
{
    size_t operands, failed = 0;
    enum t2t_status status;
    if (t2t_tool_begin(&t2t_classify_tool, argc, argv, &operands, &status))
        status = run((size_t)argc - operands, argv + operands, &failed);
    const int code = t2t_tool_finish(&t2t_classify_tool, status);
    return code ? code : t2t_interrupted() ? 128 + t2t_interrupted() : failed ? T2T_BAD_DATA : 0;
}
