/* Norms against values by hand and against what they must obey. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "eval/matrix_norms.h"
#include "layers/base/random.h"

static struct matrix_norms norms_of(const float *a, const float *b, size_t rows, size_t columns, size_t stride)
{
    struct matrix_norms norms;
    assert_int_equal(t2t_norms_of_difference(a, b, rows, columns, stride, &norms), T2T_OK);
    return norms;
}

static void near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance * fabs(expected))) fail_msg("%.15g, expected %.15g", value, expected);
}

/* [3 0; 4 5]: its Gram matrix [25 20; 20 25] has eigenvalues 45 and 5. */
static void by_hand(void **state)
{
    (void)state;
    const float a[] = {3, 0, 4, 5}, shifted[] = {4, 2, 7, 9}, shift[] = {1, 2, 3, 4};
    near(norms_of(a, NULL, 2, 2, 2).spectral, sqrt(45), 1e-14);
    near(norms_of(a, NULL, 2, 2, 2).frobenius, sqrt(50), 1e-14);
    near(norms_of(shifted, shift, 2, 2, 2).spectral, sqrt(45), 1e-14);
    near(norms_of(shifted, shift, 2, 2, 2).frobenius, sqrt(50), 1e-14);
    const float column[] = {1, 99, 2, 99, 2, 99}; /* the stride passes over what is not its */
    near(norms_of(column, NULL, 3, 1, 2).spectral, 3, 1e-14);
}

static void of_nothing(void **state)
{
    (void)state;
    const float a[] = {1, 2, 3, 4, 5, 6};
    const struct matrix_norms norms = norms_of(a, a, 2, 3, 3);
    assert_true(norms.spectral <= 0 && norms.frobenius <= 0); /* exactly 0: an output has no error against itself */
}

/* u v^T has one singular value, |u| |v|; a multiple of rows of an orthogonal matrix has equal ones. */
static void of_rank_one_and_equal_values(void **state)
{
    (void)state;
    enum { ROWS = 50, COLUMNS = 20 };
    float u[ROWS], v[COLUMNS], product[ROWS * COLUMNS], equal[COLUMNS * COLUMNS] = {0};
    t2t_random_normal((struct t2t_random_key){.seed = 1, .purpose = T2T_RANDOM_TEST}, ROWS, u);
    t2t_random_normal((struct t2t_random_key){.seed = 2, .purpose = T2T_RANDOM_TEST}, COLUMNS, v);
    double u_squares = 0, v_squares = 0;
    for (size_t i = 0; i < ROWS; i++) u_squares += (double)u[i] * (double)u[i];
    for (size_t j = 0; j < COLUMNS; j++) v_squares += (double)v[j] * (double)v[j];
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < COLUMNS; j++) product[i * COLUMNS + j] = u[i] * v[j];
    for (size_t i = 0; i < COLUMNS; i++) equal[i * COLUMNS + (i + 7) % COLUMNS] = 1e-20F;
    near(norms_of(product, NULL, ROWS, COLUMNS, COLUMNS).spectral, sqrt(u_squares * v_squares), 1e-6);
    near(norms_of(product, NULL, ROWS, COLUMNS, COLUMNS).frobenius, sqrt(u_squares * v_squares), 1e-6);
    near(norms_of(equal, NULL, COLUMNS, COLUMNS, COLUMNS).spectral, 1e-20, 1e-6);
    near(norms_of(equal, NULL, COLUMNS, COLUMNS, COLUMNS).frobenius, sqrt(COLUMNS) * 1e-20, 1e-6);
}

/* Against the power method, which is another way. */
static void of_random_matrices(void **state)
{
    (void)state;
    enum { ROWS = 300, COLUMNS = 64, STEPS = 4000 };
    float *a = malloc(ROWS * COLUMNS * sizeof *a);
    assert_non_null(a);
    t2t_random_normal((struct t2t_random_key){.seed = 3, .purpose = T2T_RANDOM_TEST}, ROWS * COLUMNS, a);
    double x[COLUMNS], length = 0;
    for (size_t j = 0; j < COLUMNS; j++) x[j] = 1 + (double)j;
    for (size_t step = 0; step < STEPS; step++) {
        double next[COLUMNS] = {0};
        for (size_t i = 0; i < ROWS; i++) {
            double dot = 0;
            for (size_t j = 0; j < COLUMNS; j++) dot += (double)a[i * COLUMNS + j] * x[j];
            for (size_t j = 0; j < COLUMNS; j++) next[j] += dot * (double)a[i * COLUMNS + j];
        }
        length = 0;
        for (size_t j = 0; j < COLUMNS; j++) length += next[j] * next[j];
        length = sqrt(length);
        for (size_t j = 0; j < COLUMNS; j++) x[j] = next[j] / length;
    }
    near(norms_of(a, NULL, ROWS, COLUMNS, COLUMNS).spectral, sqrt(length), 1e-9);
    free(a);
}

/* Wide and tall matrices have the same norms; the shorter side is not a multiple of what is gathered. */
static void of_transposes(void **state)
{
    (void)state;
    enum { ROWS = 7, COLUMNS = 90 };
    float wide[ROWS * COLUMNS], tall[COLUMNS * ROWS];
    t2t_random_normal((struct t2t_random_key){.seed = 4, .purpose = T2T_RANDOM_TEST}, ROWS * COLUMNS, wide);
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < COLUMNS; j++) tall[j * ROWS + i] = wide[i * COLUMNS + j];
    const struct matrix_norms one = norms_of(wide, NULL, ROWS, COLUMNS, COLUMNS);
    const struct matrix_norms other = norms_of(tall, NULL, COLUMNS, ROWS, ROWS);
    near(one.spectral, other.spectral, 1e-13);
    near(one.frobenius, other.frobenius, 1e-13);
}

/* matrix = Q diag(values) Q for a few reflections Q = I - 2 u u^T. */
static void make_symmetric(double *matrix, const double *values, size_t size)
{
    float *u = malloc(size * sizeof *u);
    assert_non_null(u);
    for (size_t i = 0; i < size * size; i++) matrix[i] = i % (size + 1) ? 0 : values[i / (size + 1)];
    for (uint64_t seed = 1; seed <= 3; seed++) {
        t2t_random_normal((struct t2t_random_key){.seed = seed, .purpose = T2T_RANDOM_TEST}, size, u);
        double squares = 0;
        for (size_t i = 0; i < size; i++) squares += (double)u[i] * (double)u[i];
        for (int side = 0; side < 2; side++) {
            const size_t along = side ? 1 : size, across = side ? size : 1;
            for (size_t line = 0; line < size; line++) {
                double dot = 0;
                for (size_t i = 0; i < size; i++) dot += matrix[line * across + i * along] * (double)u[i];
                for (size_t i = 0; i < size; i++) matrix[line * across + i * along] -= 2 * dot * (double)u[i] / squares;
            }
        }
    }
    free(u);
}

/* Known eigenvalues: two that nearly meet, one that is there many times, tiny and huge ones. */
static void of_known_eigenvalues(void **state)
{
    (void)state;
    enum { SIZE = 150 };
    static const double second[] = {1 - 1e-12, 1 - 1e-6, 1, 0.5}, unit[] = {1, 1e-70, 1e70};
    double *matrix = malloc(SIZE * SIZE * sizeof *matrix), values[SIZE], largest;
    assert_non_null(matrix);
    for (size_t u = 0; u < 3; u++)
        for (size_t s = 0; s < 4; s++) {
            for (size_t i = 0; i < SIZE; i++) values[i] = unit[u] * (i % 3 ? second[s] : 0.25);
            values[SIZE / 2] = unit[u];
            make_symmetric(matrix, values, SIZE);
            assert_int_equal(t2t_largest_eigenvalue(matrix, SIZE, &largest), T2T_OK);
            near(largest, unit[u], 2e-14);
        }
    for (size_t i = 0; i < SIZE * SIZE; i++) { /* second differences: 4 sin^2(size pi / (2 size + 2)) */
        const size_t row = i / SIZE, column = i % SIZE;
        matrix[i] = row == column ? 2 : row + 1 == column || column + 1 == row ? -1 : 0;
    }
    assert_int_equal(t2t_largest_eigenvalue(matrix, SIZE, &largest), T2T_OK);
    near(largest, 4 * pow(sin(SIZE * acos(-1) / (2 * SIZE + 2)), 2), 1e-14);
    free(matrix);
}

static void of_what_is_not_finite(void **state)
{
    (void)state;
    const float nan[] = {1, NAN, 2, 3}, infinite[] = {1, INFINITY, 2, 3};
    assert_true(isnan(norms_of(nan, NULL, 2, 2, 2).spectral));
    assert_true(isnan(norms_of(infinite, NULL, 2, 2, 2).spectral));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(of_nothing),
        cmocka_unit_test(of_rank_one_and_equal_values),
        cmocka_unit_test(of_random_matrices),
        cmocka_unit_test(of_transposes),
        cmocka_unit_test(of_known_eigenvalues),
        cmocka_unit_test(of_what_is_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
