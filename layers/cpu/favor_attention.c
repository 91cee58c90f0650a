/* Performer's attention, FAVOR+ (Choromanski et al., ICLR 2021): phi(x) = exp(w x - |x|^2 / 2), x = sqrt(scale) q or k;
 * out = phi(q) (phi(k)^T v) / (phi(q) sum of phi(k)). layers/methods.md has formulas and shapes.
 *
 * Written as two softmaxes, features over keys and queries over features, it needs no kernel of its own and no
 * exponential overflows. (Token_performer's attention, performer_attention.c, adds 1e-8 to the divisor and cannot be
 * shifted.) Runs of keys are summed one by one and joined in float64.
 */
#include <string.h>

#include "layers/cpu/feature_sums.h"

enum { RUN = 4 * T2T_KEY_BLOCK /* keys of a task */, GROUP = 64 /* queries of a task */ };

/* Memory of one unit. */
struct unit_memory {
    float *key_bias;           /* [keys] */
    struct feature_sums *run;  /* [runs] */
    struct feature_sums whole; /* of all keys */
};

/* Memory of one thread. */
struct thread_memory {
    struct query_tile tile;
    double *mean; /* [value_dim] */
};

struct favor {
    const struct attention_kernels *kernels;
    const struct attention_call *call;
    size_t runs;
    struct unit_memory *unit_memory;
    struct thread_memory *thread_memory;
};

static const float *features_of(const struct favor *favor, size_t unit)
{
    const struct attention_call *call = favor->call;
    return call->draws.features + unit * call->config.features * call->shape.head_dim;
}

static void sum_run(const void *method, struct task_place place, size_t run)
{
    const struct favor *favor = method;
    const struct attention_call *call = favor->call;
    const struct unit_memory *memory = &favor->unit_memory[place.memory];
    const struct head_view head = t2t_head_view(call, place.unit);
    const size_t begin = run * RUN, end = begin + RUN < call->shape.keys ? begin + RUN : call->shape.keys;
    t2t_key_bias(call, &head, begin, end, memory->key_bias);
    const struct key_run keys = t2t_biased_keys(call, &head, memory->key_bias, begin, end);
    t2t_sum_keys(favor->kernels, &favor->thread_memory[place.thread].tile, features_of(favor, place.unit),
        call->config.features, call->shape.scale, &keys, &memory->run[run]);
}

static void join_runs(const void *method, struct task_place place, size_t feature)
{
    const struct favor *favor = method;
    const size_t value_dim = favor->call->shape.value_dim;
    const struct unit_memory *memory = &favor->unit_memory[place.memory];
    double *mean = favor->thread_memory[place.thread].mean, weight = T2T_NO_KEYS;
    memset(mean, 0, value_dim * sizeof *mean);
    for (size_t run = 0; run < favor->runs; run++)
        t2t_add_feature(&weight, mean, &memory->run[run], feature, value_dim);
    t2t_round_feature(weight, mean, &memory->whole, feature, value_dim);
}

static void answer_queries(const void *method, struct task_place place, size_t group)
{
    const struct favor *favor = method;
    const struct attention_call *call = favor->call;
    const struct attention_shape *shape = &call->shape;
    const struct head_view head = t2t_head_view(call, place.unit);
    const struct query_tile *tile = &favor->thread_memory[place.thread].tile;
    const struct key_run features = t2t_features_as_keys(features_of(favor, place.unit), call->config.features,
        shape->head_dim, shape->value_dim, &favor->unit_memory[place.memory].whole);
    const size_t end = (group + 1) * GROUP < shape->queries ? (group + 1) * GROUP : shape->queries;
    for (size_t first = group * GROUP; first < end; first += favor->kernels->lanes) {
        const float *q[T2T_MAX_LANES];
        float *out[T2T_MAX_LANES];
        const size_t count = end - first < favor->kernels->lanes ? end - first : favor->kernels->lanes;
        for (size_t i = 0; i < count; i++) {
            q[i] = head.q + (first + i) * call->q_stride;
            out[i] = head.out + (first + i) * call->out_stride;
        }
        t2t_begin_feature_queries(favor->kernels, tile, q, count, shape->scale);
        favor->kernels->attend(tile, &features);
        favor->kernels->store_values(tile, out, count);
    }
}

static struct unit_memory take_unit(struct t2t_arena *arena, const struct favor *favor)
{
    const size_t features = favor->call->config.features, value_dim = favor->call->shape.value_dim;
    struct unit_memory unit;
    unit.key_bias = t2t_arena_take(arena, favor->call->shape.keys, sizeof *unit.key_bias);
    unit.whole = t2t_take_feature_sums(arena, features, value_dim);
    unit.run = t2t_arena_take(arena, favor->runs, sizeof *unit.run);
    for (size_t run = 0; run < favor->runs; run++) {
        const struct feature_sums sums = t2t_take_feature_sums(arena, features, value_dim);
        if (unit.run) unit.run[run] = sums;
    }
    return unit;
}

void t2t_favor_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const struct attention_call *call = attention->call;
    const size_t units = t2t_units_at_a_time(attention);
    struct favor favor = {.kernels = attention->kernels, .call = call};
    favor.runs = (call->shape.keys + RUN - 1) / RUN;
    favor.unit_memory = t2t_arena_take(arena, units, sizeof *favor.unit_memory);
    favor.thread_memory = t2t_arena_take(arena, attention->threads, sizeof *favor.thread_memory);
    for (size_t i = 0; i < units; i++) {
        const struct unit_memory unit = take_unit(arena, &favor);
        if (favor.unit_memory) favor.unit_memory[i] = unit;
    }
    for (size_t i = 0; i < attention->threads; i++) {
        struct thread_memory own = {.tile = t2t_take_tile(arena, attention->kernels, &call->shape)};
        own.mean = t2t_arena_take(arena, call->shape.value_dim, sizeof *own.mean);
        if (favor.thread_memory) favor.thread_memory[i] = own;
    }
    if (!arena->memory) return;
    const struct unit_step steps[] = {{favor.runs, sum_run, 0}, {call->config.features, join_runs, 0},
        {(call->shape.queries + GROUP - 1) / GROUP, answer_queries, 0}};
    t2t_run_units(attention, steps, sizeof steps / sizeof *steps, &favor);
}
