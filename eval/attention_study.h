/* The attention-approximation experiment: error against time, every method at every feature size, on one input.
 *
 * Error: ||A~V - AV||_2 / ||AV||_2 for the exact output AV and its approximation (arXiv 2302.02451, section 4.1), and
 * the same with Frobenius norms; of each (unit, head) alone, then the mean. Time: the attention of one unit with its
 * random draws. Methods take turns and begin with another one in every round; the first round warms up.
 */
#ifndef T2T_EVAL_ATTENTION_STUDY_H
#define T2T_EVAL_ATTENTION_STUDY_H

#include <stdbool.h>

#include "eval/attention_input.h"
#include "eval/attention_settings.h"
#include "eval/option_lists.h"

/* One method at one feature size. */
struct study_case {
    const struct attention_method *method;
    char name[32];   /* "kdeformer:published" */
    size_t features; /* 0: the method has no such size */
    struct attention_config config;
    double macs;                  /* of a unit, in the mean */
    struct attention_taken taken; /* with a target error */
    double *spectral, *frobenius; /* [errors] relative errors, a seed each */
    size_t errors;
    double *ms, *draw_ms; /* [times] of a unit; the draws' share of it */
    size_t times;
};

struct study {
    const struct attention_input *input;
    uint64_t seed[MOST_SEEDS];
    size_t seeds, runs, threads; /* runs: timed ones of each case; threads 0: all */
    struct study_case *cases;    /* exact is the first */
    size_t count;
    size_t left_out; /* feature sizes above the number of keys */
    char device[160];
    int signal; /* that ended it early, 0: none */
};

/* Fills cases: exact, then the methods in their order at every feature size that the input's keys leave room for.
 * Settings are applied last. T2T_BAD_USAGE where a method cannot take the input or the options. */
enum t2t_status t2t_study_plan(struct study *study, const struct method_list *methods, const size_t *features,
    size_t feature_count, const struct attention_settings *settings);

/* What to print when a signal arrives while an attention lasts too long. */
typedef void study_report(const struct study *study);

/* Measures everything; the caller holds interrupts (interrupt.h). An interrupted study is T2T_OK with `signal` set and
 * as many errors and times as there are. T2T_NOT_FINITE names a method whose output holds NaN or infinity. */
enum t2t_status t2t_study_run(struct study *study, study_report *report_partial);

void t2t_study_free(struct study *study);

#endif
