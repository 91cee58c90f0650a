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

/* |x|^2 */
double t2t_squares(const float *x, size_t dim);

/* The clock of a call's steps: nothing where the call does not ask for it. `begin` is what the last call of either
 * returned; t2t_step_end() adds the time since then to a step and returns the time now. */
double t2t_step_begin(const struct attention_call *call);
double t2t_step_end(const struct attention_call *call, enum attention_step step, double begin);

/* Whether a call's factors are to be rounded to bfloat16, and the kernels can. */
bool t2t_in_bfloat16(const struct cpu_attention *attention);

/* One tile's memory. */
struct query_tile t2t_take_tile(
    struct t2t_arena *arena, const struct attention_kernels *kernels, const struct attention_shape *shape);
/* An empty softmax for `count` queries; in bfloat16. */
void t2t_begin_tile(const struct attention_kernels *kernels, const struct query_tile *tile, const float *const *rows,
    size_t count, float scale);
void t2t_begin_bfloat16_tile(const struct attention_kernels *kernels, const struct query_tile *tile,
    const float *const *rows, size_t count, float scale);

/* Where a task of a step runs: its (image, head), that one's memory (there are as many as run at a time, see
 * t2t_units_at_a_time()), and its thread. */
struct task_place {
    size_t unit, memory, thread;
};

/* A step of a method: tasks first ... first + count - 1 of each unit, which may run in any order and at once. */
struct unit_step {
    size_t count;
    void (*run)(const void *method, struct task_place place, size_t task);
    size_t first;
};

size_t t2t_units_at_a_time(const struct cpu_attention *attention);

/* Runs the steps of all units one after another. A thread takes whole units, whose data then stay in its cache; where
 * there are fewer units than threads, they share each step's tasks. The tasks are the same in both. */
void t2t_run_units(
    const struct cpu_attention *attention, const struct unit_step *steps, size_t count, const void *method);

/* A method a file. With an arena that only measures they return after taking. */
void t2t_exact_attention(const struct cpu_attention *attention, struct t2t_arena *arena);
void t2t_kde_attention(const struct cpu_attention *attention, struct t2t_arena *arena);
void t2t_favor_attention(const struct cpu_attention *attention, struct t2t_arena *arena);
void t2t_reformer_attention(const struct cpu_attention *attention, struct t2t_arena *arena);
void t2t_scatterbrain_attention(const struct cpu_attention *attention, struct t2t_arena *arena);
void t2t_kde_theory_attention(const struct cpu_attention *attention, struct t2t_arena *arena);
void t2t_mean_attention(const struct cpu_attention *attention, struct t2t_arena *arena);

#endif
