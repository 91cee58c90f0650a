/* The control: every query gets the mean of v, whatever it asks. */
#include <string.h>

#include "layers/cpu/cpu_attention.h"

enum { RUN = 128 }; /* values are added in float32 within runs of so many keys, runs in float64 */

static void add_run(const float *v, size_t stride, size_t keys, size_t dim, float *restrict sum)
{
    memset(sum, 0, dim * sizeof *sum);
    for (size_t j = 0; j < keys; j++)
        for (size_t c = 0; c < dim; c++) sum[c] += v[j * stride + c];
}

void t2t_mean_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const struct attention_call *call = attention->call;
    const struct attention_shape *shape = &call->shape;
    const size_t dim = shape->value_dim, units = call->batch * shape->heads;
    double *const total = t2t_arena_take(arena, units * dim, sizeof *total);
    float *const partial = t2t_arena_take(arena, units * dim, sizeof *partial);
    if (!arena->memory) return;
#pragma omp parallel for num_threads((int)attention->threads) schedule(static)
    for (size_t unit = 0; unit < units; unit++) {
        const struct head_view head = t2t_head_view(call, unit);
        double *sum = total + unit * dim;
        float *run = partial + unit * dim;
        memset(sum, 0, dim * sizeof *sum);
        for (size_t first = 0; first < shape->keys; first += RUN) {
            const size_t count = shape->keys - first < RUN ? shape->keys - first : RUN;
            add_run(head.v + first * call->v_stride, call->v_stride, count, dim, run);
            for (size_t c = 0; c < dim; c++) sum[c] += (double)run[c];
        }
        for (size_t c = 0; c < dim; c++) run[c] = (float)(sum[c] / (double)shape->keys);
        for (size_t i = 0; i < shape->queries; i++) memcpy(head.out + i * call->out_stride, run, dim * sizeof *run);
    }
}
