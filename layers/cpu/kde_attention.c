/* KDEformer's attention (Algorithm 3): a block diagonal over queries and keys sorted by hash, plus sampled keys.
 * layers/kdeformer.md defines every step; what is random arrives with the call.
 *
 * Where there are at least as many (image, head) units as threads, a thread takes a unit from hash to output while its
 * q, k, v are in its cache; otherwise threads share the steps of a unit. The arithmetic is the same in both.
 */
#include "layers/cpu/kde_attention.h"

#include <math.h>
#include <string.h>

#include "layers/cpu/cpu_attention.h"

/* Memory of one unit. */
struct unit_memory {
    uint16_t *q_code, *k_code;   /* [queries], [keys] */
    uint32_t *q_start, *k_start; /* [2^projections + 1] of the counting sorts */
    uint32_t *q_order, *k_order; /* row at each sorted position */
    uint32_t *k_position;        /* sorted position of each key */
    float *probability;          /* [keys] */
    double *vectors;             /* [T2T_KDE_VECTORS (value_dim + 1)] */
    uint64_t *cumulative;        /* [keys] */
    uint32_t *sample_position;   /* [samples] sorted position of the sampled key */
    float *sample_k, *sample_v;  /* [samples, head_dim], [samples, value_dim] */
    float *sample_weight;        /* [samples] log2 of 1 / (samples p) */
};

/* Memory of one thread. */
struct thread_memory {
    struct query_tile tile;
    float *k, *v; /* [bucket, head_dim], [bucket, value_dim]: the keys of a block */
    float *bias;  /* [samples] */
};

struct kde {
    const struct attention_kernels *kernels;
    const struct attention_call *call;
    size_t bucket;       /* no more than there are keys */
    size_t blocks, rows; /* of the block diagonal; queries in each but the last */
    struct unit_memory *unit_memory;
    struct thread_memory *thread_memory;
};

/* ---- order ---- */

uint16_t t2t_gray_rank(uint16_t code)
{
    unsigned rank = code;
    for (unsigned shift = 1; shift < 16; shift *= 2) rank ^= rank >> shift;
    return (uint16_t)rank;
}

/* Stable counting sort of rows by the Gray rank of their code. */
static void sort_by_code(uint16_t *code, size_t rows, size_t bits, uint32_t *start, uint32_t *order)
{
    const size_t ranks = (size_t)1 << bits;
    memset(start, 0, (ranks + 1) * sizeof *start);
    for (size_t i = 0; i < rows; i++) {
        code[i] = t2t_gray_rank(code[i]);
        start[code[i] + 1]++;
    }
    for (size_t rank = 0; rank < ranks; rank++) start[rank + 1] += start[rank];
    for (size_t i = 0; i < rows; i++) order[start[code[i]]++] = (uint32_t)i;
}

static void order_queries(const struct kde *kde, const struct unit_memory *memory, size_t unit)
{
    const struct attention_call *call = kde->call;
    const size_t rows = call->shape.queries, dim = call->shape.head_dim, bits = call->config.projections;
    kde->kernels->sign_hash(t2t_head_view(call, unit).q, call->q_stride, rows, dim,
        call->draws.projection + unit * dim * bits, bits, memory->q_code);
    sort_by_code(memory->q_code, rows, bits, memory->q_start, memory->q_order);
}

static void order_keys(const struct kde *kde, const struct unit_memory *memory, size_t unit)
{
    const struct attention_call *call = kde->call;
    const size_t rows = call->shape.keys, dim = call->shape.head_dim, bits = call->config.projections;
    kde->kernels->sign_hash(t2t_head_view(call, unit).k, call->k_stride, rows, dim,
        call->draws.projection + unit * dim * bits, bits, memory->k_code);
    sort_by_code(memory->k_code, rows, bits, memory->k_start, memory->k_order);
    for (size_t i = 0; i < rows; i++) memory->k_position[memory->k_order[i]] = (uint32_t)i;
}

/* ---- samples ---- */

static double norm_of(const double *x, size_t count)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++) squares += x[i] * x[i];
    return sqrt(squares);
}

static double dot_of(const double *x, const double *y, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += x[i] * y[i];
    return sum;
}

/* Largest eigenvalue of a symmetric tridiagonal matrix by bisection on the number of eigenvalues above; it is known to
 * be at least `low`. */
static double largest_eigenvalue(const double *diagonal, const double *beside, size_t count, double low)
{
    double high = low;
    for (size_t i = 0; i < count; i++) { /* Gershgorin */
        const double reach = diagonal[i] + (i ? beside[i - 1] : 0) + (i + 1 < count ? beside[i] : 0);
        if (reach > high) high = reach;
    }
    while (high - low > 1e-7 * high) {
        const double middle = (low + high) / 2;
        bool above = false; /* is some eigenvalue above? */
        double pivot = 1;
        for (size_t i = 0; i < count && !above; i++) {
            pivot = middle - diagonal[i] - (i ? beside[i - 1] * beside[i - 1] / pivot : 0);
            above = !(pivot > 0);
        }
        if (above)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* out = W^T W x with W = [V, 1]. */
static void times_gram(const struct attention_kernels *kernels, const float *v, size_t stride, size_t keys, size_t dim,
    const double *x, double *out, float *narrow)
{
    for (size_t c = 0; c <= dim; c++) narrow[c] = (float)x[c];
    memset(out, 0, (dim + 1) * sizeof *out);
    kernels->gram_times(v, stride, keys, dim, narrow, narrow + dim + 1, out);
}

/* A direction that no weights were trained to avoid: the fractions of multiples of the golden ratio, less a half. */
static double spread_out(size_t c)
{
    return (double)((uint32_t)(c + 1) * UINT32_C(2654435769)) * 0x1p-32 - 0.5;
}

/* Operator norm of W = [V, 1] by Lanczos' method on W^T W, every step made orthogonal to all before. It begins with the
 * sum of W's rows, its longest row and a fixed direction, each of length one, so that neither a common direction nor a
 * single huge value is missed, nor a strong direction along which rows cancel.
 * `tolerance` is that of the norm, relative: the last step must have changed it by less than a quarter. */
static double operator_norm(const struct attention_kernels *kernels, const float *v, size_t stride, size_t keys,
    size_t dim, size_t longest, double tolerance, double *vectors)
{
    const size_t width = dim + 1;
    double *basis = vectors; /* [T2T_KDE_STEPS, width] */
    double *next = vectors + T2T_KDE_STEPS * width;
    float *narrow = (float *)(next + width);
    double diagonal[T2T_KDE_STEPS], beside[T2T_KDE_STEPS], largest = 0;

    memset(basis, 0, width * sizeof *basis);
    basis[dim] = 1;
    times_gram(kernels, v, stride, keys, dim, basis, next, narrow); /* the sum of all rows */
    const double length = norm_of(next, width);
    for (size_t c = 0; c < width; c++) basis[c] = c < dim ? (double)v[longest * stride + c] : 1;
    const double longest_length = norm_of(basis, width);
    const double spread_length = sqrt((double)width / 12);
    for (size_t c = 0; c < width; c++)
        basis[c] = basis[c] / longest_length + next[c] / length + spread_out(c) / spread_length;
    const double start = norm_of(basis, width);
    for (size_t c = 0; c < width; c++) basis[c] /= start;

    for (size_t step = 0; step < T2T_KDE_STEPS; step++) {
        times_gram(kernels, v, stride, keys, dim, basis + step * width, next, narrow);
        diagonal[step] = dot_of(next, basis + step * width, width);
        for (size_t i = 0; i <= step; i++) {
            const double share = dot_of(next, basis + i * width, width);
            for (size_t c = 0; c < width; c++) next[c] -= share * basis[i * width + c];
        }
        const double before = largest;
        largest = largest_eigenvalue(diagonal, beside, step + 1, before);
        beside[step] = norm_of(next, width);
        if (!(largest - before > tolerance / 2 * largest) || !(beside[step] > 1e-7 * largest) ||
            step + 1 == (T2T_KDE_STEPS < width ? T2T_KDE_STEPS : width))
            break;
        for (size_t c = 0; c < width; c++) basis[(step + 1) * width + c] = next[c] / beside[step];
    }
    return sqrt(largest);
}

void t2t_kde_probability(const struct attention_kernels *kernels, const float *v, size_t stride, size_t keys,
    size_t dim, float *probability, double *vectors)
{
    kernels->row_norms(v, stride, keys, dim, probability);
    size_t longest = 0;
    double shortest = INFINITY, squares = 0;
    for (size_t j = 0; j < keys; j++) {
        const double norm = (double)probability[j];
        if (norm > (double)probability[longest]) longest = j;
        if (norm < shortest) shortest = norm;
        squares += norm * norm;
    }
    /* How much a relative error of the norm moves p at most: by the share that 1 / keys has in the smallest p. */
    const double share = sqrt(squares) / (double)keys / (shortest + sqrt(squares) / (double)keys);
    const double norm = operator_norm(kernels, v, stride, keys, dim, longest, 4e-5 / share, vectors);
    double sum = 0;
    for (size_t j = 0; j < keys; j++) sum += (double)probability[j] / norm + 1 / (double)keys;
    for (size_t j = 0; j < keys; j++)
        probability[j] = (float)(((double)probability[j] / norm + 1 / (double)keys) / sum);
}

void t2t_kde_cumulate(const float *probability, size_t keys, uint64_t *cumulative)
{
    uint64_t sum = 0;
    for (size_t j = 0; j < keys; j++) {
        const double units = (double)probability[j] * 0x1p32;
        sum += units >= 1 ? (uint64_t)(fmin(units, 0x1p32) + 0.5) : 1; /* NaN counts as 1 too */
        cumulative[j] = sum;
    }
}

size_t t2t_kde_pick(const uint64_t *cumulative, size_t keys, uint32_t uniform)
{
    /* uniform * total / 2^32, in two halves since the total may be a little above 2^32 */
    const uint64_t total = cumulative[keys - 1];
    const uint64_t target = uniform * (total >> 32) + (uniform * (total & UINT32_MAX) >> 32);
    size_t low = 0, high = keys - 1;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (cumulative[middle] > target)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void take_sample(
    const struct kde *kde, const struct unit_memory *memory, size_t unit, size_t sample, size_t key, double probability)
{
    const struct attention_call *call = kde->call;
    const struct head_view head = t2t_head_view(call, unit);
    const size_t dim = call->shape.head_dim, value_dim = call->shape.value_dim;
    memcpy(memory->sample_k + sample * dim, head.k + key * call->k_stride, dim * sizeof(float));
    memcpy(memory->sample_v + sample * value_dim, head.v + key * call->v_stride, value_dim * sizeof(float));
    memory->sample_weight[sample] = (float)-log2((double)call->config.samples * probability);
    memory->sample_position[sample] = memory->k_position[key];
}

static void draw_samples(const struct kde *kde, const struct unit_memory *memory, size_t unit)
{
    const struct attention_call *call = kde->call;
    const struct attention_draws *draws = &call->draws;
    const size_t samples = call->config.samples, keys = call->shape.keys;
    if (!samples) return;
    if (draws->sample_key) {
        for (size_t s = 0; s < samples; s++) {
            const size_t key = (size_t)draws->sample_key[unit * samples + s];
            take_sample(kde, memory, unit, s, key, (double)draws->sample_probability[unit * keys + key]);
        }
        return;
    }
    t2t_kde_probability(kde->kernels, t2t_head_view(call, unit).v, call->v_stride, keys, call->shape.value_dim,
        memory->probability, memory->vectors);
    t2t_kde_cumulate(memory->probability, keys, memory->cumulative);
    for (size_t s = 0; s < samples; s++) {
        const uint64_t *sums = memory->cumulative;
        const size_t key = t2t_kde_pick(sums, keys, draws->sample_uniform[unit * samples + s]);
        const uint64_t share =
            sums[key] - (key ? sums[key - 1] : 0); /* of the integers: what it is really drawn with */
        take_sample(kde, memory, unit, s, key, (double)share / (double)sums[keys - 1]);
    }
}

/* ---- blocks ---- */

/* Packs the keys of sorted positions begin ... end - 1 and says which samples are among them. */
static void gather_block(const struct kde *kde, const struct unit_memory *memory, const struct thread_memory *own,
    const struct head_view *head, size_t begin, size_t end)
{
    const struct attention_call *call = kde->call;
    const size_t dim = call->shape.head_dim, value_dim = call->shape.value_dim;
    for (size_t i = 0; i < end - begin; i++) {
        const size_t key = memory->k_order[begin + i];
        memcpy(own->k + i * dim, head->k + key * call->k_stride, dim * sizeof(float));
        memcpy(own->v + i * value_dim, head->v + key * call->v_stride, value_dim * sizeof(float));
    }
    for (size_t s = 0; s < call->config.samples; s++) {
        const bool inside = memory->sample_position[s] >= begin && memory->sample_position[s] < end;
        own->bias[s] = inside ? -1e30F : memory->sample_weight[s]; /* the block itself counts it */
    }
}

static void attend_block(
    const struct kde *kde, const struct unit_memory *memory, const struct thread_memory *own, size_t unit, size_t block)
{
    const struct attention_call *call = kde->call;
    const struct attention_shape *shape = &call->shape;
    const struct head_view head = t2t_head_view(call, unit);
    const size_t begin = block * kde->bucket;
    const size_t end = begin + kde->bucket < shape->keys ? begin + kde->bucket : shape->keys;
    const size_t last = (block + 1) * kde->rows < shape->queries ? (block + 1) * kde->rows : shape->queries;
    gather_block(kde, memory, own, &head, begin, end);
    const struct key_run block_keys = {
        .k = own->k, .v = own->v, .k_stride = shape->head_dim, .v_stride = shape->value_dim, .keys = end - begin};
    const struct key_run samples = {.k = memory->sample_k,
        .v = memory->sample_v,
        .k_stride = shape->head_dim,
        .v_stride = shape->value_dim,
        .keys = call->config.samples,
        .bias = own->bias};
    for (size_t first = block * kde->rows; first < last; first += kde->kernels->lanes) {
        const float *q[T2T_MAX_LANES];
        float *out[T2T_MAX_LANES];
        const size_t count = last - first < kde->kernels->lanes ? last - first : kde->kernels->lanes;
        for (size_t i = 0; i < count; i++) {
            const size_t query = memory->q_order[first + i];
            q[i] = head.q + query * call->q_stride;
            out[i] = head.out + query * call->out_stride;
        }
        t2t_begin_tile(kde->kernels, &own->tile, q, count, shape->scale);
        kde->kernels->attend(&own->tile, &block_keys);
        kde->kernels->attend(&own->tile, &samples);
        kde->kernels->store_values(&own->tile, out, count);
    }
}

/* ---- memory and threads ---- */

static struct unit_memory take_unit(struct t2t_arena *arena, const struct attention_call *call)
{
    const size_t queries = call->shape.queries, keys = call->shape.keys, samples = call->config.samples;
    const size_t ranks = ((size_t)1 << call->config.projections) + 1;
    struct unit_memory unit;
    unit.q_code = t2t_arena_take(arena, queries, sizeof *unit.q_code);
    unit.k_code = t2t_arena_take(arena, keys, sizeof *unit.k_code);
    unit.q_start = t2t_arena_take(arena, ranks, sizeof *unit.q_start);
    unit.k_start = t2t_arena_take(arena, ranks, sizeof *unit.k_start);
    unit.q_order = t2t_arena_take(arena, queries, sizeof *unit.q_order);
    unit.k_order = t2t_arena_take(arena, keys, sizeof *unit.k_order);
    unit.k_position = t2t_arena_take(arena, keys, sizeof *unit.k_position);
    unit.probability = t2t_arena_take(arena, keys, sizeof *unit.probability);
    unit.vectors = t2t_arena_take(arena, T2T_KDE_VECTORS * (call->shape.value_dim + 1), sizeof *unit.vectors);
    unit.cumulative = t2t_arena_take(arena, keys, sizeof *unit.cumulative);
    unit.sample_position = t2t_arena_take(arena, samples, sizeof *unit.sample_position);
    unit.sample_k = t2t_arena_take(arena, samples * call->shape.head_dim, sizeof *unit.sample_k);
    unit.sample_v = t2t_arena_take(arena, samples * call->shape.value_dim, sizeof *unit.sample_v);
    unit.sample_weight = t2t_arena_take(arena, samples, sizeof *unit.sample_weight);
    return unit;
}

static struct thread_memory take_thread(struct t2t_arena *arena, const struct kde *kde)
{
    struct thread_memory own;
    own.tile = t2t_take_tile(arena, kde->kernels, &kde->call->shape);
    own.k = t2t_arena_take(arena, kde->bucket * kde->call->shape.head_dim, sizeof *own.k);
    own.v = t2t_arena_take(arena, kde->bucket * kde->call->shape.value_dim, sizeof *own.v);
    own.bias = t2t_arena_take(arena, kde->call->config.samples, sizeof *own.bias);
    return own;
}

/* Units in parallel. */
static void attend_whole_units(const struct kde *kde, size_t threads, size_t units)
{
#pragma omp parallel for num_threads((int)threads) schedule(dynamic)
    for (size_t unit = 0; unit < units; unit++) {
        const struct unit_memory *memory = &kde->unit_memory[t2t_this_thread()];
        const struct thread_memory *own = &kde->thread_memory[t2t_this_thread()];
        order_queries(kde, memory, unit);
        order_keys(kde, memory, unit);
        draw_samples(kde, memory, unit);
        for (size_t block = 0; block < kde->blocks; block++) attend_block(kde, memory, own, unit, block);
    }
}

/* The steps of each unit in parallel. */
static void attend_shared_units(const struct kde *kde, size_t threads, size_t units)
{
#pragma omp parallel num_threads((int)threads)
    {
#pragma omp for schedule(dynamic)
        for (size_t task = 0; task < 2 * units; task++) {
            const size_t unit = task / 2;
            const struct unit_memory *memory = &kde->unit_memory[unit];
            if (task % 2) {
                order_queries(kde, memory, unit);
            } else {
                order_keys(kde, memory, unit);
                draw_samples(kde, memory, unit);
            }
        }
#pragma omp for schedule(dynamic)
        for (size_t task = 0; task < units * kde->blocks; task++)
            attend_block(kde, &kde->unit_memory[task / kde->blocks], &kde->thread_memory[t2t_this_thread()],
                task / kde->blocks, task % kde->blocks);
    }
}

void t2t_kde_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const struct attention_call *call = attention->call;
    const size_t threads = attention->threads, units = call->batch * call->shape.heads;
    const size_t in_flight = units < threads ? units : threads;
    struct kde kde = {.kernels = attention->kernels, .call = call};
    kde.bucket = call->config.bucket < call->shape.keys ? call->config.bucket : call->shape.keys;
    kde.blocks = (call->shape.keys + kde.bucket - 1) / kde.bucket;
    kde.rows = (call->shape.queries + kde.blocks - 1) / kde.blocks;
    kde.unit_memory = t2t_arena_take(arena, in_flight, sizeof *kde.unit_memory);
    kde.thread_memory = t2t_arena_take(arena, threads, sizeof *kde.thread_memory);
    for (size_t i = 0; i < in_flight; i++) {
        const struct unit_memory unit = take_unit(arena, call);
        if (kde.unit_memory) kde.unit_memory[i] = unit;
    }
    for (size_t i = 0; i < threads; i++) {
        const struct thread_memory own = take_thread(arena, &kde);
        if (kde.thread_memory) kde.thread_memory[i] = own;
    }
    if (!arena->memory) return;
    if (units < threads)
        attend_shared_units(&kde, threads, units);
    else
        attend_whole_units(&kde, threads, units);
}
