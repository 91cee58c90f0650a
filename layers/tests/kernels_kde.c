/* KDEformer's own kernels, hash, Gram product and row norms, of every set that this machine can run against plain C. */
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

static void hash_of(const struct attention_kernels *set)
{
    static const size_t dims[] = {1, 2, 7, 8, 12, 63, 64, 65, 256, 257};
    size_t codes = 0, differing = 0;
    for (size_t d = 0; d < COUNT_OF_SIZES; d++)
        for (size_t bits = 1; bits <= T2T_MAX_BITS; bits++) {
            const size_t dim = dims[d], stride = dim + GAP, rows = 1 + (d * T2T_MAX_BITS + bits) % 20;
            float *x = strided_input("hashed", bits, rows, dim, 1), *projection = malloc(dim * bits * sizeof(float));
            assert_non_null(projection);
            synthetic_uniform("projection", bits, dim * bits, projection);
            for (size_t c = 0; c < dim; c++) {
                if (rows > 2) x[2 * stride + c] = 0; /* 0 is not above 0 */
                if (rows > 3) x[3 * stride + c] = NAN;
            }
            uint16_t wanted[32], found[32];
            memset(found, 0xab, sizeof found);
            plain_c()->sign_hash(x, stride, rows, dim, projection, bits, wanted);
            set->sign_hash(x, stride, rows, dim, projection, bits, found);
            for (size_t i = rows; i < 32; i++) assert_int_equal(found[i], 0xabab);
            if (rows > 2) assert_int_equal(found[2], 0);
            if (rows > 3) assert_int_equal(found[3], 0);
            for (size_t i = 0; i < rows; i++) {
                assert_true(found[i] < (UINT32_C(1) << bits));
                for (size_t b = 0; b < bits; b++, codes++) {
                    if (!((found[i] ^ wanted[i]) >> b & 1)) continue;
                    double product = 0, size = 0;
                    for (size_t c = 0; c < dim; c++) {
                        product += (double)x[i * stride + c] * (double)projection[c * bits + b];
                        size += fabs((double)x[i * stride + c] * (double)projection[c * bits + b]);
                    }
                    differing++;
                    if (fabs(product) > 1e-6 * size) fail_msg("%s: bit %zu of product %g", set->name, b, product);
                }
            }
            free(x);
            free(projection);
        }
    print_message("  %s: %zu of %zu signs differ from plain C's, next to zero\n", set->name, differing, codes);
}

static void gram_and_norms_of(const struct attention_kernels *set)
{
    static const size_t dims[] = {1, 2, 7, 8, 9, 15, 16, 17, 64, 65}, row_counts[] = {1, 2, 111, 112, 113, 300};
    for (size_t d = 0; d < COUNT_OF_SIZES; d++)
        for (size_t n = 0; n < sizeof row_counts / sizeof *row_counts; n++) {
            const size_t dim = dims[d], rows = row_counts[n], width = dim + 1;
            float *v = strided_input("v", n, rows, dim, 3), *x = malloc(width * sizeof *x), *run = guarded(width);
            float *norm[2] = {guarded(rows), guarded(rows)};
            double out[2][80], size = 0;
            assert_non_null(x);
            synthetic_uniform("x", d, width, x);
            for (size_t i = 0; i < 80; i++) out[0][i] = out[1][i] = 1000 + (double)i; /* it adds to what is there */
            for (size_t side = 0; side < 2; side++) {
                const struct attention_kernels *one = side ? set : plain_c();
                one->gram_times(v, dim + GAP, rows, dim, x, run, out[side]);
                one->row_norms(v, dim + GAP, rows, dim, norm[side]);
            }
            for (size_t c = 0; c < width; c++) size = fmax(size, fabs(out[0][c] - 1000 - (double)c));
            for (size_t c = 0; c < 80; c++)
                if (!(fabs(out[1][c] - out[0][c]) <= (c < width ? 2e-6 * size : 0)))
                    fail_msg("%s: gram_times [%zu, %zu]: element %zu is %.9g, plain C has %.9g", set->name, rows, dim,
                        c, out[1][c], out[0][c]);
            for (size_t i = 0; i < rows; i++)
                if (!(fabsf(norm[1][i] - norm[0][i]) <= 1e-6F * norm[0][i] && norm[1][i] >= 1))
                    fail_msg("%s: norm %zu of [%zu, %zu] is %.9g", set->name, i, rows, dim, (double)norm[1][i]);
            release(norm[0], rows);
            release(norm[1], rows);
            release(run, width);
            free(v);
            free(x);
        }
}

static void gathered_rows_of(const struct attention_kernels *set)
{
    static const size_t dims[COUNT_OF_SIZES] = {1, 2, 7, 8, 9, 15, 16, 17, 64, 65};
    enum { ROWS = 9 };
    static const uint32_t order[ROWS] = {8, 0, 3, 3, 1, 7, 2, 0, 6};
    for (size_t d = 0; d < COUNT_OF_SIZES; d++)
        for (size_t rows = 0; rows <= ROWS; rows++) {
            const size_t dim = dims[d];
            float *x = strided_input("gathered", d, ROWS, dim, 1), *found = guarded(rows * dim);
            set->gather_rows(x, dim + GAP, order, rows, dim, found);
            for (size_t i = 0; i < rows; i++)
                assert_memory_equal(found + i * dim, x + order[i] * (dim + GAP), dim * sizeof *x);
            release(found, rows * dim);
            free(x);
        }
}

static void sign_hash(void **state)
{
    (void)state;
    for_every_set(hash_of);
}

static void gram_times_and_row_norms(void **state)
{
    (void)state;
    for_every_set(gram_and_norms_of);
}

static void gather_rows(void **state)
{
    (void)state;
    for_every_set(gathered_rows_of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign_hash), cmocka_unit_test(gram_times_and_row_norms), cmocka_unit_test(gather_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
