/* A profile as a table, Markdown, CSV or JSON. */
#ifndef T2T_EVAL_PROFILE_REPORT_H
#define T2T_EVAL_PROFILE_REPORT_H

#include "eval/profile.h"
#include "eval/report_format.h"

enum profile_detail { DETAIL_STEP, DETAIL_ATTENTION, DETAIL_LAYER }; /* which rows a table has */

struct profile_results {
    struct profile *profiles; /* one a batch size */
    size_t count;
    const char *weights; /* NULL: random ones */
    const char *data;    /* folder of pictures, NULL: random pixels */
    size_t files;        /* that there are in it */
    enum profile_detail detail;
};

/* `results` is a struct profile_results. */
extern report_writer *const t2t_profile_writers[REPORT_FORMATS];
report_writer t2t_profile_csv, t2t_profile_json; /* internal to profile_report*.c */

/* Thousand million floating-point operations a second, two for a multiply-accumulate; NaN where none are counted. */
double t2t_profile_gflops(const struct profile_row *row);

#endif
