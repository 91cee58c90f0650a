/* What t2tvit-classify is asked to do. */
#ifndef T2T_EVAL_CLASSIFY_SETTINGS_H
#define T2T_EVAL_CLASSIFY_SETTINGS_H

#include "eval/attention_options.h"
#include "eval/model_options.h"
#include "eval/tool.h"
#include "loaders/dataset.h"

/* As the command line says. The last three are an enum class_name_style, answer_value and answer_format. */
struct classify_settings {
    struct common_options common;
    struct model_options model;
    struct attention_options attention;
    struct option_texts files_from;
    bool nul, recursive, digest;
    const char *raw_input, *labels, *save_logits, *output;
    size_t top, batch;
    int names, value, format;
};

extern struct classify_settings settings;

extern const struct tool t2t_classify_tool;

/* Contradictions, and outputs that cannot be written, before anything long begins. T2T_BAD_USAGE, T2T_CANNOT_WRITE. */
enum t2t_status t2t_classify_check(size_t operands);

/* T2T_CANNOT_WRITE where an output is one of the pictures or the weights. */
enum t2t_status t2t_classify_check_inputs(const struct t2t_dataset *pictures, const char *weights_or_null);

#endif
