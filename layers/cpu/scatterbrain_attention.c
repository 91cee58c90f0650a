/* ScatterBrain's attention with a local window (Chen et al., NeurIPS 2021): the keys of a query's window exactly, all
 * others by positive features exp(+-w x - |x|^2 / 2). layers/methods.md has formulas, steps and their reasons.
 *
 * The features' share of the window is never subtracted: where it is nearly everything, nothing true would be left.
 * Instead the keys before and behind the windows of a tile of queries are summed by features, and the few keys between,
 * which are in some window of the tile but not in all, are weighed one by one.
 */
#include <string.h>

#include "layers/cpu/feature_sums.h"

enum { GROUP = 64 /* queries of a task, a multiple of every set's lanes */ };

/* Memory of one unit. Chunk c holds keys border(c) ... border(c + 1) - 1. */
struct unit_memory {
    float *w;                   /* [features, head_dim]: the drawn rows, then the same negated */
    float *key_bias;            /* [keys] */
    float *key_scores;          /* [keys, features] w.y - |y|^2 / 2 in base 2 */
    struct feature_sums *until; /* [chunks + 1] of the keys before a border */
    struct feature_sums *from;  /* [chunks + 1] of those behind; at first of one chunk */
};

/* Memory of one thread. */
struct thread_memory {
    struct query_tile near, far; /* a tile of queries with the keys of its windows, and with all others */
    struct query_tile *features; /* [feature tiles] */
    float *scores;               /* [KEY_BLOCK, lanes] */
    float *query_scores;         /* [features, lanes] */
    struct feature_sums before;  /* of the keys before a tile */
    struct feature_sums *behind; /* [tiles of a group] of those behind */
    double *mean;                /* [value_dim] */
};

struct scatterbrain {
    const struct attention_kernels *kernels;
    const struct attention_call *call;
    size_t window, left; /* a query sees keys i - left ... i - left + window - 1 exactly */
    size_t features, feature_tiles;
    size_t chunks;
    const float *in_window,
        *off_window; /* [window + lanes - 1, lanes] biases of a tile's keys: hidden outside, inside */
    struct unit_memory *unit_memory;
    struct thread_memory *thread_memory;
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* First key of the windows of queries that begin at `query`, or the end of the keys. */
static size_t first_key(const struct scatterbrain *brain, size_t query)
{
    return query < brain->left ? 0 : least(query - brain->left, brain->call->shape.keys);
}

/* First key behind the windows of a tile that begins at `query`. */
static size_t end_key(const struct scatterbrain *brain, size_t query)
{
    return first_key(brain, query + brain->kernels->lanes - 1 + brain->window);
}

static size_t border(const struct scatterbrain *brain, size_t chunk)
{
    return first_key(brain, chunk * GROUP);
}

/* ---- sums over chunks of keys ---- */

static void prepare_features(const void *method, struct task_place place, size_t task)
{
    const struct scatterbrain *brain = method;
    const size_t drawn = brain->features / 2 * brain->call->shape.head_dim;
    const float *w = brain->call->draws.features + place.unit * drawn;
    float *both = brain->unit_memory[place.memory].w;
    (void)task;
    for (size_t i = 0; i < drawn; i++) {
        both[i] = w[i];
        both[drawn + i] = -w[i];
    }
}

/* key_scores of a run of keys under the features of a tile, number `first` on. */
static void score_keys(const struct scatterbrain *brain, const struct query_tile *tile, float *scores,
    const struct key_run *keys, size_t first, float *key_scores)
{
    const size_t lanes = brain->kernels->lanes, count = least(lanes, brain->features - first);
    for (size_t begin = 0; begin < keys->keys; begin += T2T_KEY_BLOCK) {
        const struct key_run block = {.k = keys->k + begin * keys->k_stride,
            .k_stride = keys->k_stride,
            .keys = least(T2T_KEY_BLOCK, keys->keys - begin),
            .bias = keys->bias + begin};
        brain->kernels->score(tile, &block, scores);
        for (size_t j = 0; j < block.keys; j++)
            memcpy(key_scores + (begin + j) * brain->features + first, scores + j * lanes, count * sizeof *scores);
    }
}

static void sum_chunk(const void *method, struct task_place place, size_t chunk)
{
    const struct scatterbrain *brain = method;
    const struct attention_call *call = brain->call;
    const struct unit_memory *memory = &brain->unit_memory[place.memory];
    const struct thread_memory *own = &brain->thread_memory[place.thread];
    const struct head_view head = t2t_head_view(call, place.unit);
    const size_t begin = border(brain, chunk), end = border(brain, chunk + 1), dim = call->shape.head_dim;
    t2t_key_bias(call, &head, begin, end, memory->key_bias);
    const struct key_run keys = t2t_biased_keys(call, &head, memory->key_bias, begin, end);
    t2t_sum_keys(
        brain->kernels, &own->near, memory->w, brain->features, call->shape.scale, &keys, &memory->from[chunk]);
    for (size_t first = 0; first < brain->features; first += brain->kernels->lanes) {
        t2t_begin_features(brain->kernels, &own->near, memory->w + first * dim,
            least(brain->kernels->lanes, brain->features - first), call->shape.scale);
        score_keys(brain, &own->near, own->scores, &keys, first, memory->key_scores + begin * brain->features);
    }
}

/* From one chunk each to all before and all behind every border. */
static void scan_chunks(const void *method, struct task_place place, size_t feature)
{
    const struct scatterbrain *brain = method;
    const size_t value_dim = brain->call->shape.value_dim;
    const struct unit_memory *memory = &brain->unit_memory[place.memory];
    double *mean = brain->thread_memory[place.thread].mean, weight = T2T_NO_KEYS;
    memset(mean, 0, value_dim * sizeof *mean);
    for (size_t chunk = 0; chunk < brain->chunks; chunk++) {
        t2t_round_feature(weight, mean, &memory->until[chunk], feature, value_dim);
        t2t_add_feature(&weight, mean, &memory->from[chunk], feature, value_dim);
    }
    t2t_round_feature(weight, mean, &memory->until[brain->chunks], feature, value_dim);
    weight = T2T_NO_KEYS;
    memset(mean, 0, value_dim * sizeof *mean);
    t2t_round_feature(weight, mean, &memory->from[brain->chunks], feature, value_dim);
    for (size_t chunk = brain->chunks; chunk-- > 0;) {
        t2t_add_feature(&weight, mean, &memory->from[chunk], feature, value_dim);
        t2t_round_feature(weight, mean, &memory->from[chunk], feature, value_dim);
    }
}

/* ---- a group of queries ---- */

/* The features' running softmaxes, from the sums at a border (`empty`: no keys there). */
static void begin_border(const struct scatterbrain *brain, const struct unit_memory *memory,
    const struct thread_memory *own, const struct feature_sums *sums, bool empty)
{
    const struct attention_shape *shape = &brain->call->shape;
    const size_t lanes = brain->kernels->lanes;
    for (size_t t = 0; t < brain->feature_tiles; t++) {
        const size_t count = least(lanes, brain->features - t * lanes);
        t2t_begin_features(
            brain->kernels, &own->features[t], memory->w + t * lanes * shape->head_dim, count, shape->scale);
        if (!empty) t2t_load_features(brain->kernels, &own->features[t], sums, t * lanes, count);
    }
}

static void take_keys(const struct scatterbrain *brain, const struct unit_memory *memory,
    const struct thread_memory *own, const struct head_view *head, size_t begin, size_t end)
{
    if (begin >= end) return;
    const struct key_run keys = t2t_biased_keys(brain->call, head, memory->key_bias, begin, end);
    for (size_t t = 0; t < brain->feature_tiles; t++) brain->kernels->attend(&own->features[t], &keys);
}

static void keep_sums(
    const struct scatterbrain *brain, const struct thread_memory *own, const struct feature_sums *sums)
{
    const size_t lanes = brain->kernels->lanes;
    for (size_t t = 0; t < brain->feature_tiles; t++)
        t2t_store_features(
            brain->kernels, &own->features[t], sums, t * lanes, least(lanes, brain->features - t * lanes));
}

/* For each tile of a group the sums of the keys behind it, the last tile first. */
static void sum_behind(const struct scatterbrain *brain, const struct unit_memory *memory,
    const struct thread_memory *own, const struct head_view *head, size_t first, size_t tiles)
{
    const size_t lanes = brain->kernels->lanes, keys = brain->call->shape.keys;
    size_t end = end_key(brain, first + (tiles - 1) * lanes), chunk = 0;
    /* first border that is not before `end`: border(c) = c GROUP - left until it meets the end of the keys */
    chunk = least((end + brain->left + GROUP - 1) / GROUP, brain->chunks);
    begin_border(brain, memory, own, &memory->from[chunk], border(brain, chunk) == keys);
    size_t done = border(brain, chunk);
    for (size_t tile = tiles; tile-- > 0;) {
        end = end_key(brain, first + tile * lanes);
        take_keys(brain, memory, own, head, end, done);
        done = end;
        if (end < keys) keep_sums(brain, own, &own->behind[tile]);
    }
}

/* The keys of a tile's windows, each lane its own. */
static void attend_near(const struct scatterbrain *brain, const struct query_tile *tile, const struct head_view *head,
    size_t begin, size_t end, size_t skipped)
{
    const struct attention_call *call = brain->call;
    const struct key_run keys = {.k = head->k + begin * call->k_stride,
        .v = head->v + begin * call->v_stride,
        .k_stride = call->k_stride,
        .v_stride = call->v_stride,
        .keys = end - begin,
        .lane_bias = brain->in_window + skipped * brain->kernels->lanes};
    brain->kernels->attend(tile, &keys);
}

/* Keys begin ... end - 1, which lie in some window of the tile, for those lanes whose windows they are not in. */
static void attend_between(const struct scatterbrain *brain, const struct unit_memory *memory,
    const struct thread_memory *own, const struct head_view *head, size_t begin, size_t end, size_t place)
{
    if (begin >= end) return;
    const struct feature_run keys = {.features = brain->features,
        .query = own->query_scores,
        .key = memory->key_scores + begin * brain->features,
        .v = head->v + begin * brain->call->v_stride,
        .v_stride = brain->call->v_stride,
        .keys = end - begin,
        .lane_bias = brain->off_window + place * brain->kernels->lanes};
    brain->kernels->attend_features(&own->far, &keys);
}

/* Joins both kinds of keys in `near`: exp(s) of the window, the mean of the features' products of the others, whose sum
 * counts as at least 1e-24. */
static void join_near_and_far(
    const struct scatterbrain *brain, const struct thread_memory *own, const float *const *q, size_t count)
{
    static const double log2_e = 1.4426950408889634, log2_floor = -79.726274277296695; /* of 1e-24 */
    const size_t lanes = brain->kernels->lanes, dim = brain->call->shape.head_dim;
    float near_share[T2T_MAX_LANES] = {0}, far_share[T2T_MAX_LANES] = {0};
    for (size_t i = 0; i < count; i++) {
        const double far = (double)own->far.maximum[i] -
                           log2_e / 2 * (double)brain->call->shape.scale * t2t_squares(q[i], dim) -
                           log2((double)brain->features);
        const double near = (double)own->near.maximum[i];
        double top = near > far ? near : far;
        if (!(top > log2_floor)) top = top <= log2_floor ? log2_floor : top; /* NaN stays */
        const double far_sum = exp2(far - top) * (double)own->far.sum[i], floor_sum = exp2(log2_floor - top);
        near_share[i] = (float)exp2(near - top);
        far_share[i] = (float)exp2(far - top);
        own->near.sum[i] =
            (float)(exp2(near - top) * (double)own->near.sum[i] + (far_sum < floor_sum ? floor_sum : far_sum));
    }
    for (size_t c = 0; c < brain->call->shape.value_dim; c++)
        for (size_t i = 0; i < lanes; i++) {
            float *value = &own->near.value[c * lanes + i];
            *value = *value * near_share[i] + own->far.value[c * lanes + i] * far_share[i];
        }
}

static void begin_tile(const struct scatterbrain *brain, const struct unit_memory *memory,
    const struct thread_memory *own, const float *const *q, size_t count)
{
    const struct attention_shape *shape = &brain->call->shape;
    const size_t lanes = brain->kernels->lanes;
    t2t_begin_tile(brain->kernels, &own->near, q, count, shape->scale);
    t2t_begin_feature_queries(brain->kernels, &own->far, q, count, shape->scale);
    for (size_t i = 0; i < lanes; i++) own->near.maximum[i] = own->far.maximum[i] = T2T_HIDDEN;
    const struct key_run rows = {.k = memory->w, .k_stride = shape->head_dim, .keys = brain->features};
    brain->kernels->score(&own->far, &rows, own->query_scores);
}

static void answer_tile(const struct scatterbrain *brain, const struct unit_memory *memory,
    const struct thread_memory *own, const struct head_view *head, size_t first, const struct feature_sums *behind)
{
    const struct attention_call *call = brain->call;
    const struct attention_shape *shape = &call->shape;
    const size_t lanes = brain->kernels->lanes, count = least(lanes, shape->queries - first);
    const size_t begin = first_key(brain, first), end = end_key(brain, first);
    const float *q[T2T_MAX_LANES];
    float *out[T2T_MAX_LANES];
    for (size_t i = 0; i < count; i++) {
        q[i] = head->q + (first + i) * call->q_stride;
        out[i] = head->out + (first + i) * call->out_stride;
    }
    begin_tile(brain, memory, own, q, count);
    const struct feature_sums *sides[] = {begin > 0 ? &own->before : NULL, end < shape->keys ? behind : NULL};
    for (size_t side = 0; side < 2; side++) {
        if (!sides[side]) continue;
        const struct key_run keys =
            t2t_features_as_keys(memory->w, brain->features, shape->head_dim, shape->value_dim, sides[side]);
        brain->kernels->attend(&own->far, &keys);
    }
    if (begin < end) {
        /* place of a key among those of the tile: 0 is the first of the first query's window, were there so many */
        const size_t place = begin + brain->left - first;
        const size_t all_see = lanes - 1, none_miss = brain->window; /* places that every window holds */
        const size_t left_end = all_see > place ? begin + all_see - place : begin;
        const size_t right_begin = none_miss > place ? begin + none_miss - place : begin;
        attend_near(brain, &own->near, head, begin, end, place);
        if (right_begin > left_end) {
            attend_between(brain, memory, own, head, begin, least(left_end, end), place);
            attend_between(
                brain, memory, own, head, least(right_begin, end), end, place + (least(right_begin, end) - begin));
        } else {
            attend_between(brain, memory, own, head, begin, end, place);
        }
    }
    join_near_and_far(brain, own, q, count);
    brain->kernels->store_values(&own->near, out, count);
}

static void answer_group(const void *method, struct task_place place, size_t group)
{
    const struct scatterbrain *brain = method;
    const struct attention_shape *shape = &brain->call->shape;
    const struct unit_memory *memory = &brain->unit_memory[place.memory];
    const struct thread_memory *own = &brain->thread_memory[place.thread];
    const struct head_view head = t2t_head_view(brain->call, place.unit);
    const size_t lanes = brain->kernels->lanes, first = group * GROUP;
    const size_t tiles = (least(GROUP, shape->queries - first) + lanes - 1) / lanes;
    sum_behind(brain, memory, own, &head, first, tiles);
    size_t done = first_key(brain, first);
    begin_border(brain, memory, own, &memory->until[least(group, brain->chunks)], done == 0);
    for (size_t tile = 0; tile < tiles; tile++) {
        const size_t begin = first_key(brain, first + tile * lanes);
        take_keys(brain, memory, own, &head, done, begin);
        done = begin;
        if (begin > 0) keep_sums(brain, own, &own->before);
        answer_tile(brain, memory, own, &head, first + tile * lanes, &own->behind[tile]);
    }
}

/* ---- memory and steps ---- */

static struct feature_sums *take_sums(struct t2t_arena *arena, const struct scatterbrain *brain, size_t count)
{
    struct feature_sums *sums = t2t_arena_take(arena, count, sizeof *sums);
    for (size_t i = 0; i < count; i++) {
        const struct feature_sums one = t2t_take_feature_sums(arena, brain->features, brain->call->shape.value_dim);
        if (sums) sums[i] = one;
    }
    return sums;
}

static struct unit_memory take_unit(struct t2t_arena *arena, const struct scatterbrain *brain)
{
    const struct attention_shape *shape = &brain->call->shape;
    struct unit_memory unit;
    unit.w = t2t_arena_take(arena, brain->features * shape->head_dim, sizeof *unit.w);
    unit.key_bias = t2t_arena_take(arena, shape->keys, sizeof *unit.key_bias);
    unit.key_scores = t2t_arena_take(arena, shape->keys * brain->features, sizeof *unit.key_scores);
    unit.until = take_sums(arena, brain, brain->chunks + 1);
    unit.from = take_sums(arena, brain, brain->chunks + 1);
    return unit;
}

static struct thread_memory take_thread(struct t2t_arena *arena, const struct scatterbrain *brain)
{
    const struct attention_shape *shape = &brain->call->shape;
    const size_t lanes = brain->kernels->lanes;
    struct thread_memory own;
    own.near = t2t_take_tile(arena, brain->kernels, shape);
    own.far = t2t_take_tile(arena, brain->kernels, shape);
    own.features = t2t_arena_take(arena, brain->feature_tiles, sizeof *own.features);
    for (size_t t = 0; t < brain->feature_tiles; t++) {
        const struct query_tile tile = t2t_take_tile(arena, brain->kernels, shape);
        if (own.features) own.features[t] = tile;
    }
    own.scores = t2t_arena_take(arena, T2T_KEY_BLOCK * lanes, sizeof *own.scores);
    own.query_scores = t2t_arena_take(arena, brain->features * lanes, sizeof *own.query_scores);
    own.before = t2t_take_feature_sums(arena, brain->features, shape->value_dim);
    own.behind = take_sums(arena, brain, GROUP / lanes);
    own.mean = t2t_arena_take(arena, shape->value_dim, sizeof *own.mean);
    return own;
}

/* Biases by place: lane i's window holds places i ... i + window - 1. */
static void fill_biases(float *in_window, float *off_window, size_t window, size_t lanes)
{
    for (size_t place = 0; place < window + lanes - 1; place++)
        for (size_t i = 0; i < lanes; i++) {
            const bool inside = place >= i && place < i + window;
            in_window[place * lanes + i] = inside ? 0 : T2T_HIDDEN;
            off_window[place * lanes + i] = inside ? T2T_HIDDEN : 0;
        }
}

void t2t_scatterbrain_attention(const struct cpu_attention *attention, struct t2t_arena *arena)
{
    const struct attention_call *call = attention->call;
    const size_t units = t2t_units_at_a_time(attention), lanes = attention->kernels->lanes;
    struct scatterbrain brain = {.kernels = attention->kernels,
        .call = call,
        .window = call->config.window,
        .left = call->config.window / 2,
        .features = call->config.features};
    brain.feature_tiles = (brain.features + lanes - 1) / lanes;
    brain.chunks = (call->shape.keys + brain.left + GROUP - 1) / GROUP;
    const size_t places = (brain.window + lanes - 1) * lanes;
    float *const in_window = t2t_arena_take(arena, places, sizeof *in_window);
    float *const off_window = t2t_arena_take(arena, places, sizeof *off_window);
    brain.unit_memory = t2t_arena_take(arena, units, sizeof *brain.unit_memory);
    brain.thread_memory = t2t_arena_take(arena, attention->threads, sizeof *brain.thread_memory);
    for (size_t i = 0; i < units; i++) {
        const struct unit_memory unit = take_unit(arena, &brain);
        if (brain.unit_memory) brain.unit_memory[i] = unit;
    }
    for (size_t i = 0; i < attention->threads; i++) {
        const struct thread_memory own = take_thread(arena, &brain);
        if (brain.thread_memory) brain.thread_memory[i] = own;
    }
    if (!arena->memory) return;
    fill_biases(in_window, off_window, brain.window, lanes);
    brain.in_window = in_window;
    brain.off_window = off_window;
    const struct unit_step steps[] = {{1, prepare_features, 0}, {brain.chunks, sum_chunk, 0},
        {brain.features, scan_chunks, 0}, {(call->shape.queries + GROUP - 1) / GROUP, answer_group, 0}};
    t2t_run_units(attention, steps, sizeof steps / sizeof *steps, &brain);
}
