/* The golden files of attention: inputs by formula, stored draws and outputs, and how an output is compared. */
#ifndef T2T_LAYERS_TESTS_GOLDEN_INPUTS_H
#define T2T_LAYERS_TESTS_GOLDEN_INPUTS_H

#include <stddef.h>
#include <stdint.h>

#include "layers/cpu/cpu_attention.h"
#include "weights/safetensors.h"

/* One (image, head) of a file, as many queries as keys. */
struct golden {
    struct t2t_tensors *file;
    const char *name; /* "t2t1_s1.safetensors" */
    size_t n, d, rows;
    double scale;
    const int32_t *row;                    /* [rows] the stored outputs' places */
    float *q, *k, *v;                      /* [n, d] */
    size_t bucket, samples, projections;   /* kdeformer's settings and draws: */
    const int32_t *sample_key;             /* [samples] */
    const float *projection, *probability; /* [d, projections], [n] */
};

/* Calls `compare` with every file of the folder attention/ of $T2TVIT_GOLDEN, else of tests/golden, and the kernels in
 * use; then prints how many there were. All of these functions fail the test where something is missing or wrong. */
void golden_each(void (*compare)(const struct attention_kernels *kernels, const struct golden *golden));

double golden_number(const struct golden *golden, const char *key);
/* A tensor of `elements` numbers; 0: of any size. */
const void *golden_stored(const struct golden *golden, const char *name, enum t2t_dtype dtype, size_t elements);
/* A stored output [rows, d] in float64, to be freed. */
double *golden_output(const struct golden *golden, const char *name);

/* The stored rows of what the engine makes of a method, with one thread and with three, which must agree bit for bit. To
 * be freed. */
double *golden_run(const struct attention_kernels *kernels, const struct golden *golden,
    const struct attention_config *config, const struct attention_draws *draws);

/* Relative Frobenius error of found [rows, d], at most `tolerance`. */
double golden_expect(
    const struct golden *golden, const char *what, const double *found, const double *wanted, double tolerance);

#endif
