/* Options of t2tvit-eval. */
#include "eval/eval_settings.h"

#include <stdint.h>
#include <string.h>

#include "eval/output.h"
#include "eval/report.h"

enum { DEFAULT_BATCH = 8 };

struct eval_settings settings = {
    .model = MODEL_OPTIONS_DEFAULT,
    .attention = ATTENTION_OPTIONS_DEFAULT,
    .data = {.layout = "auto", .label_kind = "auto"},
    .report = {.writers = t2t_report_writers},
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
    DEVICE_OPTION_ROWS(&settings.model),
    ATTENTION_OPTION_ROWS(&settings.attention),
    SWEEP_OPTION_ROW(&settings.attention),
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
    REPORT_OPTION_ROWS(&settings.report, ".json .csv .md .txt .svg"),
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

const struct tool t2t_eval_tool = {
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

static enum t2t_status check_pictures(size_t operands, char **operand)
{
    if (operands > 1 || (operands && settings.data.path))
        return t2t_fail(T2T_BAD_USAGE, "\"%s\": only one folder of pictures at a time", operand[operands - 1]);
    if (operands) settings.data.path = operand[0];
    if (!settings.data.path == !settings.raw_input)
        return t2t_fail(T2T_BAD_USAGE, "%s",
            settings.raw_input ? "--val-dir and --raw-input: only one is meant"
                               : "no pictures: --val-dir DIR is missing");
    if (settings.raw_input && settings.data.labels)
        return t2t_fail(T2T_BAD_USAGE, "--labels: those of --raw-input are its tensor label");
    return T2T_OK;
}

static enum t2t_status check_numbers(size_t *batch)
{
    *batch = DEFAULT_BATCH;
    if (settings.batch && strcmp(settings.batch, "auto") != 0 && !t2t_parse_number(settings.batch, 1, 4096, batch))
        return t2t_fail(
            T2T_BAD_USAGE, "--batch-size \"%s\": expected auto or a whole number from 1 to 4096", settings.batch);
    if (t2t_option_given(&settings.most_skipped) && settings.on_error != ON_ERROR_SKIP)
        return t2t_fail(T2T_BAD_USAGE, "--max-skipped needs --on-error skip");
    if (t2t_option_given(&settings.tolerance) && !t2t_option_given(&settings.expect_top1))
        return t2t_fail(T2T_BAD_USAGE, "--tolerance needs --expect-top1");
    return T2T_OK;
}

static enum t2t_status check_outputs(void)
{
    const struct option_texts *outputs = &settings.report.outputs;
    enum t2t_status status = t2t_report_check(&settings.report);
    for (size_t i = 0; i < outputs->count && settings.save_logits && !status; i++)
        if (strcmp(outputs->text[i], settings.save_logits) == 0)
            return t2t_fail(T2T_BAD_USAGE, "\"%s\" is named for two outputs", settings.save_logits);
    if (!status && settings.save_logits) status = t2t_output_check_file(settings.save_logits);
    return status;
}

enum t2t_status t2t_eval_check(size_t operands, char **operand, size_t *batch)
{
    enum t2t_status status = check_pictures(operands, operand);
    if (!status) status = check_numbers(batch);
    if (!status) status = check_outputs();
    return status;
}

enum t2t_status t2t_eval_check_run(const char *weights, size_t runs, bool labelled)
{
    const char *const inputs[] = {weights, settings.raw_input, settings.data.labels};
    const bool accuracy = t2t_option_given(&settings.expect_top1), drop = t2t_option_given(&settings.most_drop);
    if ((accuracy || drop) && !labelled)
        return t2t_fail(T2T_BAD_DATA, "%s: has no tensor label, which --%s needs", settings.raw_input,
            accuracy ? "expect-top1" : "max-drop");
    if (drop && runs < 2)
        return t2t_fail(T2T_BAD_USAGE, "--max-drop: --attention names nothing that could lose against a reference");
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs && !status; i++) {
        for (size_t o = 0; o < settings.report.outputs.count && !status; o++)
            status = t2t_output_check_differs(settings.report.outputs.text[o], inputs[i]);
        if (!status) status = t2t_output_check_differs(settings.save_logits, inputs[i]);
    }
    return status;
}
