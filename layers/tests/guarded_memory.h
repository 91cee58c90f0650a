/* Memory for kernels under test: what must not be read or written is a NaN that no kernel computes. */
#ifndef T2T_LAYERS_TESTS_GUARDED_MEMORY_H
#define T2T_LAYERS_TESTS_GUARDED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/cpu/kernels.h"

/* Floats between the rows of test matrices. */
enum { GAP = 5 };

/* `count` floats, all of them that NaN, and a guard after them. */
float *guarded(size_t count);
/* Frees them; an assertion fails if the guard was written to. */
void release(float *x, size_t count);
/* Whether none of the floats was written to. */
bool is_untouched(const float *x, size_t count);

/* rows x columns synthetic numbers in (-amplitude, amplitude), rows columns + GAP apart, gaps filled with that NaN;
 * the allocation ends with the last number. */
float *strided_input(const char *name, uint64_t seed, size_t rows, size_t columns, float amplitude);

/* Calls the test with every set of kernels that this processor supports, and says which those are. */
void for_every_set(void (*test)(const struct attention_kernels *));
/* The definition. */
const struct attention_kernels *plain_c(void);

#endif
