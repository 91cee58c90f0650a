/* What the benches share; see bench_support.h. */
#include "layers/tests/bench_support.h"

#include <stdio.h>
#include <stdlib.h>

void *bench_allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench_sort(double *sample, size_t count)
{
    qsort(sample, count, sizeof *sample, ascending);
}

void bench_print_spread(const char *label, double *sample, size_t count, double factor, const char *unit)
{
    bench_sort(sample, count);
    printf("  %s %.3g%s (%.3g ... %.3g)", label, sample[count / 2] * factor, unit, sample[count / 4] * factor,
        sample[count - 1 - count / 4] * factor);
}
