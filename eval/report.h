/* What an evaluation found, as a table, Markdown, CSV or JSON. */
#ifndef T2T_EVAL_REPORT_H
#define T2T_EVAL_REPORT_H

#include <stdio.h>

#include "eval/evaluation.h"
#include "loaders/preprocess.h"

enum report_format { REPORT_TABLE, REPORT_MARKDOWN, REPORT_CSV, REPORT_JSON };

/* What a report says beside the numbers. */
struct report {
    const struct evaluation *evaluation;
    const char *data, *weights; /* paths as given and found */
    const struct t2t_preprocess *preprocess;
    size_t workers;
    bool overlap; /* pictures were decoded while the network ran */
    int argc;
    char **argv;
};

/* Means and standard deviations over the seeds of one method: runs first ... first + count - 1. */
struct seed_summary {
    size_t first, count;
    double top1, top1_sd, top5, agreed, lost, gained; /* means; shares in 0 ... 1 */
};
struct seed_summary t2t_summarise_seeds(const struct evaluation *evaluation, size_t first);

/* The whole text of a report, to be freed. T2T_NO_RESOURCE. */
enum t2t_status t2t_report_text(const struct report *report, enum report_format format, char **text, size_t *bytes);

/* The format that a file name asks for by its ending: .json .csv .md .txt. T2T_BAD_USAGE. */
enum t2t_status t2t_report_format_of(const char *path, enum report_format *format);

/* The writers of the formats; false: memory was short. Internal to report*.c. */
bool t2t_report_table(const struct report *report, FILE *out, bool markdown);
bool t2t_report_csv(const struct report *report, FILE *out);
bool t2t_report_json(const struct report *report, FILE *out);

#endif
