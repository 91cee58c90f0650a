/* t2tvit-eval: top-1 accuracy against speed, several attentions on the same pictures. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/evaluation.h"
#include "eval/interrupt.h"
#include "eval/logits_file.h"
#include "eval/metrics.h"
#include "eval/model_options.h"
#include "eval/output.h"
#include "eval/progress.h"
#include "eval/report.h"
#include "eval/tool.h"
#include "layers/base/cpu_features.h"

enum { DEFAULT_BATCH = 8, PIPELINE_AUTO = 0, PIPELINE_OVERLAP = 1, ON_ERROR_SKIP = 1, NO_LIMIT = 0 };

static struct {
    struct common_options common;
    struct model_options model;
    struct attention_options attention;
    struct t2t_dataset_options data;
    const char *raw_input, *batch;
    int on_error, pipeline, format;
    size_t most_skipped, workers, warmup;
    struct option_texts outputs;
    const char *save_logits;
    double expect_top1, tolerance, most_drop;
} settings = {
    .model = MODEL_OPTIONS_DEFAULT,
    .attention = ATTENTION_OPTIONS_DEFAULT,
    .data = {.layout = "auto", .label_kind = "auto"},
    .most_skipped = SIZE_MAX,
    .warmup = 2,
    .tolerance = 0.1,
};

static const struct option_row rows[] = {
    {.type = OPTION_SECTION, .help = "Pictures:"},
    {OPTION_TEXT, 0, "val-dir", "DIR", "folder of labelled pictures; may also be given without --val-dir",
        &settings.data.path, 0, 0},
    {OPTION_TEXT, 0, "layout", "NAME",
        "auto, wnid (n01440764/*.JPEG), classes (folders named after the\nweights' classes), flat (one folder with "
        "--labels)",
        &settings.data.layout, 0, 0},
    {OPTION_TEXT, 0, "labels", "FILE", "for a flat folder: NAME LABEL a line, or a label a line", &settings.data.labels,
        0, 0},
    {OPTION_TEXT, 0, "label-kind", "KIND", "auto, index (from 0), ilsvrc-id (1 to 1000), wnid, name",
        &settings.data.label_kind, 0, 0},
    {OPTION_TEXT, 0, "raw-input", "FILE",
        "instead of pictures: tensor `input` [N,3,S,S] of a safetensors file,\nalready normalised, and `label` [N] "
        "where there is one",
        &settings.raw_input, 0, 0},
    {OPTION_NUMBER, 'n', "limit", "N", "only N pictures, spread evenly over the sorted list", &settings.data.limit, 1,
        1e12},
    {OPTION_CHOICE, 0, "on-error", "fail|skip", "what a picture that cannot be used does (fail)", &settings.on_error, 0,
        0},
    {OPTION_NUMBER, 0, "max-skipped", "N", "with --on-error skip: more end the run (no limit)", &settings.most_skipped,
        0, 1e12},
    MODEL_OPTION_ROWS(&settings.model),
    ATTENTION_OPTION_ROWS(&settings.attention),
    {.type = OPTION_SECTION, .help = "Running:"},
    {OPTION_TEXT, 'b', "batch-size", "N|auto", "pictures in a forward (auto: 8); results do not depend on it",
        &settings.batch, 0, 0},
    {OPTION_NUMBER, 0, "workers", "N", "threads that decode pictures (threads - 1, at least 1)", &settings.workers, 1,
        1024},
    {OPTION_CHOICE, 0, "pipeline", "auto|overlap|serial",
        "decode the next batch while the network runs, or while it waits\n(auto: overlap for one attention; serial for "
        "several, so that none\nis timed beside a decoder)",
        &settings.pipeline, 0, 0},
    {OPTION_NUMBER, 0, "warmup", "N", "uncounted forwards of each attention before the first (2)", &settings.warmup, 0,
        1000},
    {.type = OPTION_SECTION, .help = "Results:"},
    {OPTION_CHOICE, 0, "format", "table|md|csv|json", "on standard output (table); times of every batch: json only",
        &settings.format, 0, 0},
    {OPTION_TEXTS, 'o', "output", "FILE", "also write .json .csv .md .txt; may be given again; - for stdout",
        &settings.outputs, 0, 0},
    {OPTION_TEXT, 0, "save-logits", "FILE", "safetensors: logits [pictures, classes], names in the metadata",
        &settings.save_logits, 0, 0},
    {OPTION_REAL, 0, "expect-top1", "F", "exit status 1 unless the reference's top-1 is F percent ...",
        &settings.expect_top1, 0, 100},
    {OPTION_REAL, 0, "tolerance", "F", "... give or take F points (0.1)", &settings.tolerance, 0, 100},
    {OPTION_REAL, 0, "max-drop", "F",
        "exit status 1 unless every attention loses at most F points: the\nupper end of the paired 95 % interval "
        "counts",
        &settings.most_drop, -100, 100},
    COMMON_OPTION_ROWS(&settings.common),
};

static const struct tool tool = {
    .name = "t2tvit-eval",
    .usage =
        "usage: t2tvit-eval [options] --val-dir DIR\n"
        "\n"
        "Top-1 accuracy and speed of a T2T-ViT, with the attention of some layers replaced. Every attention sees\n"
        "the same decoded pictures; a picture's random choices depend on the seed and its place in the data set.\n",
    .ending = "\n"
              "Examples:\n"
              "  t2tvit-eval --val-dir imagenet/val --attention exact,kdeformer\n"
              "  t2tvit-eval --val-dir imagenet/val --labels val.txt --limit 1000 -o report.json\n"
              "  t2tvit-eval --val-dir pictures --attention exact,kdeformer --layers all --seeds 3\n"
              "\n"
              "Exit status: 0 done, 1 a check failed (--expect-top1, --max-drop), 2 usage, 3 pictures or labels,\n"
              "4 weights or model, 5 out of memory or no such processor, 6 cannot write, 7 NaN or infinity in the\n"
              "network, 130 interrupted (143 terminated): what there was is reported and marked as partial.\n",
    .rows = rows,
    .row_count = sizeof rows / sizeof *rows,
    .common = &settings.common,
};

static struct report report; /* of this run; also what an interrupt reports */

/* ---- checks before anything long begins ---- */

static enum t2t_status check_options(size_t operands, char **operand, size_t *batch)
{
    if (operands > 1 || (operands && settings.data.path))
        return t2t_fail(T2T_BAD_USAGE, "\"%s\": only one folder of pictures at a time", operand[operands - 1]);
    if (operands) settings.data.path = operand[0];
    if (!settings.data.path == !settings.raw_input)
        return t2t_fail(T2T_BAD_USAGE, "%s",
            settings.raw_input ? "--val-dir and --raw-input: only one is meant"
                               : "no pictures: --val-dir DIR is missing");
    *batch = DEFAULT_BATCH;
    if (settings.batch && strcmp(settings.batch, "auto") != 0 && !t2t_parse_number(settings.batch, 1, 4096, batch))
        return t2t_fail(
            T2T_BAD_USAGE, "--batch-size \"%s\": expected auto or a whole number from 1 to 4096", settings.batch);
    if (t2t_option_given(&settings.most_skipped) && settings.on_error != ON_ERROR_SKIP)
        return t2t_fail(T2T_BAD_USAGE, "--max-skipped needs --on-error skip");
    enum report_format format;
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < settings.outputs.count && !status; i++) {
        const char *path = settings.outputs.text[i];
        if (strcmp(path, "-") == 0) continue;
        status = t2t_report_format_of(path, &format);
        if (!status) status = t2t_output_check(path);
    }
    if (!status && settings.save_logits) status = t2t_output_check(settings.save_logits);
    return status;
}

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

static enum t2t_status write_report(const char *path, enum report_format format)
{
    char *text;
    size_t bytes;
    enum t2t_status status = t2t_report_text(&report, format, &text, &bytes);
    if (!status) status = t2t_output_write(path, text, bytes);
    free(text);
    return status;
}

/* Everything that was asked for, also where one part fails; the first failure counts. */
static enum t2t_status write_results(const struct evaluation *evaluation)
{
    enum t2t_status status = T2T_OK, next;
    bool to_stdout = false;
    if (!evaluation->images) return T2T_OK;
    for (size_t i = 0; i < settings.outputs.count; i++) {
        enum report_format format = (enum report_format)settings.format;
        const char *path = settings.outputs.text[i];
        if (strcmp(path, "-") == 0)
            to_stdout = true;
        else
            t2t_report_format_of(path, &format);
        next = write_report(path, format);
        if (!status) status = next;
    }
    if (settings.save_logits) {
        next = save_logits(evaluation);
        if (!status) status = next;
    }
    next = to_stdout ? T2T_OK : write_report("-", (enum report_format)settings.format);
    return status ? status : next;
}

static void report_partial(const struct evaluation *evaluation)
{
    ((struct evaluation *)(uintptr_t)evaluation)->signal = t2t_interrupted();
    if (!evaluation->images)
        t2t_error("interrupted before the first pictures were done");
    else if (write_results(evaluation))
        t2t_error("%s", t2t_last_error());
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
    const size_t threads = settings.model.threads ? settings.model.threads : t2t_cpu_allowed();
    report.workers = settings.workers ? settings.workers : threads > 1 ? threads - 1 : 1;
    report.overlap =
        settings.pipeline == PIPELINE_OVERLAP || (settings.pipeline == PIPELINE_AUTO && evaluation->runs->count == 1);
    if (tensors)
        return t2t_source_open_raw(source, tensors, pictures, preprocess->image_size, evaluation->options.batch);
    const struct t2t_loader_options options = {.preprocess = *preprocess,
        .batch = evaluation->options.batch,
        .workers = report.workers,
        .overlap = report.overlap};
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
    if (!status) status = t2t_choose_preprocess(&settings.model, model, &preprocess);
    if (!status) status = open_pictures(&pictures, &tensors, model);
    struct evaluation evaluation = {.model = model,
        .runs = &runs,
        .pictures = &pictures,
        .source = &source,
        .options = {.batch = batch < pictures.count ? batch : pictures.count,
            .warmup = settings.warmup,
            .threads = settings.model.threads,
            .skip_failed = settings.on_error == ON_ERROR_SKIP,
            .most_skipped = settings.most_skipped,
            .keep_logits = settings.save_logits != NULL},
        .labelled = pictures.count && pictures.samples[0].label >= 0};
    report = (struct report){.evaluation = &evaluation,
        .data = settings.raw_input ? settings.raw_input : settings.data.path,
        .weights = weights,
        .preprocess = &preprocess,
        .argc = report.argc,
        .argv = report.argv};
    if (!status) status = open_source(&source, &pictures, tensors, &preprocess, &evaluation);
    if (!status) {
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
    enum t2t_status status = check_options(operands, operand, &batch);
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
    char **as_given = calloc((size_t)argc + 1, sizeof *as_given); /* getopt permutes argv */
    for (int i = 0; i < argc && as_given; i++) as_given[i] = argv[i];
    report.argc = as_given ? argc : 0;
    report.argv = as_given;
    if (t2t_tool_begin(&tool, argc, argv, &operands, &status))
        status = run((size_t)argc - operands, argv + operands, &failed, &signal);
    free(as_given);
    const int code = t2t_tool_finish(&tool, status);
    return code ? code : signal ? 128 + signal : failed ? T2T_CHECK_FAILED : 0;
}
