/* t2tvit-eval: top-1 accuracy against speed, several attentions on the same pictures. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval_settings.h"
#include "eval/evaluation.h"
#include "eval/interrupt.h"
#include "eval/logits_file.h"
#include "eval/metrics.h"
#include "eval/output.h"
#include "eval/progress.h"
#include "eval/report.h"

static struct report report; /* of this run; also what an interrupt reports */

/* ---- what the pictures are ---- */

static const char *class_text(const struct t2t_model *model, size_t label, char text[64])
{
    const struct t2t_config *config = t2t_model_config(model);
    const char *const *names = t2t_model_class_names(model);
    if (names) return names[label];
    if (config->num_classes != 1000) return "";
    snprintf(text, 64, "%s %.40s", t2t_imagenet_wnid(label), t2t_imagenet_name(label));
    return text;
}

static void print_card(const struct t2t_dataset *pictures, const struct t2t_model *model)
{
    t2t_note("%zu of %zu pictures, layout %s, labels by %s, %zu of %zu classes with %zu to %zu pictures each",
        pictures->count, pictures->total, pictures->layout, pictures->label_kind, pictures->classes_present,
        t2t_model_config(model)->num_classes, pictures->smallest_class, pictures->largest_class);
    for (size_t i = 0; i < 3 && i < pictures->count; i++) {
        const struct t2t_sample *sample = &pictures->samples[i * (pictures->count - 1) / 2];
        char text[64];
        t2t_note("  %s -> %d %s", sample->name, sample->label, class_text(model, (size_t)sample->label, text));
        if (pictures->count < 3) break;
    }
    if (pictures->ignored)
        t2t_note("%zu other files ignored, the first: %s", pictures->ignored, pictures->first_ignored);
}

/* At chance level the labels are usually in another order than the model's outputs. */
static void warn_chance(const struct evaluation *evaluation)
{
    const double classes = (double)t2t_model_config(evaluation->model)->num_classes;
    const struct run_result *reference = &evaluation->result[evaluation->runs->reference];
    const struct interval interval = t2t_wilson(reference->correct1, evaluation->images);
    if (evaluation->labelled && evaluation->images >= 200 && classes >= 10 && interval.low < 1.5 / classes)
        t2t_warn("top-1 is near chance (1 in %.0f): are the labels in the order of the model's classes? "
                 "Lists of ILSVRC2012 ids need --label-kind ilsvrc-id",
            classes);
}

/* ---- results ---- */

static enum t2t_status save_logits(const struct evaluation *evaluation)
{
    const size_t count = evaluation->runs->count;
    struct logits_of_run *runs = calloc(count, sizeof *runs);
    const char **names = calloc(evaluation->images, sizeof *names);
    enum t2t_status status = T2T_OK;
    if (!runs || !names) status = t2t_fail_memory("names of pictures", evaluation->images * sizeof *names);
    for (size_t i = 0; i < count && !status; i++)
        runs[i] = (struct logits_of_run){evaluation->runs->run[i].name, evaluation->result[i].logits};
    for (size_t i = 0; i < evaluation->images && !status; i++)
        names[i] = evaluation->pictures->samples[evaluation->kept[i]].name;
    if (!status)
        status = t2t_logits_write(settings.save_logits, runs, count, evaluation->images,
            t2t_model_config(evaluation->model)->num_classes, names, evaluation->signal != 0);
    free(runs);
    free(names);
    return status;
}

/* Everything that was asked for, also where one part fails. */
static enum t2t_status write_results(const struct evaluation *evaluation)
{
    struct t2t_failures failures = {.status = T2T_OK};
    if (!evaluation->images) return T2T_OK;
    if (settings.save_logits) t2t_add_failure(&failures, save_logits(evaluation));
    t2t_add_failure(&failures, t2t_report_write(&settings.report, &report));
    return t2t_first_failure(&failures);
}

static void report_partial(const struct evaluation *evaluation)
{
    if (write_results(evaluation)) t2t_error("%s", t2t_last_error());
}

/* Whether the checks of --expect-top1 and --max-drop hold; says why not. */
static bool checks_hold(const struct evaluation *evaluation)
{
    const struct run_result *reference = &evaluation->result[evaluation->runs->reference];
    const double images = (double)evaluation->images, top1 = 100 * (double)reference->correct1 / images;
    bool hold = true;
    if (t2t_option_given(&settings.expect_top1) && !(fabs(top1 - settings.expect_top1) <= settings.tolerance)) {
        t2t_error("top-1 of %s is %.3f %%, expected %g +- %g (--expect-top1)",
            evaluation->runs->run[evaluation->runs->reference].name, top1, settings.expect_top1, settings.tolerance);
        hold = false;
    }
    for (size_t i = 0; i < evaluation->runs->count && t2t_option_given(&settings.most_drop); i++) {
        const struct run_result *result = &evaluation->result[i];
        const struct interval drop = t2t_paired_drop(result->lost, result->gained, evaluation->images);
        if (i == evaluation->runs->reference || 100 * drop.high <= settings.most_drop) continue;
        t2t_error("%s loses %.3f points, 95 %% interval %.3f to %.3f, more than --max-drop %g",
            evaluation->runs->run[i].name, 100 * ((double)result->lost - (double)result->gained) / images,
            100 * drop.low, 100 * drop.high, settings.most_drop);
        hold = false;
    }
    return hold;
}

/* ---- the run ---- */

static enum t2t_status open_source(struct picture_source *source, const struct t2t_dataset *pictures,
    struct t2t_tensors *tensors, const struct t2t_preprocess *preprocess, const struct evaluation *evaluation)
{
    const size_t threads = t2t_choose_threads(&settings.model);
    report.workers = settings.workers ? settings.workers : threads > 1 ? threads - 1 : 1;
    report.overlap =
        settings.pipeline == PIPELINE_OVERLAP || (settings.pipeline == PIPELINE_AUTO && evaluation->runs->count == 1);
    if (tensors)
        return t2t_source_open_raw(source, tensors, pictures, preprocess->image_size, evaluation->options.batch);
    const struct t2t_loader_options options = {.preprocess = *preprocess,
        .batch = evaluation->options.batch,
        .workers = report.workers,
        .ahead = report.overlap ? t2t_batches_ahead(&evaluation->options.device) : 0};
    return t2t_source_open_files(source, pictures, &options);
}

static enum t2t_status open_pictures(
    struct t2t_dataset *pictures, struct t2t_tensors **tensors, const struct t2t_model *model)
{
    const struct t2t_config *config = t2t_model_config(model);
    if (settings.raw_input)
        return t2t_raw_input_open(
            tensors, pictures, settings.raw_input, config->image_size, config->num_classes, settings.data.limit);
    settings.data.class_names = t2t_model_class_names(model);
    settings.data.num_classes = config->num_classes;
    const enum t2t_status status = t2t_dataset_open(pictures, &settings.data);
    if (!status) print_card(pictures, model);
    return status;
}

/* Runs on an open model; *failed: a check that was asked for does not hold, *signal: what interrupted. */
static enum t2t_status evaluate(
    const struct t2t_model *model, const char *weights, size_t batch, bool *failed, int *signal)
{
    struct attention_runs runs;
    struct t2t_preprocess preprocess;
    struct t2t_dataset pictures = {.count = 0};
    struct t2t_tensors *tensors = NULL;
    struct picture_source source = {.batch = 0};
    enum t2t_status status = t2t_attention_runs(&runs, &settings.attention, model);
    struct chosen_device device = {.ops = NULL};
    if (!status) status = t2t_choose_device(&settings.model, &device);
    if (!status) status = t2t_choose_preprocess(&settings.model, model, &preprocess);
    if (!status) status = open_pictures(&pictures, &tensors, model);
    struct evaluation evaluation = {.model = model,
        .runs = &runs,
        .pictures = &pictures,
        .source = &source,
        .options = {.batch = batch < pictures.count ? batch : pictures.count,
            .warmup = settings.warmup,
            .device = device,
            .skip_failed = settings.on_error == ON_ERROR_SKIP,
            .most_skipped = settings.most_skipped,
            .keep_logits = settings.save_logits != NULL},
        .labelled = pictures.count && pictures.samples[0].label >= 0};
    report = (struct report){.evaluation = &evaluation,
        .data = settings.raw_input ? settings.raw_input : settings.data.path,
        .weights = weights,
        .preprocess = &preprocess};
    if (!status) status = t2t_eval_check_run(weights, runs.count, evaluation.labelled);
    if (!status) status = open_source(&source, &pictures, tensors, &preprocess, &evaluation);
    if (!status) {
        t2t_tool_warn_load();
        status = t2t_evaluate(&evaluation, report_partial);
        if (!status) status = write_results(&evaluation);
        if (!status) warn_chance(&evaluation);
        *signal = evaluation.signal;
        if (!status && !*signal) *failed = !checks_hold(&evaluation);
        t2t_evaluation_free(&evaluation);
    }
    t2t_source_close(&source);
    if (settings.raw_input)
        t2t_raw_input_close(tensors, &pictures);
    else
        t2t_dataset_close(&pictures);
    t2t_attention_runs_free(&runs);
    return status;
}

static enum t2t_status run(size_t operands, char **operand, bool *failed, int *signal)
{
    size_t batch;
    struct t2t_model *model = NULL;
    char *weights = NULL;
    enum t2t_status status = t2t_eval_check(operands, operand, &batch);
    if (!status) status = t2t_interrupt_arm();
    if (!status) status = t2t_open_model(&settings.model, &model, &weights);
    if (!status) status = evaluate(model, weights, batch, failed, signal);
    t2t_model_free(model);
    free(weights);
    return status;
}

int main(int argc, char **argv)
{
    size_t operands;
    enum t2t_status status;
    bool failed = false;
    int signal = 0;
    if (t2t_tool_begin(&t2t_eval_tool, argc, argv, &operands, &status))
        status = run((size_t)argc - operands, argv + operands, &failed, &signal);
    const int code = t2t_tool_finish(&t2t_eval_tool, status);
    return code ? code : signal ? 128 + signal : failed ? T2T_CHECK_FAILED : 0;
}
