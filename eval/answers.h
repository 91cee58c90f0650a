/* One picture's answers as they are printed: a table, a line of JSON, or rows of CSV. */
#ifndef T2T_EVAL_ANSWERS_H
#define T2T_EVAL_ANSWERS_H

#include <stdbool.h>
#include <stdio.h>

#include "eval/attention_options.h"
#include "eval/class_names.h"

enum answer_format { ANSWER_TABLE, ANSWER_JSONL, ANSWER_CSV };
enum answer_value { ANSWER_PROBABILITY, ANSWER_LOGIT, ANSWER_BOTH };

enum { ANSWER_MOST = 1000 };

struct answer_style {
    enum answer_format format;
    enum answer_value value;
    enum class_name_style names;
    size_t top;
    const struct class_names *classes;
    const struct attention_runs *runs;
};

/* What stands before the first picture. */
void t2t_answers_begin(FILE *out, const struct answer_style *style);

/* logits[run * stride ...] are those of one picture by each run. False: memory was short. */
bool t2t_answers_print(
    FILE *out, const struct answer_style *style, const char *picture, const float *logits, size_t stride);

#endif
