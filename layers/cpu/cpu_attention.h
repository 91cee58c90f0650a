/* Attention on the CPU: one file a method, each a row of the table in cpu_attention.c. */
#ifndef T2T_LAYERS_CPU_CPU_ATTENTION_H
#define T2T_LAYERS_CPU_CPU_ATTENTION_H

#include "layers/attention.h"
#include "layers/base/arena.h"
#include "layers/cpu/kernels.h"

/* Bytes of scratch that t2t_cpu_attention() needs for a call of this shape. */
size_t t2t_cpu_attention_scratch(const struct attention_kernels *kernels, size_t threads,
    const struct attention_shape *shape, const struct attention_config *config, size_t batch);

void t2t_cpu_attention(const struct attention_kernels *kernels, size_t threads, const struct attention_call *call);

/* What a method's code gets: the call and its means. */
struct cpu_attention {
    const struct attention_kernels *kernels;
    size_t threads;
    const struct attention_call *call;
};

/* Rows of one (image, head) in the matrices of a call. */
struct head_view {
    const float *q, *k, *v;
    float *out;
};

/* unit = image * heads + head */
struct head_view t2t_head_view(const struct attention_call *call, size_t unit);

/* Index of the calling thread in its team. */
size_t t2t_this_thread(void);

/* One tile's memory. */
struct query_tile t2t_take_tile(
    struct t2t_arena *arena, const struct attention_kernels *kernels, const struct attention_shape *shape);
/* An empty softmax for `count` queries. */
void t2t_begin_tile(const struct attention_kernels *kernels, const struct query_tile *tile, const float *const *rows,
    size_t count, float scale);

/* exact_attention.c, kde_attention.c, mean_attention.c. With an arena that only measures they return after taking. */
void t2t_exact_attention(const struct cpu_attention *attention, struct t2t_arena *arena);
void t2t_kde_attention(const struct cpu_attention *attention, struct t2t_arena *arena);
void t2t_mean_attention(const struct cpu_attention *attention, struct t2t_arena *arena);

#endif
