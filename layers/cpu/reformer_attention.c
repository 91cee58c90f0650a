/* Reformer's attention (Kitaev, Kaiser, Levskaya, ICLR 2020): rounds of hashing; tokens sorted by hash are cut into
 * chunks, and a chunk attends to itself and to the chunk before it. Keys are the queries at unit length.
 * layers/methods.md defines every step; the rotations arrive with the call.
 *
 * Joining rounds by their log-sum-exp is one softmax over the keys of all rounds, so a round goes on with the running
 * softmax that the round before has left: the mean in `out`, the logarithm of the sum beside it.
 */
#include "layers/cpu/reformer_attention.h"

#include <math.h>
#include <string.h>

enum { GROUP = 64 /* tokens of a task of hashing */ };

static const double log2_e = 1.4426950408889634, self_score = -5e4, shortest = 1e-12;

/* Memory of one unit. */
struct unit_memory {
    float *rotated;     /* [rounds, half, head_dim] */
    double *longest;    /* [rounds] length of the longest row of those */
    uint32_t *hash;     /* [rounds, padded] */
    uint32_t *start;    /* [rounds, 2 half + 1] of the counting sorts */
    uint32_t *ring;     /* [rounds, padded] tokens in the order of all chunks */
    float *length;      /* [tokens] |q| */
    float *log_sum_exp; /* [tokens] base 2, of the rounds so far */
};

/* Memory of one thread: the keys of two chunks. */
struct thread_memory {
    struct query_tile tile;
    uint32_t *token; /* [2 most] */
    float *k, *v;    /* [2 most, head_dim], [2 most, value_dim] */
    float *self;     /* [2 most, lanes] the bias that makes a token's own score -5e4 */
};

struct reformer {
    const struct attention_kernels *kernels;
    const struct attention_call *call;
    size_t bucket, half, padded;
    size_t groups;
    size_t most; /* tokens in a chunk that are no padding */
    struct unit_memory *unit_memory;
    struct thread_memory *thread_memory;
};

/* ---- hashes ---- */

/* The best place of one row, in float64. */
static uint32_t exact_hash(const float *x, size_t dim, const float *rotated, size_t half)
{
    double best = -INFINITY;
    size_t place = 0;
    for (size_t sign = 0; sign < 2; sign++)
        for (size_t i = 0; i < half; i++) {
            double dot = 0;
            for (size_t c = 0; c < dim; c++) dot += (double)x[c] * (double)rotated[i * dim + c];
            if (sign) dot = -dot;
            if (dot > best) {
                best = dot;
                place = sign * half + i;
            }
        }
    return (uint32_t)place;
}

/* The largest and the second largest magnitude of a lane's products, and the first one's place. */
struct best_of_lanes {
    float first[T2T_MAX_LANES], second[T2T_MAX_LANES], product[T2T_MAX_LANES], place[T2T_MAX_LANES];
};

static void take_products(
    struct best_of_lanes *restrict best, const float *restrict products, size_t lanes, size_t first, size_t count)
{
    for (size_t j = 0; j < count; j++)
        for (size_t i = 0; i < lanes; i++) {
            const float product = products[j * lanes + i], size = fabsf(product);
            const bool better = size > best->first[i];
            const float runner_up = better ? best->first[i] : size;
            best->second[i] = runner_up > best->second[i] ? runner_up : best->second[i];
            best->product[i] = better ? product : best->product[i];
            best->place[i] = better ? (float)(first + j) : best->place[i]; /* below 2^20 */
            best->first[i] = better ? size : best->first[i];
        }
}

double t2t_longest_row(const float *rows, size_t count, size_t dim)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) most = fmax(most, t2t_squares(rows + i * dim, dim));
    return sqrt(most);
}

void t2t_rotation_hash(const struct attention_kernels *kernels, const struct query_tile *tile, const float *x,
    size_t stride, size_t rows, const float *rotated, size_t half, double longest, uint32_t *hash)
{
    const size_t dim = tile->head_dim, lanes = kernels->lanes;
    for (size_t begin = 0; begin < rows; begin += lanes) {
        const size_t count = rows - begin < lanes ? rows - begin : lanes;
        const float *row[T2T_MAX_LANES];
        struct best_of_lanes best;
        for (size_t i = 0; i < count; i++) row[i] = x + (begin + i) * stride;
        for (size_t i = 0; i < lanes; i++) {
            best.first[i] = best.second[i] = -INFINITY;
            best.product[i] = best.place[i] = 0;
        }
        kernels->load_queries(row, count, dim, 1, tile->query);
        for (size_t first = 0; first < half; first += T2T_KEY_BLOCK) {
            const struct key_run run = {.k = rotated + first * dim,
                .k_stride = dim,
                .keys = half - first < T2T_KEY_BLOCK ? half - first : T2T_KEY_BLOCK};
            kernels->score(tile, &run, tile->scores);
            take_products(&best, tile->scores, lanes, first, run.keys);
        }
        for (size_t i = 0; i < count; i++) {
            /* twice the rounding error of a product of `dim` terms */
            const double doubt = 0x1p-23 * (double)(dim + 1) * sqrt(t2t_squares(row[i], dim)) * longest;
            const float second = best.second[i] > -best.first[i] ? best.second[i] : -best.first[i];
            if ((double)best.first[i] - (double)second > doubt)
                hash[begin + i] = (uint32_t)((size_t)best.place[i] + (best.product[i] < 0 ? half : 0));
            else
                hash[begin + i] = exact_hash(row[i], dim, rotated, half);
        }
    }
}

static void transpose_rotation(const void *method, struct task_place place, size_t round)
{
    const struct reformer *reformer = method;
    const struct attention_call *call = reformer->call;
    const size_t dim = call->shape.head_dim, half = reformer->half;
    const float *rotation = call->draws.rotation + (place.unit * call->config.rounds + round) * dim * half;
    float *rotated = reformer->unit_memory[place.memory].rotated + round * half * dim;
    for (size_t i = 0; i < half; i++)
        for (size_t c = 0; c < dim; c++) rotated[i * dim + c] = rotation[c * half + i];
    reformer->unit_memory[place.memory].longest[round] = t2t_longest_row(rotated, half, dim);
}

static void hash_group(const void *method, struct task_place place, size_t task)
{
    const struct reformer *reformer = method;
    const struct attention_call *call = reformer->call;
    const struct unit_memory *memory = &reformer->unit_memory[place.memory];
    const size_t dim = call->shape.head_dim, tokens = call->shape.queries;
    const size_t round = task / reformer->groups, first = task % reformer->groups * GROUP;
    const size_t count = tokens - first < GROUP ? tokens - first : GROUP;
    const float *q = t2t_head_view(call, place.unit).q + first * call->q_stride;
    t2t_rotation_hash(reformer->kernels, &reformer->thread_memory[place.thread].tile, q, call->q_stride, count,
        memory->rotated + round * reformer->half * dim, reformer->half, memory->longest[round],
        memory->hash + round * reformer->padded + first);
    for (size_t i = 0; i < count && round == 0; i++)
        memory->length[first + i] = (float)sqrt(t2t_squares(q + i * call->q_stride, dim));
}

/* Stable counting sort of a round's tokens. Padding is zero rows, whose hash is 0. */
static void sort_round(const void *method, struct task_place place, size_t round)
{
    const struct reformer *reformer = method;
    const struct unit_memory *memory = &reformer->unit_memory[place.memory];
    const size_t values = 2 * reformer->half, tokens = reformer->call->shape.queries, padded = reformer->padded;
    uint32_t *start = memory->start + round * (values + 1);
    uint32_t *hash = memory->hash + round * padded, *order = memory->ring + round * padded;
    memset(start, 0, (values + 1) * sizeof *start);
    memset(hash + tokens, 0, (padded - tokens) * sizeof *hash);
    for (size_t i = 0; i < padded; i++) start[hash[i] + 1]++;
    for (size_t value = 0; value < values; value++) start[value + 1] += start[value];
    for (size_t i = 0; i < padded; i++) order[start[hash[i]]++] = (uint32_t)i;
}

/* ---- chunks ---- */

/* Appends the tokens of a chunk, padding left out, with their keys and values. */
static size_t gather_chunk(const struct reformer *reformer, const struct unit_memory *memory,
    const struct thread_memory *own, const struct head_view *head, size_t chunk, size_t count)
{
    const struct attention_call *call = reformer->call;
    const size_t dim = call->shape.head_dim, value_dim = call->shape.value_dim;
    for (size_t i = 0; i < reformer->bucket; i++) {
        const uint32_t token = memory->ring[chunk * reformer->bucket + i];
        if (token >= call->shape.queries) continue;
        const float *q = head->q + token * call->q_stride;
        const float unit = (float)(1 / fmax((double)memory->length[token], shortest));
        for (size_t c = 0; c < dim; c++) own->k[count * dim + c] = q[c] * unit;
        memcpy(own->v + count * value_dim, head->v + token * call->v_stride, value_dim * sizeof(float));
        own->token[count++] = token;
    }
    return count;
}

/* The bias under which token `token` scores -5e4 with itself. */
static float self_bias(const struct reformer *reformer, const struct unit_memory *memory, uint32_t token)
{
    const double length = (double)memory->length[token];
    const double own_score = (double)reformer->call->shape.scale * length * length / fmax(length, shortest);
    return (float)(log2_e * (self_score - own_score));
}

/* Finds the own keys of the queries first ... first + count - 1 and sets their biases, or sets them back to 0. A token
 * may be among the keys twice, where the chunk before belongs to another round. */
static void set_self(const struct reformer *reformer, const struct unit_memory *memory, const struct thread_memory *own,
    size_t first, size_t count, size_t chunk_keys, size_t keys, bool other_round, bool back)
{
    const size_t lanes = reformer->kernels->lanes;
    for (size_t i = 0; i < count; i++) {
        const float bias = back ? 0 : self_bias(reformer, memory, own->token[first + i]);
        own->self[(first + i) * lanes + i] = bias;
        for (size_t j = chunk_keys; j < keys && other_round; j++)
            if (own->token[j] == own->token[first + i]) own->self[j * lanes + i] = bias;
    }
}

/* Begins with what the rounds before have left in `out`, if there were any. */
static void begin_tokens(const struct reformer *reformer, const struct unit_memory *memory,
    const struct query_tile *tile, const struct head_view *head, const uint32_t *token, size_t count, bool first_round)
{
    const struct attention_call *call = reformer->call;
    const float *q[T2T_MAX_LANES], *mean[T2T_MAX_LANES];
    for (size_t i = 0; i < count; i++) {
        q[i] = head->q + token[i] * call->q_stride;
        mean[i] = head->out + token[i] * call->out_stride;
    }
    t2t_begin_tile(reformer->kernels, tile, q, count, call->shape.scale);
    if (first_round) return;
    reformer->kernels->load_queries(mean, count, tile->value_dim, 1, tile->value);
    for (size_t i = 0; i < count; i++) {
        tile->maximum[i] = memory->log_sum_exp[token[i]];
        tile->sum[i] = 1;
    }
}

static void attend_chunk(const void *method, struct task_place place, size_t chunk)
{
    const struct reformer *reformer = method;
    const struct attention_call *call = reformer->call;
    const struct unit_memory *memory = &reformer->unit_memory[place.memory];
    const struct thread_memory *own = &reformer->thread_memory[place.thread];
    const struct query_tile *tile = &own->tile;
    const struct head_view head = t2t_head_view(call, place.unit);
    const size_t lanes = reformer->kernels->lanes, per_round = 2 * reformer->half;
    const size_t before = chunk ? chunk - 1 : call->config.rounds * per_round - 1;
    const bool other_round = chunk % per_round == 0;
    const size_t chunk_keys = gather_chunk(reformer, memory, own, &head, chunk, 0);
    const size_t keys = gather_chunk(reformer, memory, own, &head, before, chunk_keys);
    const struct key_run run = {.k = own->k,
        .v = own->v,
        .k_stride = call->shape.head_dim,
        .v_stride = call->shape.value_dim,
        .keys = keys,
        .lane_bias = own->self};
    memset(own->self, 0, keys * lanes * sizeof *own->self);
    for (size_t first = 0; first < chunk_keys; first += lanes) {
        const size_t count = chunk_keys - first < lanes ? chunk_keys - first : lanes;
        float *out[T2T_MAX_LANES];
        begin_tokens(reformer, memory, tile, &head, own->token + first, count, chunk < per_round);
        set_self(reformer, memory, own, first, count, chunk_keys, keys, other_round, false);
        reformer->kernels->attend(tile, &run);
        set_self(reformer, memory, own, first, count, chunk_keys, keys, other_round, true);
        for (size_t i = 0; i < count; i++) {
            const uint32_t token = own->token[first + i];
            memory->log_sum_exp[token] = tile->maximum[i] + log2f(tile->sum[i]);
            out[i] = head.out + token * call->out_stride;
        }
        reformer->kernels->store_values(tile, out, count);
    }
}

/* ---- memory and steps ---- */

static struct unit_memory take_unit(struct t2t_arena *arena, const struct reformer *reformer)
{
    const size_t rounds = reformer->call->config.rounds, tokens = reformer->call->shape.queries;
    struct unit_memory unit;
    unit.rotated =
        t2t_arena_take(arena, rounds * reformer->half * reformer->call->shape.head_dim, sizeof *unit.rotated);
    unit.longest = t2t_arena_take(arena, rounds, sizeof *unit.longest);
    unit.hash = t2t_arena_take(arena, rounds * reformer->padded, sizeof *unit.hash);
    unit.start = t2t_arena_take(arena, rounds * (2 * reformer->half + 1), sizeof *unit.start);
    unit.ring = t2t_arena_take(arena, rounds * reformer->padded, sizeof *unit.ring);
    unit.length = t2t_arena_take(arena, tokens, sizeof *unit.length);
    unit.log_sum_exp = t2t_arena_take(arena, tokens, sizeof *unit.log_sum_exp);
    return unit;
}

static struct thread_memory take_thread(struct t2t_arena *arena, const struct reformer *reformer)
{
    const struct attention_shape *shape = &reformer->call->shape;
    const size_t most = 2 * reformer->most;
    struct thread_memory own;
    own.tile = t2t_take_tile(arena, reformer->kernels, shape);
    own.token = t2t_arena_take(arena, most, sizeof *own.token);
    own.k = t2t_arena_take(arena, most * shape->head_dim, sizeof *own.k);
    own.v = t2t_arena_take(arena, most * shape->value_dim, sizeof *own.v);
    own.self = t2t_arena_take(arena, most * reformer->kernels->lanes, sizeof *own.self);
    return own;
}

void t2t_reformer_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const struct attention_call *call = attention->call;
    const size_t units = t2t_units_at_a_time(attention), rounds = call->config.rounds, tokens = call->shape.queries;
    struct reformer reformer = {.kernels = attention->kernels, .call = call, .bucket = call->config.bucket};
    reformer.half = attention_buckets(tokens, reformer.bucket) / 2;
    reformer.padded = 2 * reformer.half * reformer.bucket;
    reformer.groups = (tokens + GROUP - 1) / GROUP;
    reformer.most = reformer.bucket < tokens ? reformer.bucket : tokens;
    reformer.unit_memory = t2t_arena_take(arena, units, sizeof *reformer.unit_memory);
    reformer.thread_memory = t2t_arena_take(arena, attention->threads, sizeof *reformer.thread_memory);
    struct unit_step *steps = t2t_arena_take(arena, 3 + rounds, sizeof *steps);
    for (size_t i = 0; i < units; i++) {
        const struct unit_memory unit = take_unit(arena, &reformer);
        if (reformer.unit_memory) reformer.unit_memory[i] = unit;
    }
    for (size_t i = 0; i < attention->threads; i++) {
        const struct thread_memory own = take_thread(arena, &reformer);
        if (reformer.thread_memory) reformer.thread_memory[i] = own;
    }
    if (!arena->memory) return;
    steps[0] = (struct unit_step){rounds, transpose_rotation, 0};
    steps[1] = (struct unit_step){rounds * reformer.groups, hash_group, 0};
    steps[2] = (struct unit_step){rounds, sort_round, 0};
    for (size_t round = 0; round < rounds; round++)
        steps[3 + round] = (struct unit_step){2 * reformer.half, attend_chunk, 2 * reformer.half * round};
    t2t_run_units(attention, steps, 3 + rounds, &reformer);
}
