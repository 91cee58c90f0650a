/* The formats that results come in, and writing them where --format and --output say. */
#ifndef T2T_EVAL_REPORT_FORMAT_H
#define T2T_EVAL_REPORT_FORMAT_H

#include <stdbool.h>
#include <stdio.h>

#include "eval/options.h"

enum report_format { REPORT_TABLE, REPORT_MARKDOWN, REPORT_CSV, REPORT_JSON, REPORT_SVG, REPORT_FORMATS };

/* Writes results in one format; false: memory was short. */
typedef bool report_writer(const void *results, FILE *out);

/* What a program's options ask for. */
struct report_request {
    report_writer *const *writers; /* [REPORT_FORMATS], NULL for what the program does not offer */
    int format;                    /* of standard output, and of pipes and devices without an ending that is known */
    struct option_texts outputs;   /* files, their format by their ending; "-" for standard output */
};

/* The rows of a tool's table that fill a struct report_request; `endings` as in ".json .csv .md .txt". */
#define REPORT_OPTION_ROWS(request, endings)                                                                           \
    {OPTION_CHOICE, 0, "format", "table|md|csv|json", "on standard output (table); times of every run: json only",     \
        &(request)->format, 0, 0},                                                                                     \
    {                                                                                                                  \
        OPTION_TEXTS, 'o', "output", "FILE", "also write " endings "; may be given again; - for\nstandard output",     \
            &(request)->outputs, 0, 0                                                                                  \
    }

/* Whether every output has a known ending and could be written now; before anything long begins. */
enum t2t_status t2t_report_check(const struct report_request *request);

/* Several outputs, of which some fail: the first failure counts and is told at the end, others where they happen. */
struct t2t_failures {
    enum t2t_status status;
    char sentence[T2T_MESSAGE_BYTES];
};
void t2t_add_failure(struct t2t_failures *failures, enum t2t_status next);
enum t2t_status t2t_first_failure(const struct t2t_failures *failures);

/* Writes everything that was asked for, also where one part fails; the first failure counts. */
enum t2t_status t2t_report_write(const struct report_request *request, const void *results);

#endif
