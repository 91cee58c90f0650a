/* The running softmax of every set of kernels that this machine can run, against plain C: sizes below, at and above each
 * tile edge, rows with gaps, guards after every output, masks, scores that overflow unshifted; and the choice of a set.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/tests/guarded_memory.h"
#include "layers/tests/synthetic_numbers.h"

enum { COUNT_OF_SIZES = 10 };

/* ---- the running softmax ---- */

struct problem {
    size_t queries, head_dim, value_dim, keys;
    float factor;                  /* of the queries: 100 makes scores that overflow unshifted */
    size_t masked;                 /* the bias of every key i with i % masked == 1 is -1e30; 0: no bias at all */
    size_t split;                  /* this many keys come in a run of their own */
    const float *q, *k, *v, *bias; /* rows GAP apart */
};

/* One tile of a set: rows of out are value_dim + GAP apart. */
static void run_tile(
    const struct attention_kernels *set, const struct problem *problem, size_t first, size_t count, float *out)
{
    const size_t lanes = set->lanes, head_dim = problem->head_dim, value_dim = problem->value_dim;
    struct query_tile tile = {.head_dim = head_dim, .value_dim = value_dim};
    tile.query = guarded(head_dim * lanes);
    tile.maximum = guarded(lanes);
    tile.sum = guarded(lanes);
    tile.value = guarded(value_dim * lanes);
    tile.scores = guarded(T2T_MOST_KEYS * lanes);
    const float *rows[T2T_MAX_LANES];
    float *out_rows[T2T_MAX_LANES];
    for (size_t i = 0; i < count; i++) {
        rows[i] = problem->q + (first + i) * (head_dim + GAP);
        out_rows[i] = out + (first + i) * (value_dim + GAP);
    }
    set->load_queries(rows, count, head_dim, problem->factor, tile.query);
    for (size_t i = 0; i < lanes * head_dim; i++) {
        const float wanted = i % lanes < count ? problem->factor * rows[i % lanes][i / lanes] : 0;
        if (memcmp(&tile.query[i], &wanted, sizeof wanted) != 0) fail_msg("%s: query %zu is not loaded", set->name, i);
    }
    for (size_t i = 0; i < lanes; i++) tile.maximum[i] = -INFINITY;
    memset(tile.sum, 0, lanes * sizeof *tile.sum);
    memset(tile.value, 0, value_dim * lanes * sizeof *tile.value);
    for (size_t part = 0; part < 2; part++) {
        const size_t begin = part ? problem->split : 0, end = part ? problem->keys : problem->split;
        if (begin == end) continue;
        const struct key_run run = {.k = problem->k + begin * (head_dim + GAP),
            .v = problem->v + begin * (value_dim + GAP),
            .k_stride = head_dim + GAP,
            .v_stride = value_dim + GAP,
            .keys = end - begin,
            .bias = problem->masked ? problem->bias + begin : NULL};
        set->attend(&tile, &run);
    }
    set->store_values(&tile, out_rows, count);
    release(tile.query, head_dim * lanes);
    release(tile.maximum, lanes);
    release(tile.sum, lanes);
    release(tile.value, value_dim * lanes);
    release(tile.scores, T2T_MOST_KEYS * lanes);
}

static float *run_set(const struct attention_kernels *set, const struct problem *problem)
{
    const size_t stride = problem->value_dim + GAP;
    float *out = guarded(problem->queries * stride);
    for (size_t first = 0; first < problem->queries; first += set->lanes)
        run_tile(
            set, problem, first, problem->queries - first < set->lanes ? problem->queries - first : set->lanes, out);
    for (size_t i = 0; i < problem->queries; i++)
        if (!is_untouched(out + i * stride + problem->value_dim, GAP))
            fail_msg("%s: wrote behind row %zu of the output", set->name, i);
    return out;
}

/* Float32 scores are off by some of their own last places, and the weights 2^score with them. */
static double tolerance(const struct problem *problem)
{
    const double largest = (double)(problem->factor * 2) * (double)problem->head_dim;
    return 1e-6 * (2 + sqrt(largest * 2));
}

static void compare_sets(const struct attention_kernels *set, const struct problem *problem, double *worst)
{
    const size_t stride = problem->value_dim + GAP;
    float *wanted = run_set(plain_c(), problem), *found = run_set(set, problem);
    for (size_t i = 0; i < problem->queries; i++)
        for (size_t c = 0; c < problem->value_dim; c++) {
            const double error = fabs((double)found[i * stride + c] - (double)wanted[i * stride + c]);
            if (!(error <= tolerance(problem)))
                fail_msg("%s: %zu queries, head_dim %zu, value_dim %zu, %zu keys, factor %g: output [%zu, %zu] is %g, "
                         "plain C has %g",
                    set->name, problem->queries, problem->head_dim, problem->value_dim, problem->keys,
                    (double)problem->factor, i, c, (double)found[i * stride + c], (double)wanted[i * stride + c]);
            if (error / tolerance(problem) > *worst) *worst = error / tolerance(problem);
        }
    release(wanted, problem->queries * stride);
    release(found, problem->queries * stride);
}

/* Fills a problem's inputs and compares. Values of masked keys are huge, so that the least of their weight shows. */
static void compare_problem(const struct attention_kernels *set, struct problem problem, double *worst)
{
    float *q = strided_input("q", 1, problem.queries, problem.head_dim, 1);
    float *k = strided_input("k", 2, problem.keys, problem.head_dim, 2);
    float *v = strided_input("v", 3, problem.keys, problem.value_dim, 1);
    float *bias = malloc(problem.keys * sizeof *bias);
    assert_non_null(bias);
    synthetic_uniform("bias", 4, problem.keys, bias);
    for (size_t i = 0; problem.masked && i < problem.keys; i++) {
        bias[i] *= 6;
        if (i % problem.masked != 1) continue;
        bias[i] = -1e30F;
        for (size_t c = 0; c < problem.value_dim; c++) v[i * (problem.value_dim + GAP) + c] *= 1e20F;
    }
    problem.q = q;
    problem.k = k;
    problem.v = v;
    problem.bias = bias;
    compare_sets(set, &problem, worst);
    free(q);
    free(k);
    free(v);
    free(bias);
}

static void softmax_of(const struct attention_kernels *set)
{
    static const size_t dims[] = {1, 2, 5, 7, 8, 9, 12, 63, 64, 65};
    static const size_t key_counts[] = {1, 2, 3, 6, 7, 8, 111, 112, 113, 197};
    static const float factors[] = {0.25F, 1, 100}; /* 100: scores up to 2^13, 2^score is infinite from 128 on */
    double worst = 0;
    size_t problems = 0;
    for (size_t d = 0; d < COUNT_OF_SIZES; d++)
        for (size_t e = 0; e < COUNT_OF_SIZES; e++)
            for (size_t n = 0; n < COUNT_OF_SIZES; n++, problems++) {
                const size_t keys = key_counts[n];
                /* one whole tile and every number of queries in the last */
                compare_problem(set,
                    (struct problem){.queries = set->lanes + 1 + problems % set->lanes,
                        .head_dim = dims[d],
                        .value_dim = dims[e],
                        .keys = keys,
                        .factor = factors[problems % 3],
                        .masked = problems % 4 ? 0 : 3,
                        .split = problems % 5 ? 0 : keys / 2},
                    &worst);
            }
    print_message("  %s: %zu sizes, at most %.2f of the tolerance\n", set->name, problems, worst);
}

/* Keys without weight leave no trace, however large their values: a masked run, as samples that all lie in their query's
 * own block, and scores so far below the largest that their weight would be subnormal. */
static void weightless_run_of(const struct attention_kernels *set, float weightless_bias)
{
    struct problem problem = {.queries = 3, .head_dim = 12, .value_dim = 5, .keys = 20, .factor = 0, .masked = 1};
    float *q = strided_input("q", 1, problem.queries, problem.head_dim, 1);
    float *k = strided_input("k", 2, problem.keys, problem.head_dim, 2);
    float *v = strided_input("v", 3, problem.keys, problem.value_dim, 1);
    float bias[20];
    for (size_t i = 0; i < 20; i++) bias[i] = i < 7 ? 0 : weightless_bias;
    for (size_t i = 7 * (problem.value_dim + GAP); i < 20 * (problem.value_dim + GAP) - GAP; i++) v[i] *= 1e38F;
    problem.q = q;
    problem.k = k;
    problem.v = v;
    problem.bias = bias;
    problem.split = 7;
    float *with = run_set(set, &problem);
    problem.keys = problem.split = 7;
    float *without = run_set(set, &problem);
    const size_t size = problem.queries * (problem.value_dim + GAP);
    for (size_t i = 0; i < size; i++)
        if (!isnan(without[i]) && with[i] != without[i])
            fail_msg("%s: keys with a bias of %g change %g to %g", set->name, (double)weightless_bias,
                (double)without[i], (double)with[i]);
    release(with, size);
    release(without, size);
    free(q);
    free(k);
    free(v);
}

static void masked_run_of(const struct attention_kernels *set)
{
    weightless_run_of(set, -1e30F);
}

static void far_run_of(const struct attention_kernels *set)
{
    weightless_run_of(set, T2T_NO_WEIGHT - 1);
}

/* NaN in a query or a key comes out of it, and of no other query. */
static void not_a_number_of(const struct attention_kernels *set)
{
    struct problem problem = {.queries = 2, .head_dim = 9, .value_dim = 7, .keys = 13, .factor = 1};
    float *q = strided_input("q", 1, 2, 9, 1), *k = strided_input("k", 2, 13, 9, 2),
          *v = strided_input("v", 3, 13, 7, 1);
    problem.q = q;
    problem.k = k;
    problem.v = v;
    q[4] = NAN;
    float *out = run_set(set, &problem);
    for (size_t c = 0; c < 7; c++) assert_true(isnan(out[c]) && isfinite(out[7 + GAP + c]));
    release(out, 2 * (7 + GAP));
    q[4] = 0;
    k[3 * (9 + GAP)] = NAN; /* not the last key: a maximum may forget it, the sum must not */
    out = run_set(set, &problem);
    for (size_t c = 0; c < 7; c++) assert_true(isnan(out[c]) && isnan(out[7 + GAP + c]));
    release(out, 2 * (7 + GAP));
    free(q);
    free(k);
    free(v);
}

/* ---- the list ---- */

static void softmax(void **state)
{
    (void)state;
    for_every_set(softmax_of);
    for_every_set(masked_run_of);
    for_every_set(far_run_of);
    for_every_set(not_a_number_of);
}

/* Against the definition in float64, the second time in place. */
static void layer_norm_of(const struct attention_kernels *set)
{
    static const size_t widths[] = {1, 2, 7, 8, 12, 15, 16, 17, 31, 32, 33, 63, 64, 65, 147, 384, 576};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        const size_t width = widths[i];
        float *x = strided_input("x", i, 1, width, 2), *y = guarded(width), *in_place = guarded(width);
        float *weight = strided_input("weight", i, 1, width, 1), *bias = strided_input("bias", i, 1, width, 1);
        double mean = 0, variance = 0;
        for (size_t c = 0; c < width; c++) in_place[c] = x[c] += 3;
        for (size_t c = 0; c < width; c++) mean += (double)x[c] / (double)width;
        for (size_t c = 0; c < width; c++) variance += pow((double)x[c] - mean, 2) / (double)width;
        set->layer_norm(x, width, weight, bias, y);
        set->layer_norm(in_place, width, weight, bias, in_place);
        for (size_t c = 0; c < width; c++) {
            const double normed = ((double)x[c] - mean) / sqrt(variance + (double)T2T_LAYER_NORM_EPSILON);
            const double wanted = normed * (double)weight[c] + (double)bias[c];
            if (!(fabs((double)y[c] - wanted) <= 4e-6)) /* the mean is rounded beside 5 */
                fail_msg(
                    "%s: LayerNorm of %zu: element %zu is %.9g, not %.9g", set->name, width, c, (double)y[c], wanted);
        }
        assert_memory_equal(in_place, y, width * sizeof *y);
        free(x);
        free(weight);
        free(bias);
        release(y, width);
        release(in_place, width);
    }
}

static void layer_norm(void **state)
{
    (void)state;
    for_every_set(layer_norm_of);
}

static void chooses_by_name(void **state)
{
    (void)state;
    const char *forced = getenv("T2TVIT_CPU");
    char *before = forced ? strdup(forced) : NULL;
    const struct attention_kernels *chosen = NULL;
    for (size_t i = 0; t2t_kernel_sets[i]; i++) {
        setenv("T2TVIT_CPU", t2t_kernel_sets[i]->name, 1);
        const enum t2t_status status = t2t_kernels_choose(&chosen);
        assert_int_equal(status, t2t_kernel_sets[i]->supported() ? T2T_OK : T2T_NO_RESOURCE);
        if (status)
            assert_non_null(strstr(t2t_last_error(), t2t_kernel_sets[i]->name));
        else
            assert_ptr_equal(chosen, t2t_kernel_sets[i]);
    }
    setenv("T2TVIT_CPU", "avx3", 1);
    assert_int_equal(t2t_kernels_choose(&chosen), T2T_BAD_USAGE);
    assert_non_null(strstr(t2t_last_error(), "avx3"));
    assert_non_null(strstr(t2t_last_error(), "avx2, c"));
    unsetenv("T2TVIT_CPU");
    assert_int_equal(t2t_kernels_choose(&chosen), T2T_OK);
    for (size_t i = 0; t2t_kernel_sets[i] != chosen; i++) {
        const struct attention_kernels *before_it = t2t_kernel_sets[i];
        assert_false(before_it->supported() && !(before_it->slow && before_it->slow()));
    }
    if (before) setenv("T2TVIT_CPU", before, 1);
    free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax), cmocka_unit_test(layer_norm), cmocka_unit_test(chooses_by_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
