/* What t2tvit-eval is asked to do. */
#ifndef T2T_EVAL_EVAL_SETTINGS_H
#define T2T_EVAL_EVAL_SETTINGS_H

#include "eval/attention_options.h"
#include "eval/model_options.h"
#include "eval/tool.h"
#include "loaders/dataset.h"

/* Values of --pipeline and --on-error. */
enum { PIPELINE_AUTO, PIPELINE_OVERLAP, PIPELINE_SERIAL };
enum { ON_ERROR_FAIL, ON_ERROR_SKIP };

/* As the command line says; `format` is an enum report_format. */
struct eval_settings {
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
};

extern struct eval_settings settings;

extern const struct tool t2t_eval_tool;

/* Takes the operands, and refuses contradictions and outputs that cannot be written, before anything long begins.
 * T2T_BAD_USAGE, T2T_CANNOT_WRITE. */
enum t2t_status t2t_eval_check(size_t operands, char **operand, size_t *batch);

/* The same for what only shows once weights and pictures are known: outputs that would replace what is read, checks
 * without labels or without anything to compare. T2T_BAD_USAGE, T2T_BAD_DATA, T2T_CANNOT_WRITE. */
enum t2t_status t2t_eval_check_run(const char *weights, size_t runs, bool labelled);

#endif
