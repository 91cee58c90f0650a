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

/* Matrices whose largest eigenvalue is known: close to others, equal to others, of every small size, and wide. */
static void of_known_eigenvalues(void **state)
{
    (void)state;
    enum { SIZE = 40 };
    for (size_t size = 1; size <= SIZE; size++)
        for (int kind = 0; kind < 3; kind++) {
            /* Q D Q with Q = I - 2 u u^T / |u|^2; D: one largest value, two that differ by 1e-9, all equal */
            double d[SIZE], u[SIZE], length = 0, matrix[SIZE * SIZE];
            for (size_t i = 0; i < size; i++) {
                d[i] = kind == 2 ? 3 : kind == 1 && i < 2 ? 3 - 1e-9 * (double)i : 3 / (1 + (double)i);
                u[i] = sin(1 + (double)(i * i));
                length += u[i] * u[i];
            }
            for (size_t i = 0; i < size; i++)
                for (size_t j = 0; j < size; j++) {
                    matrix[i * size + j] = 0;
                    for (size_t k = 0; k < size; k++)
                        matrix[i * size + j] +=
                            ((i == k) - 2 * u[i] * u[k] / length) * d[k] * ((j == k) - 2 * u[j] * u[k] / length);
                }
            near(t2t_largest_eigenvalue(matrix, size), 3, 1e-14);
        }
    /* more columns than rows: the norms of the transposed */
    float wide[3 * SIZE], tall[SIZE * 3];
    t2t_random_normal((struct t2t_random_key){.seed = 5, .purpose = T2T_RANDOM_TEST}, 3 * SIZE, wide);
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < SIZE; j++) tall[j * 3 + i] = wide[i * SIZE + j];
    const struct matrix_norms a = norms_of(wide, NULL, 3, SIZE, SIZE), b = norms_of(tall, NULL, SIZE, 3, 3);
    near(a.spectral, b.spectral, 1e-14);
    near(a.frobenius, b.frobenius, 1e-14);
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
        cmocka_unit_test(of_known_eigenvalues),
        cmocka_unit_test(of_what_is_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
