/* The kernels of KDEformer's pilot, every set against float64: column squares of a softmax, distances of rows
 * from a centre; at sizes below, at and above tiles, with scores whose exponentials would overflow, and with guard
 * numbers behind everything that is written.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/base/random.h"
#include "layers/cpu/kernels.h"

enum { MOST_KEYS = 257, MOST_DIM = 72, GUARDS = 16 };
static const float guard = -123.25F;
static const size_t key_counts[] = {1, 5, 6, 7, 16, 111, 112, 113, 257}, dims[] = {1, 4, 7, 8, 12, 33, 64, 72};

static float keys[MOST_KEYS * MOST_DIM], rows[T2T_MAX_LANES * MOST_DIM];
static float query[MOST_DIM * T2T_MAX_LANES], scores[MOST_KEYS * T2T_MAX_LANES + GUARDS];
static float squares[MOST_KEYS * T2T_QUARTERS + GUARDS], distances[MOST_KEYS + GUARDS];

static void put_guards(float *end)
{
    for (size_t i = 0; i < GUARDS; i++) end[i] = guard;
}

static void check_guards(const float *end)
{
    for (size_t i = 0; i < GUARDS; i++) assert_true(end[i] == guard);
}

static void expect_near(float found, double wanted, double allowed)
{
    if (!(fabs((double)found - wanted) <= allowed)) fail_msg("%.9g, expected %.9g", (double)found, wanted);
}

/* `lanes` of the queries are in use, but for some in between. */
static void check_squares(const struct attention_kernels *kernels, size_t count, size_t dim, size_t lanes, float factor)
{
    static double weight[T2T_MAX_LANES][MOST_KEYS];
    const float *row[T2T_MAX_LANES];
    double wanted[MOST_KEYS * T2T_QUARTERS], score[MOST_KEYS];
    bool used[T2T_MAX_LANES] = {false};
    for (size_t i = 0; i < kernels->lanes; i++) row[i] = rows + i * MOST_DIM;
    kernels->load_queries(row, kernels->lanes, dim, factor, query);
    for (size_t i = 0; i < count * T2T_QUARTERS; i++) wanted[i] = squares[i] = (float)(i % 3);
    for (size_t i = 0; i < lanes; i++) {
        used[i] = i % 5 != 3;
        double largest = -INFINITY, sum = 0;
        for (size_t j = 0; j < count; j++) {
            score[j] = 0;
            for (size_t c = 0; c < dim; c++) score[j] += (double)keys[j * MOST_DIM + c] * (double)(factor * row[i][c]);
            largest = fmax(largest, score[j]);
        }
        for (size_t j = 0; j < count; j++) sum += exp2(score[j] - largest);
        for (size_t j = 0; j < count; j++) weight[i][j] = exp2(score[j] - largest) / sum;
        for (size_t j = 0; j < count && used[i]; j++)
            wanted[j * T2T_QUARTERS + i % T2T_QUARTERS] += weight[i][j] * weight[i][j];
    }
    const struct query_tile tile = {.head_dim = dim, .query = query};
    const struct key_run run = {.k = keys, .k_stride = MOST_DIM, .keys = count, .narrow = lanes <= kernels->lanes / 2};
    for (size_t i = 0; i < count * kernels->lanes; i++) scores[i] = NAN;
    put_guards(scores + count * kernels->lanes);
    put_guards(squares + count * T2T_QUARTERS);
    kernels->column_squares(&tile, &run, used, scores, squares);
    check_guards(scores + count * kernels->lanes);
    check_guards(squares + count * T2T_QUARTERS);
    const double allowed = factor > 1 ? 3e-3 : 3e-5; /* scores up to 1e4 round at 1e-3 */
    for (size_t i = 0; i < count * T2T_QUARTERS; i++) expect_near(squares[i], wanted[i], allowed);
    for (size_t i = 0; i < lanes; i++) { /* scores are left with the weights, not yet divided by their sums */
        double sum = 0;
        for (size_t j = 0; j < count; j++) sum += (double)scores[j * kernels->lanes + i];
        for (size_t j = 0; j < count && used[i]; j++)
            expect_near((float)((double)scores[j * kernels->lanes + i] / sum), weight[i][j], allowed);
    }
}

static void check_distances(const struct attention_kernels *kernels, size_t count, size_t dim)
{
    put_guards(distances + count);
    kernels->row_distances(keys, MOST_DIM, count, dim, rows, distances);
    check_guards(distances + count);
    for (size_t j = 0; j < count; j++) {
        double sum = 0;
        for (size_t c = 0; c < dim; c++) sum += pow((double)keys[j * MOST_DIM + c] - (double)rows[c], 2);
        expect_near(distances[j], sqrt(sum), 1e-6 * sqrt(sum));
    }
}

/* A narrow tile gives its half of the lanes the bits that a full one does. */
static void check_narrow(const struct attention_kernels *kernels, size_t count, size_t dim)
{
    static float tiles[2][(MOST_DIM + 2) * T2T_MAX_LANES], block[T2T_MOST_KEYS * T2T_MAX_LANES];
    const size_t lanes = kernels->lanes;
    const float *row[T2T_MAX_LANES];
    for (size_t i = 0; i < lanes; i++) row[i] = rows + i * MOST_DIM;
    kernels->load_queries(row, lanes, dim, 1, query);
    for (size_t narrow = 0; narrow < 2; narrow++) {
        const struct query_tile tile = {.head_dim = dim,
            .value_dim = dim,
            .query = query,
            .maximum = tiles[narrow],
            .sum = tiles[narrow] + lanes,
            .value = tiles[narrow] + 2 * lanes,
            .scores = block};
        const struct key_run run = {
            .k = keys, .v = keys + 3, .k_stride = MOST_DIM, .v_stride = MOST_DIM, .keys = count, .narrow = narrow};
        memset(tiles[narrow], 0, sizeof tiles[narrow]);
        for (size_t i = 0; i < lanes; i++) tile.maximum[i] = -INFINITY;
        kernels->attend(&tile, &run);
        kernels->attend(&tile, &run);
    }
    for (size_t r = 0; r < dim + 2; r++)
        assert_memory_equal(tiles[0] + r * lanes, tiles[1] + r * lanes, lanes / 2 * sizeof(float));
}

static void pilot_kernels(void **state)
{
    (void)state;
    const struct t2t_random_key key = {.seed = 1, .purpose = T2T_RANDOM_TEST},
                                other = {.seed = 2, .purpose = T2T_RANDOM_TEST};
    t2t_random_normal(key, MOST_KEYS * MOST_DIM, keys);
    t2t_random_normal(other, T2T_MAX_LANES * MOST_DIM, rows);
    for (size_t set = 0; t2t_kernel_sets[set]; set++) {
        const struct attention_kernels *kernels = t2t_kernel_sets[set];
        if (!kernels->supported()) continue;
        assert_int_equal(kernels->lanes % T2T_QUARTERS, 0);
        for (size_t i = 0; i < sizeof key_counts / sizeof *key_counts; i++)
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
                for (size_t lanes = 1; lanes <= kernels->lanes; lanes += 5)
                    check_squares(kernels, key_counts[i], dims[d], lanes, d % 2 ? 1 : 300);
                check_distances(kernels, key_counts[i], dims[d]);
                check_narrow(kernels, key_counts[i] < MOST_KEYS ? key_counts[i] : MOST_KEYS - 1, dims[d]);
            }
        print_message("  %s kernels\n", kernels->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pilot_kernels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
