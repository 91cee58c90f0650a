/* The kernels that Performer, Reformer and ScatterBrain brought, each set that this machine can run against plain C:
 * scores, biases that differ from lane to lane, weights that are sums over features. Sizes lie below, at and above the
 * edges of tiles and of blocks of keys; outputs are followed by guards; some scores overflow unshifted.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/cpu/kernels.h"
#include "layers/cpu/reformer_attention.h"
#include "layers/tests/synthetic_numbers.h"

enum { GAP = 3, GUARD = 16, QUERIES = 32 /* of any set's tiles a multiple */ };
static const float guard = -7.25e33F;

static const struct attention_kernels *plain_c(void)
{
    size_t last = 0;
    while (t2t_kernel_sets[last + 1]) last++;
    assert_string_equal(t2t_kernel_sets[last]->name, "c");
    return t2t_kernel_sets[last];
}

static float *guarded(size_t count)
{
    float *memory = malloc((count + GUARD) * sizeof *memory);
    assert_non_null(memory);
    for (size_t i = 0; i < count + GUARD; i++) memory[i] = guard;
    return memory;
}

static void release(float *memory, size_t count)
{
    for (size_t i = 0; i < GUARD; i++) assert_memory_equal(&memory[count + i], &guard, sizeof guard);
    free(memory);
}

static float *numbers(const char *name, size_t count, float factor)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    synthetic_uniform(name, 1, count, values);
    for (size_t i = 0; i < count; i++) values[i] *= factor;
    return values;
}

/* Thirty-two queries and what they meet. Keys' rows and values' rows are GAP apart, `hidden` is by query. */
struct problem {
    size_t head_dim, value_dim, keys, features;
    float factor;
    float *q, *k, *v, *bias, *feature_of_key, *hidden; /* feature_of_key [keys, features], hidden [keys, QUERIES] */
};

static struct problem open_problem(size_t head_dim, size_t value_dim, size_t keys, size_t features, float factor)
{
    struct problem problem = {head_dim, value_dim, keys, features, factor, .q = numbers("q", QUERIES * head_dim, 1),
        .k = numbers("k", keys * (head_dim + GAP), 2), .v = numbers("v", keys * (value_dim + GAP), 1),
        .bias = numbers("bias", keys, 6), .feature_of_key = numbers("features", keys * features, factor),
        .hidden = numbers("hidden", keys * QUERIES, 1)};
    /* a band, as ScatterBrain's windows: some halves of tiles see nothing of a key; and a key that nobody sees */
    for (size_t j = 0; j < keys; j++)
        for (size_t i = 0; i < QUERIES; i++)
            problem.hidden[j * QUERIES + i] = j % 50 <= i + 2 && j % 7 != 3 ? 0 : T2T_HIDDEN;
    return problem;
}

static void close_problem(struct problem *problem)
{
    free(problem->q);
    free(problem->k);
    free(problem->v);
    free(problem->bias);
    free(problem->feature_of_key);
    free(problem->hidden);
}

/* ---- one tile of a set ---- */

struct tile {
    struct query_tile tile;
    size_t lanes;
    float *hidden; /* [keys, lanes] of these queries */
};

static struct tile open_tile(const struct attention_kernels *set, const struct problem *problem, size_t first)
{
    const size_t lanes = set->lanes;
    struct tile own = {.tile = {.head_dim = problem->head_dim, .value_dim = problem->value_dim}, .lanes = lanes};
    own.tile.query = guarded(problem->head_dim * lanes);
    own.tile.maximum = guarded(lanes);
    own.tile.sum = guarded(lanes);
    own.tile.value = guarded(problem->value_dim * lanes);
    own.tile.scores = guarded(T2T_MOST_KEYS * lanes);
    own.hidden = guarded(problem->keys * lanes);
    const float *rows[T2T_MAX_LANES];
    for (size_t i = 0; i < lanes; i++) {
        rows[i] = problem->q + (first + i) * problem->head_dim;
        own.tile.maximum[i] = T2T_HIDDEN;
        own.tile.sum[i] = 0;
        for (size_t j = 0; j < problem->keys; j++) own.hidden[j * lanes + i] = problem->hidden[j * QUERIES + first + i];
    }
    for (size_t i = 0; i < problem->value_dim * lanes; i++) own.tile.value[i] = 0;
    set->load_queries(rows, lanes, problem->head_dim, problem->factor, own.tile.query);
    return own;
}

static void close_tile(struct tile *own, const struct problem *problem)
{
    release(own->tile.query, problem->head_dim * own->lanes);
    release(own->tile.maximum, own->lanes);
    release(own->tile.sum, own->lanes);
    release(own->tile.value, problem->value_dim * own->lanes);
    release(own->tile.scores, T2T_MOST_KEYS * own->lanes);
    release(own->hidden, problem->keys * own->lanes);
}

static struct key_run keys_of(const struct problem *problem, const struct tile *own)
{
    return (struct key_run){.k = problem->k,
        .v = problem->v,
        .k_stride = problem->head_dim + GAP,
        .v_stride = problem->value_dim + GAP,
        .keys = problem->keys,
        .bias = problem->bias,
        .lane_bias = own->hidden};
}

/* What a slot makes of a problem, by query: `width` numbers each. */
typedef void slot_run(const struct attention_kernels *set, const struct problem *problem, struct tile *own, float *out);

static void run_score(const struct attention_kernels *set, const struct problem *problem, struct tile *own, float *out)
{
    const struct key_run run = keys_of(problem, own);
    float *scores = guarded(problem->keys * set->lanes);
    set->score(&own->tile, &run, scores);
    for (size_t j = 0; j < problem->keys; j++)
        for (size_t i = 0; i < set->lanes; i++) out[i * problem->keys + j] = scores[j * set->lanes + i];
    release(scores, problem->keys * set->lanes);
}

/* [maximum, the mean of v] of each query, its sum checked by the mean. */
static void store(const struct attention_kernels *set, const struct problem *problem, struct tile *own, float *out)
{
    float *rows[T2T_MAX_LANES];
    for (size_t i = 0; i < set->lanes; i++) {
        out[i * (problem->value_dim + 1)] = own->tile.maximum[i];
        rows[i] = out + i * (problem->value_dim + 1) + 1;
    }
    set->store_values(&own->tile, rows, set->lanes);
}

static void run_attend(const struct attention_kernels *set, const struct problem *problem, struct tile *own, float *out)
{
    const struct key_run run = keys_of(problem, own);
    set->attend(&own->tile, &run);
    store(set, problem, own, out);
}

/* Some keys as such first, so that a running softmax goes on. */
static void run_features(
    const struct attention_kernels *set, const struct problem *problem, struct tile *own, float *out)
{
    struct key_run first = keys_of(problem, own);
    float *scores = malloc(problem->features * set->lanes * sizeof *scores);
    float *rows = numbers("w", problem->features * problem->head_dim, 1);
    assert_non_null(scores);
    first.keys = problem->keys < 2 ? problem->keys : 2;
    set->attend(&own->tile, &first);
    const struct key_run features = {.k = rows, .k_stride = problem->head_dim, .keys = problem->features};
    set->score(&own->tile, &features, scores);
    const struct feature_run run = {.features = problem->features,
        .query = scores,
        .key = problem->feature_of_key,
        .v = problem->v,
        .v_stride = problem->value_dim + GAP,
        .keys = problem->keys,
        .lane_bias = own->hidden};
    set->attend_features(&own->tile, &run);
    store(set, problem, own, out);
    free(scores);
    free(rows);
}

static float *run_set(const struct attention_kernels *set, const struct problem *problem, slot_run *slot, size_t width)
{
    float *out = malloc(QUERIES * width * sizeof *out);
    assert_non_null(out);
    for (size_t first = 0; first < QUERIES; first += set->lanes) {
        struct tile own = open_tile(set, problem, first);
        slot(set, problem, &own, out + first * width);
        close_tile(&own, problem);
    }
    return out;
}

/* Scores may differ by some of their last places, results by as much as that moves weights. */
static void compare(
    const struct attention_kernels *set, const struct problem *problem, slot_run *slot, size_t width, const char *name)
{
    float *wanted = run_set(plain_c(), problem, slot, width), *found = run_set(set, problem, slot, width);
    const double largest = (double)problem->factor * 2 * (double)problem->head_dim + 6;
    const double allowed = 1e-6 * (1 + largest / 4);
    for (size_t i = 0; i < QUERIES * width; i++) {
        const double size = fabs((double)wanted[i]);
        if (!(fabs((double)found[i] - (double)wanted[i]) <= allowed * (size > 1 ? size : 1)))
            fail_msg("%s, %s: head_dim %zu, value_dim %zu, %zu keys, %zu features, factor %g: query %zu, number %zu is "
                     "%g, plain C has %g",
                set->name, name, problem->head_dim, problem->value_dim, problem->keys, problem->features,
                (double)problem->factor, i / width, i % width, (double)found[i], (double)wanted[i]);
    }
    free(wanted);
    free(found);
}

static void compare_slots(
    const struct attention_kernels *set, size_t head_dim, size_t value_dim, size_t keys, size_t features, float factor)
{
    struct problem problem = open_problem(head_dim, value_dim, keys, features, factor);
    compare(set, &problem, run_score, keys, "score");
    compare(set, &problem, run_attend, value_dim + 1, "attend");
    compare(set, &problem, run_features, value_dim + 1, "attend_features");
    close_problem(&problem);
}

static void every_set_as_plain_c(void **state)
{
    (void)state;
    static const size_t dims[] = {1, 5, 7, 8, 9, 64}, key_counts[] = {1, 2, 5, 6, 7, 111, 112, 113, 230};
    static const size_t feature_counts[] = {1, 2, 17, 48};
    static const float factors[] = {0.5F, 200};
    for (size_t s = 0; t2t_kernel_sets[s]; s++) {
        if (!t2t_kernel_sets[s]->supported()) continue;
        size_t count = 0;
        for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
            for (size_t j = 0; j < sizeof key_counts / sizeof *key_counts; j++, count++)
                compare_slots(t2t_kernel_sets[s], dims[d], dims[(d + j) % 6], key_counts[j], feature_counts[count % 4],
                    factors[(count + d) % 2]);
        print_message("  %s: %zu problems\n", t2t_kernel_sets[s]->name, count);
    }
}

/* A lane that no key has shown itself to keeps its maximum and sums (next to) nothing, whatever the scores are. */
static void hidden_lanes_stay_empty(void **state)
{
    (void)state;
    for (size_t s = 0; t2t_kernel_sets[s]; s++) {
        const struct attention_kernels *set = t2t_kernel_sets[s];
        if (!set->supported()) continue;
        struct problem problem = open_problem(8, 9, 30, 5, 200);
        for (size_t j = 0; j < problem.keys; j++) problem.hidden[j * QUERIES + 3] = T2T_HIDDEN;
        struct tile own = open_tile(set, &problem, 0);
        float *scores = numbers("w", problem.features * set->lanes, 300);
        const struct feature_run run = {.features = problem.features,
            .query = scores,
            .key = problem.feature_of_key,
            .v = problem.v,
            .v_stride = problem.value_dim + GAP,
            .keys = problem.keys,
            .lane_bias = own.hidden};
        set->attend_features(&own.tile, &run);
        assert_true(own.tile.maximum[3] == T2T_HIDDEN && own.tile.sum[3] <= 1e-30F);
        for (size_t c = 0; c < problem.value_dim; c++) {
            assert_true(fabsf(own.tile.value[c * set->lanes + 3]) <= 1e-30F);
            assert_true(fabsf(own.tile.value[c * set->lanes + 2]) > 1e-30F);
        }
        free(scores);
        close_tile(&own, &problem);
        close_problem(&problem);
    }
}

/* Reformer's hash is that of exact products with every set, next to ties too. */
static void hashes_are_exact(void **state)
{
    (void)state;
    enum { ROWS = 150, DIM = 12, HALF = 160 };
    float *x = numbers("x", ROWS * (DIM + GAP), 1), *rotated = numbers("rotated", HALF * DIM, 1);
    memset(x + 3 * (DIM + GAP), 0, DIM * sizeof *x); /* all products are 0 */
    for (size_t c = 0; c < DIM; c++) {
        rotated[70 * DIM + c] = rotated[7 * DIM + c];  /* ties of two places */
        rotated[90 * DIM + c] = -rotated[9 * DIM + c]; /* and of two signs */
        for (size_t i = 0; i < 30; i++) {              /* the longest rows, nearly twice each */
            rotated[(100 + i) * DIM + c] = 2 * rotated[i * DIM + c];
            rotated[(130 + i) * DIM + c] =
                2 * rotated[i * DIM + c] * (1 + (float)((7 * c + i) % 3) * 0x1p-22F - 0x1p-22F);
        }
    }
    for (size_t s = 0; t2t_kernel_sets[s]; s++) {
        const struct attention_kernels *set = t2t_kernel_sets[s];
        if (!set->supported()) continue;
        uint32_t hash[ROWS];
        struct query_tile tile = {.head_dim = DIM};
        tile.query = guarded(DIM * set->lanes);
        tile.scores = guarded(T2T_MOST_KEYS * set->lanes);
        t2t_rotation_hash(set, &tile, x, DIM + GAP, ROWS, rotated, HALF, t2t_longest_row(rotated, HALF, DIM), hash);
        release(tile.query, DIM * set->lanes);
        release(tile.scores, T2T_MOST_KEYS * set->lanes);
        for (size_t i = 0; i < ROWS; i++) {
            double best = -INFINITY;
            uint32_t place = 0;
            for (uint32_t b = 0; b < 2 * HALF; b++) {
                double product = 0;
                for (size_t c = 0; c < DIM; c++)
                    product += (double)x[i * (DIM + GAP) + c] * (double)rotated[b % HALF * DIM + c];
                if (b >= HALF) product = -product;
                if (product > best) {
                    best = product;
                    place = b;
                }
            }
            assert_int_equal(hash[i], place);
        }
    }
    free(x);
    free(rotated);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_set_as_plain_c),
        cmocka_unit_test(hidden_lanes_stay_empty),
        cmocka_unit_test(hashes_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
