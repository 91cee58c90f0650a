/* Accuracy and what it is worth: ranks, log loss, Wilson's interval, McNemar's exact test. */
#ifndef T2T_EVAL_METRICS_H
#define T2T_EVAL_METRICS_H

#include <stddef.h>

struct interval {
    double low, high;
};

/* Place of `label` among the classes in falling order of logit, 0 for the first. Of equal logits the class of lower
 * index comes first; NaN ranks behind everything. */
size_t t2t_rank_of(const float *logits, size_t classes, size_t label);

/* The `count` highest classes into best[], in that order. count <= classes. */
void t2t_top_classes(const float *logits, size_t classes, size_t count, size_t *best);

/* softmax(logits) in double. */
void t2t_probabilities(const float *logits, size_t classes, double *probability);

/* -log softmax(logits)[label]. */
double t2t_log_loss(const float *logits, size_t classes, size_t label);

/* Wilson's score interval, 95 %, of a proportion (Wilson 1927); [0, 1] when total is 0. */
struct interval t2t_wilson(size_t correct, size_t total);

/* Two-sided p value of McNemar's exact test: lost and gained pairs under a fair coin. 1 when there are none. */
double t2t_mcnemar(size_t lost, size_t gained);

/* 95 % interval of the paired difference (lost - gained) / total of two proportions on the same pictures: Wald's with
 * the adjustment of Bonett and Price (2012), which has a width also where few pairs differ, or none. */
struct interval t2t_paired_drop(size_t lost, size_t gained, size_t total);

/* The same where the second proportion is the mean over `seeds` runs: lost and gained pairs of all of them together, and
 * the sum over pictures of (lost - gained)^2 of a picture. The seeds are taken as given: the interval is that over
 * pictures. */
struct interval t2t_paired_mean_drop(size_t lost, size_t gained, size_t squares, size_t seeds, size_t total);

/* Standard deviation of a sample, n - 1; 0 for fewer than two values. */
double t2t_deviation(const double *value, size_t count);

struct quartiles {
    double low, median, high;
};

/* Of count values, interpolated between neighbours; NaN when there are none. */
struct quartiles t2t_quartiles(const double *values, size_t count);

/* Of reference_ms / ms, pair by pair: above 1 the second is faster. */
struct quartiles t2t_speedup(const double *reference_ms, const double *ms, size_t count);

#endif
