/* What an evaluation found, as a table, Markdown, CSV or JSON. */
#ifndef T2T_EVAL_REPORT_H
#define T2T_EVAL_REPORT_H

#include <stdio.h>

#include "eval/evaluation.h"
#include "eval/metrics.h"
#include "eval/report_format.h"
#include "loaders/preprocess.h"

/* What a report says beside the numbers. */
struct report {
    const struct evaluation *evaluation;
    const char *data, *weights; /* paths as given and found */
    const struct t2t_preprocess *preprocess;
    size_t workers;
    bool overlap; /* pictures were decoded while the network ran */
};

/* Means and standard deviations over the seeds of one method: runs first ... first + count - 1. */
struct seed_summary {
    size_t first, count;
    double top1, top1_sd, top5, agreed, lost, gained;              /* means; shares in 0 ... 1 */
    double drop;                                                   /* of top-1 against the reference, mean */
    struct interval drop_interval;                                 /* 95 %, paired over pictures */
    struct interval p;                                             /* smallest and largest of McNemar's */
    double layer1_ms, layer1_speedup, forward_ms, forward_speedup; /* means of the seeds' medians */
    double macs, layer1_macs;
};
struct seed_summary t2t_summarise_seeds(const struct evaluation *evaluation, size_t first);

/* Its writers (report.c, report_data.c, report_chart.c); `results` is a struct report. */
extern report_writer *const t2t_report_writers[REPORT_FORMATS];
report_writer t2t_report_csv, t2t_report_json, t2t_report_chart; /* internal to report*.c */

#endif
