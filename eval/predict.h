/* What attention should take on a GPU at best, from what it must compute and move: a prediction, never a measurement. */
#ifndef T2T_EVAL_PREDICT_H
#define T2T_EVAL_PREDICT_H

#include <stdio.h>

#include "eval/attention_options.h"

/* What a GPU does in a second. */
struct gpu {
    const char *name; /* as on the command line */
    const char *title;
    double float32_flop, half_flop; /* multiply-adds count twice; half: tensor cores, dense */
    double bytes;                   /* of its memory */
    double exponentials;
    double launch; /* seconds that a kernel in a queue takes however little it does */
};

/* By its name; NULL where there is none. */
const struct gpu *t2t_gpu_named(const char *name);

enum { BOUND_BY_PRODUCTS, BOUND_BY_MEMORY, BOUND_BY_EXPONENTIALS, BOUND_BY_LAUNCHES };

/* One attention of a batch. */
struct attention_work {
    double flop;
    /* Of those, what tensor cores multiply in half precision; the rest is float32 in every format. */
    double tensor_flop;
    double exponentials;
    double numbers; /* read or written, at least once each */
    size_t kernels; /* as many as the CUDA device queues; 0: it does not run the method */
};
struct attention_work t2t_attention_work(
    const struct attention_shape *shape, const struct attention_config *config, size_t batch);

/* Seconds: the longest of the first three, and the kernels' launches. *bound (or NULL) says which of the four is the
 * longest. */
double t2t_predict(const struct gpu *gpu, const struct attention_work *work, bool half, int *bound);

/* The least n, up to 2^20, from which on the method is predicted to be faster than exact attention of n queries and n
 * keys; 0 where there is none. Heads and dimensions are those of `shape`. */
size_t t2t_predict_crossover(const struct gpu *gpu, const struct attention_shape *shape,
    const struct attention_config *config, size_t batch, bool half);

/* A table of the runs' layers, the formula and its assumptions, and what they imply for the first layer. */
enum t2t_status t2t_predict_print(const struct gpu *gpu, const struct t2t_model *model,
    const struct attention_runs *runs, const size_t *batches, size_t batch_count, FILE *out);

#endif
