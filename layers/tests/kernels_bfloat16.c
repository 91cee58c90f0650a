/* Attention in bfloat16: plain C against the definition in float64 on rounded numbers, every other set against plain C;
 * sizes at and around each edge, guards behind every output, masks, an order of rows.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/base/half.h"
#include "layers/tests/guarded_memory.h"
#include "layers/tests/synthetic_numbers.h"

enum { COUNT_OF_SIZES = 9, MOST_KEYS = 230 };

static const size_t dims[COUNT_OF_SIZES] = {1, 2, 3, 12, 15, 16, 33, 64, 65};
static const size_t key_counts[COUNT_OF_SIZES] = {1, 2, 7, 8, 9, 111, 112, 113, 229};

struct problem {
    size_t queries, head_dim, value_dim, keys, split;
    bool masked;
    float *q, *k, *v, bias[MOST_KEYS];
};

static float rounded(float x)
{
    return t2t_bfloat16_to_float(t2t_float_to_bfloat16(x));
}

static bfloat16_pair *guarded_pairs(size_t count)
{
    return (bfloat16_pair *)(void *)guarded(count);
}

static void release_pairs(bfloat16_pair *pairs, size_t count)
{
    release((float *)(void *)pairs, count);
}

static struct problem make_problem(size_t queries, size_t head_dim, size_t value_dim, size_t keys, size_t number)
{
    struct problem problem = {.queries = queries,
        .head_dim = head_dim,
        .value_dim = value_dim,
        .keys = keys,
        .split = number / COUNT_OF_SIZES % 3 && keys > 2 ? keys / 2 : keys,
        .masked = number % 4 == 1};
    problem.q = strided_input("q", number, queries, head_dim, 2);
    problem.k = strided_input("k", number + 1, keys, head_dim, 2);
    problem.v = strided_input("v", number + 2, keys, value_dim, 1);
    synthetic_uniform("bias", number, keys, problem.bias);
    for (size_t j = 0; j < keys; j++)
        if (problem.masked && j % 3 == 1) {
            problem.bias[j] = -1e30F;
            for (size_t c = 0; c < value_dim; c++) problem.v[j * (value_dim + GAP) + c] *= 1e20F;
        }
    return problem;
}

static void free_problem(struct problem *problem)
{
    free(problem->q);
    free(problem->k);
    free(problem->v);
}

/* Keys first ... last - 1 in a run of their own. */
static void attend_run(const struct attention_kernels *set, const struct problem *problem, size_t first, size_t last,
    const struct query_tile *tile, bool narrow)
{
    const size_t keys = last - first, pairs = t2t_pairs(problem->head_dim);
    const size_t k_count = keys * pairs, v_count = t2t_value_pairs(keys) * problem->value_dim;
    bfloat16_pair *k = guarded_pairs(k_count), *v = guarded_pairs(v_count);
    uint32_t order[MOST_KEYS];
    for (size_t j = 0; j < keys; j++) order[j] = (uint32_t)(first + j);
    const size_t k_stride = problem->head_dim + GAP, v_stride = problem->value_dim + GAP;
    if (first) { /* once by an order, once as the rows lie */
        set->bfloat16->pack_keys(problem->k, k_stride, order, keys, problem->head_dim, k);
        set->bfloat16->pack_values(problem->v, v_stride, order, keys, problem->value_dim, 0, v);
    } else {
        set->bfloat16->pack_keys(problem->k, k_stride, NULL, keys, problem->head_dim, k);
        set->bfloat16->pack_values(problem->v, v_stride, NULL, keys, problem->value_dim, 0, v);
    }
    const struct bfloat16_run run = {.k = k, .v = v, .keys = keys, .bias = problem->bias + first, .narrow = narrow};
    set->bfloat16->attend(tile, &run);
    release_pairs(k, k_count);
    release_pairs(v, v_count);
}

/* out [queries, value_dim + GAP] of one tile. */
static float *run_set(const struct attention_kernels *set, const struct problem *problem)
{
    const size_t lanes = set->lanes, stride = problem->value_dim + GAP;
    float *out = guarded(problem->queries * stride);
    for (size_t first = 0; first < problem->queries; first += lanes) {
        const size_t count = problem->queries - first < lanes ? problem->queries - first : lanes;
        struct query_tile tile = {.head_dim = problem->head_dim, .value_dim = problem->value_dim};
        tile.query = guarded(tile.head_dim * lanes);
        tile.maximum = guarded(lanes);
        tile.sum = guarded(lanes);
        tile.value = guarded(tile.value_dim * lanes);
        tile.scores = guarded(T2T_MOST_KEYS * lanes);
        const float *rows[T2T_MAX_LANES];
        float *out_rows[T2T_MAX_LANES];
        for (size_t i = 0; i < count; i++) {
            rows[i] = problem->q + (first + i) * (problem->head_dim + GAP);
            out_rows[i] = out + (first + i) * stride;
        }
        set->bfloat16->load_queries(rows, count, tile.head_dim, 0.5F, (bfloat16_pair *)(void *)tile.query);
        for (size_t i = 0; i < lanes; i++) tile.maximum[i] = -INFINITY;
        memset(tile.sum, 0, lanes * sizeof *tile.sum);
        memset(tile.value, 0, tile.value_dim * lanes * sizeof *tile.value);
        const bool narrow = count <= lanes / 2;
        attend_run(set, problem, 0, problem->split, &tile, narrow);
        if (problem->split < problem->keys) attend_run(set, problem, problem->split, problem->keys, &tile, narrow);
        set->store_values(&tile, out_rows, count);
        release(tile.query, tile.head_dim * lanes);
        release(tile.maximum, lanes);
        release(tile.sum, lanes);
        release(tile.value, tile.value_dim * lanes);
        release(tile.scores, T2T_MOST_KEYS * lanes);
    }
    for (size_t i = 0; i < problem->queries; i++)
        if (!is_untouched(out + i * stride + problem->value_dim, GAP))
            fail_msg("%s: wrote behind row %zu of the output", set->name, i);
    return out;
}

/* Softmax of rounded numbers in float64; the weights are not rounded. */
static void define(const struct problem *problem, size_t query, double *out)
{
    double weight[MOST_KEYS], largest = -INFINITY, sum = 0;
    for (size_t j = 0; j < problem->keys; j++) {
        weight[j] = (double)problem->bias[j];
        for (size_t c = 0; c < problem->head_dim; c++)
            weight[j] += (double)rounded(0.5F * problem->q[query * (problem->head_dim + GAP) + c]) *
                         (double)rounded(problem->k[j * (problem->head_dim + GAP) + c]);
        if (weight[j] > largest) largest = weight[j];
    }
    for (size_t j = 0; j < problem->keys; j++) sum += weight[j] = exp2(weight[j] - largest);
    for (size_t c = 0; c < problem->value_dim; c++) {
        out[c] = 0;
        for (size_t j = 0; j < problem->keys; j++)
            out[c] += weight[j] / sum * (double)rounded(problem->v[j * (problem->value_dim + GAP) + c]);
    }
}

/* A weight is rounded by at most 2^-9 of itself, and v is at most 1. */
static void plain_c_is_the_definition(void **state)
{
    (void)state;
    for (size_t number = 0; number < COUNT_OF_SIZES * COUNT_OF_SIZES; number++) {
        struct problem problem = make_problem(
            3, dims[number % COUNT_OF_SIZES], dims[number / COUNT_OF_SIZES], key_counts[number % 7 + 2], number);
        float *out = run_set(plain_c(), &problem);
        for (size_t i = 0; i < problem.queries; i++) {
            double wanted[65];
            define(&problem, i, wanted);
            for (size_t c = 0; c < problem.value_dim; c++)
                if (!(fabs((double)out[i * (problem.value_dim + GAP) + c] - wanted[c]) <= 0x1p-9 + 1e-5))
                    fail_msg("head_dim %zu, %zu keys: output [%zu, %zu] is %g, not %g", problem.head_dim, problem.keys,
                        i, c, (double)out[i * (problem.value_dim + GAP) + c], wanted[c]);
        }
        release(out, problem.queries * (problem.value_dim + GAP));
        free_problem(&problem);
    }
}

/* Packed values, in one call or in two, of which the second begins in the middle of a block: every bit of plain C's. */
static void packs_as_plain_c(const struct attention_kernels *set)
{
    enum { ROWS = 77 };
    if (!set->bfloat16) return;
    uint32_t order[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) order[i] = (i * 5) % ROWS;
    for (size_t d = 0; d < COUNT_OF_SIZES; d++)
        for (size_t split = 0; split <= ROWS; split += 2) {
            const size_t dim = dims[d], count = t2t_value_pairs(ROWS) * dim;
            float *x = strided_input("packed", d, ROWS, dim, 2);
            bfloat16_pair *wanted = guarded_pairs(count), *found = guarded_pairs(count);
            plain_c()->bfloat16->pack_values(x, dim + GAP, order, ROWS, dim, 0, wanted);
            set->bfloat16->pack_values(x, dim + GAP, order, split, dim, 0, found);
            set->bfloat16->pack_values(x, dim + GAP, order + split, ROWS - split, dim, split, found);
            assert_memory_equal(found, wanted, count * sizeof *found);
            release_pairs(wanted, count);
            release_pairs(found, count);
            free(x);
        }
}

static void packing(void **state)
{
    (void)state;
    for_every_set(packs_as_plain_c);
}

/* The same numbers enter, so sets differ by the order of their sums: and by 2^-8 of a weight whose rounding that tips. */
static void same_as_plain_c(const struct attention_kernels *set)
{
    if (!set->bfloat16 || set == plain_c()) return;
    double worst = 0, total = 0;
    size_t outputs = 0;
    for (size_t d = 0; d < COUNT_OF_SIZES; d++)
        for (size_t e = 0; e < COUNT_OF_SIZES; e++)
            for (size_t n = 0; n < COUNT_OF_SIZES; n++) {
                const size_t number = (d * COUNT_OF_SIZES + e) * COUNT_OF_SIZES + n;
                struct problem problem =
                    make_problem(set->lanes + 1 + number % set->lanes, dims[d], dims[e], key_counts[n], number);
                float *wanted = run_set(plain_c(), &problem), *found = run_set(set, &problem);
                for (size_t i = 0; i < problem.queries; i++)
                    for (size_t c = 0; c < problem.value_dim; c++, outputs++) {
                        const size_t at = i * (problem.value_dim + GAP) + c;
                        const double error = fabs((double)found[at] - (double)wanted[at]);
                        if (!(error <= 0x1p-8))
                            fail_msg(
                                "%s: head_dim %zu, value_dim %zu, %zu keys: output [%zu, %zu] is %g, plain C has %g",
                                set->name, problem.head_dim, problem.value_dim, problem.keys, i, c, (double)found[at],
                                (double)wanted[at]);
                        total += error;
                        if (error > worst) worst = error;
                    }
                release(wanted, problem.queries * (problem.value_dim + GAP));
                release(found, problem.queries * (problem.value_dim + GAP));
                free_problem(&problem);
            }
    print_message("  %s: %zu outputs, differences at most %.1e, %.1e on average\n", set->name, outputs, worst,
        total / (double)outputs);
    assert_true(total / (double)outputs < 2e-6);
}

static void sets(void **state)
{
    (void)state;
    for_every_set(same_as_plain_c);
}

/* Rounding to nearest, ties to even: the same bits in every set, but for numbers below 2^-126, which become 0 in some. */
static void rounds_as_plain_c(const struct attention_kernels *set)
{
    static const uint32_t bits[] = {0, 0x80000000, 0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff,
        0x7f7f8000, 0x7f800000, 0xff800000, 0x00800000, 0xc2f6e979};
    enum { SPECIAL = sizeof bits / sizeof *bits, MOST = 100 };
    if (!set->bfloat16) return;
    float x[MOST];
    synthetic_uniform("rounded", 1, MOST, x);
    memcpy(x, bits, sizeof bits);
    for (size_t count = 0; count <= MOST; count++) {
        uint16_t out[MOST + 1];
        memset(out, 0xab, sizeof out);
        set->bfloat16->round(x, count, out);
        for (size_t i = 0; i < count; i++) assert_int_equal(out[i], t2t_float_to_bfloat16(x[i]));
        assert_int_equal(out[count], 0xabab);
    }
    const float nan = NAN;
    uint16_t out;
    set->bfloat16->round(&nan, 1, &out);
    assert_true(isnan(t2t_bfloat16_to_float(out)));
}

static void rounding(void **state)
{
    (void)state;
    for_every_set(rounds_as_plain_c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain_c_is_the_definition), cmocka_unit_test(packing),
        cmocka_unit_test(sets), cmocka_unit_test(rounding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
