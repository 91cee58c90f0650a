/* What the benches share: aligned memory, and medians with quartiles. */
#ifndef T2T_LAYERS_TESTS_BENCH_SUPPORT_H
#define T2T_LAYERS_TESTS_BENCH_SUPPORT_H

#include <stddef.h>

/* Aligned to 64 bytes; ends the program where there is none. */
void *bench_allocate(size_t bytes);

/* In rising order. */
void bench_sort(double *sample, size_t count);

/* "  LABEL median UNIT (quartile ... quartile)", each times `factor`. Sorts the sample. */
void bench_print_spread(const char *label, double *sample, size_t count, double factor, const char *unit);

#endif
