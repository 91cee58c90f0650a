/* What a study of attention found, as a table, Markdown, CSV, JSON or a chart of error against time. */
#ifndef T2T_EVAL_STUDY_REPORT_H
#define T2T_EVAL_STUDY_REPORT_H

#include "eval/attention_study.h"
#include "eval/report_format.h"

/* `results` is a struct study. */
extern report_writer *const t2t_study_writers[REPORT_FORMATS];
report_writer t2t_study_csv, t2t_study_json; /* internal to study_report*.c */

/* Over seeds; NaN where there is nothing yet. */
struct mean_and_deviation {
    double mean, deviation;
};
struct mean_and_deviation t2t_over_seeds(const double *values, size_t count);

#endif
