/* Guarded memory; see guarded_memory.h. */
#include "layers/tests/guarded_memory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/tests/synthetic_numbers.h"

enum { GUARD = 64 };

static const uint32_t untouched_bits = UINT32_C(0x7fc5a5a5);

static void fill_untouched(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) memcpy(x + i, &untouched_bits, sizeof *x);
}

bool is_untouched(const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(x + i, &untouched_bits, sizeof *x) != 0) return false;
    return true;
}

float *guarded(size_t count)
{
    float *x = malloc((count + GUARD) * sizeof *x);
    assert(x);
    fill_untouched(x, count + GUARD);
    return x;
}

void release(float *x, size_t count)
{
    assert(is_untouched(x + count, GUARD));
    free(x);
}

float *strided_input(const char *name, uint64_t seed, size_t rows, size_t columns, float amplitude)
{
    const size_t stride = columns + GAP, count = (rows - 1) * stride + columns;
    float *x = malloc(count * sizeof *x), *values = malloc(rows * columns * sizeof *values);
    assert(x && values);
    fill_untouched(x, count);
    synthetic_uniform(name, seed, rows * columns, values);
    for (size_t i = 0; i < rows * columns; i++) x[i / columns * stride + i % columns] = amplitude * values[i];
    free(values);
    return x;
}

void for_every_set(void (*test)(const struct attention_kernels *))
{
    for (size_t i = 0; t2t_kernel_sets[i]; i++)
        if (t2t_kernel_sets[i]->supported())
            test(t2t_kernel_sets[i]);
        else
            printf("  %s: not on this processor\n", t2t_kernel_sets[i]->name);
}

const struct attention_kernels *plain_c(void)
{
    size_t i = 0;
    while (strcmp(t2t_kernel_sets[i]->name, "c") != 0) i++;
    return t2t_kernel_sets[i];
}
