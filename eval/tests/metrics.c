/* Statistics of answers against numbers from tables and from arithmetic with fractions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "eval/metrics.h"

static void near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance)) fail_msg("%.12g, expected %.12g", found, expected);
}

/* ---- ranks ---- */

static void ranks(void **state)
{
    (void)state;
    const float logits[] = {0.5F, 2, -1, 2, 0.5F, 7};
    const size_t rank[] = {3, 1, 5, 2, 4, 0}; /* of equal logits the lower index comes first */
    for (size_t label = 0; label < 6; label++) assert_int_equal(t2t_rank_of(logits, 6, label), rank[label]);
    for (size_t count = 1; count <= 6; count++) {
        size_t best[6];
        t2t_top_classes(logits, 6, count, best);
        for (size_t place = 0; place < count; place++) assert_int_equal(rank[best[place]], place);
    }
}

static void nan_is_never_right(void **state)
{
    (void)state;
    const float some[] = {NAN, -INFINITY, 3, NAN, 1}, none[] = {NAN, NAN, NAN};
    assert_int_equal(t2t_rank_of(some, 5, 2), 0);
    assert_int_equal(t2t_rank_of(some, 5, 4), 1);
    assert_int_equal(t2t_rank_of(some, 5, 1), 2);
    assert_int_equal(t2t_rank_of(some, 5, 0), 5);
    assert_int_equal(t2t_rank_of(none, 3, 0), 3);
    size_t best[5];
    t2t_top_classes(some, 5, 5, best);
    const size_t expected[] = {2, 4, 1, 0, 3};
    assert_memory_equal(best, expected, sizeof expected);
}

static void one_class(void **state)
{
    (void)state;
    size_t best;
    assert_int_equal(t2t_rank_of((const float[]){-4}, 1, 0), 0);
    t2t_top_classes((const float[]){-4}, 1, 1, &best);
    assert_int_equal(best, 0);
    assert_true(t2t_log_loss((const float[]){-4}, 1, 0) == 0);
}

/* ---- probabilities ---- */

static void losses(void **state)
{
    (void)state;
    const float thirds[] = {0, 0, 0}, odds[] = {0, logf(3)}, high[] = {1000, 1000 + logf(3)}, low[] = {-1e30F, 0};
    near(t2t_log_loss(thirds, 3, 1), log(3), 1e-15);
    near(t2t_log_loss(odds, 2, 0), log(4), 1e-7);
    near(t2t_log_loss(odds, 2, 1), log(4.0 / 3), 1e-7);
    near(t2t_log_loss(high, 2, 0), log(4), 1e-4); /* 1000 + log 3 is rounded to 6e-5 */
    near(t2t_log_loss(low, 2, 1), 0, 0);
    near(t2t_log_loss(low, 2, 0), 1e30, 1e23);
    double probability[3];
    t2t_probabilities(odds, 2, probability);
    near(probability[0], 0.25, 1e-8);
    near(probability[1], 0.75, 1e-8);
    t2t_probabilities((const float[]){88, NAN, 88}, 3, probability);
    near(probability[0], 0.5, 1e-15);
    assert_true(isnan(probability[1]));
}

/* ---- intervals ---- */

static void expect_interval(struct interval found, double low, double high, double tolerance)
{
    near(found.low, low, tolerance);
    near(found.high, high, tolerance);
}

/* Newcombe 1998 (Statistics in Medicine 17:857-872), table I, method 3: Wilson's score interval. */
static void wilson_interval(void **state)
{
    (void)state;
    expect_interval(t2t_wilson(81, 263), 0.2553, 0.3662, 5e-5);
    expect_interval(t2t_wilson(15, 148), 0.0624, 0.1605, 5e-5);
    expect_interval(t2t_wilson(0, 20), 0, 0.1611, 5e-5);
    expect_interval(t2t_wilson(1, 29), 0.0061, 0.1718, 5e-5);
    expect_interval(t2t_wilson(20, 20), 1 - 0.1611, 1, 5e-5);
    expect_interval(t2t_wilson(0, 0), 0, 1, 0);
    const struct interval one = t2t_wilson(1, 1); /* low = 1 / (1 + z^2) */
    near(one.low, 1 / (1 + 1.959963984540054 * 1.959963984540054), 1e-12);
    const struct interval imagenet = t2t_wilson(41275, 50000); /* 82.55 % +- 0.33 */
    near(imagenet.high - imagenet.low, 2 * 0.003327, 2e-6);
}

static void mcnemar(void **state)
{
    (void)state;
    near(t2t_mcnemar(0, 0), 1, 0);
    near(t2t_mcnemar(0, 1), 1, 1e-14);
    near(t2t_mcnemar(0, 10), 2.0 / 1024, 1e-14);
    near(t2t_mcnemar(10, 0), 0.001953125, 1e-14);
    near(t2t_mcnemar(2, 8), 2.0 * (1 + 10 + 45) / 1024, 1e-13);
    near(t2t_mcnemar(1, 7), 2.0 * (1 + 8) / 256, 1e-14);
    near(t2t_mcnemar(5, 5), 1, 0);
    near(t2t_mcnemar(4, 5), 1, 1e-12);                          /* both halves of an odd number are all there is */
    near(t2t_mcnemar(59, 6) / 4.964650327128617e-12, 1, 1e-10); /* these three by fractions of whole numbers */
    near(t2t_mcnemar(612, 387) / 1.1055049056815802e-12, 1, 1e-10);
    near(t2t_mcnemar(24000, 25000) / 6.386559475966387e-06, 1, 1e-9);
    near(t2t_mcnemar(100000, 100000), 1, 0); /* nothing overflows */
    assert_true(t2t_mcnemar(0, 50000) >= 0 && t2t_mcnemar(0, 50000) < 1e-300);
}

static void paired_drop(void **state)
{
    (void)state;
    /* 1 and 7 of 21: shares 2/23 and 8/23, difference -6/23, half width z sqrt((10/23 - 36/529) / 23) */
    expect_interval(t2t_paired_drop(1, 7, 21), -0.508359307, -0.013379824, 1e-9);
    const struct interval forth = t2t_paired_drop(612, 387, 50000), back = t2t_paired_drop(387, 612, 50000);
    expect_interval(forth, 0.003260287, 0.005739353, 1e-9);
    expect_interval(back, -forth.high, -forth.low, 1e-15);
    expect_interval(t2t_paired_drop(0, 0, 1000), -0.002766275, 0.002766275, 1e-9); /* equal answers prove little */
    expect_interval(t2t_paired_drop(0, 0, 0), -1, 1, 0);
    assert_true(t2t_paired_drop(1, 0, 1).low < 0 && t2t_paired_drop(1, 0, 1).high <= 1);
}

/* Five seeds: picture 1 lost by three, picture 2 lost by one, picture 3 gained by two; 17 more alike. */
static void paired_mean_drop(void **state)
{
    (void)state;
    /* differences 3/5, 1/5, -2/5 and one of 1 and -1: mean 0.4/22, mean square (0.56 + 2)/22 */
    const double drop = 0.4 / 22, half = 1.959963984540054 * sqrt((2.56 / 22 - drop * drop) / 22);
    expect_interval(t2t_paired_mean_drop(4, 2, 9 + 1 + 4, 5, 20), drop - half, drop + half, 1e-12);
    /* seeds that all answer alike prove no more than one */
    const struct interval one = t2t_paired_drop(7, 3, 500);
    expect_interval(t2t_paired_mean_drop(4 * 7, 4 * 3, 16 * 10, 4, 500), one.low, one.high, 1e-15);
}

/* ---- spread ---- */

static void deviation(void **state)
{
    (void)state;
    near(t2t_deviation((const double[]){2, 4, 4, 4, 5, 5, 7, 9}, 8), sqrt(32.0 / 7), 1e-15);
    near(t2t_deviation((const double[]){1e9 + 1, 1e9 + 2, 1e9 + 3}, 3), 1, 1e-6);
    near(t2t_deviation((const double[]){3, 3}, 2), 0, 0);
    near(t2t_deviation((const double[]){3}, 1), 0, 0);
    near(t2t_deviation(NULL, 0), 0, 0);
}

static void expect_quartiles(struct quartiles found, double low, double median, double high)
{
    near(found.low, low, 1e-12);
    near(found.median, median, 1e-12);
    near(found.high, high, 1e-12);
}

static void quartiles(void **state)
{
    (void)state;
    const double four[] = {7, 1, 3, 10}, five[] = {5, 1, 4, 2, 3};
    expect_quartiles(t2t_quartiles(five, 5), 2, 3, 4);
    expect_quartiles(t2t_quartiles(four, 4), 2.5, 5, 7.75);
    near(four[0], 7, 0); /* as it was */
    expect_quartiles(t2t_quartiles((const double[]){6}, 1), 6, 6, 6);
    assert_true(isnan(t2t_quartiles(NULL, 0).median));
}

static void speedup(void **state)
{
    (void)state;
    const double reference[] = {10, 20, 30}, same[] = {10, 20, 30}, twice[] = {5, 10, 60}, idle[] = {0, 0, 0};
    expect_quartiles(t2t_speedup(reference, same, 3), 1, 1, 1);
    expect_quartiles(t2t_speedup(reference, twice, 3), 1.25, 2, 2); /* the median of ratios, not of times */
    assert_true(!isfinite(t2t_speedup(reference, idle, 3).median)); /* reports show nothing then */
    assert_true(isnan(t2t_speedup(NULL, NULL, 0).median));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks),
        cmocka_unit_test(nan_is_never_right),
        cmocka_unit_test(one_class),
        cmocka_unit_test(losses),
        cmocka_unit_test(wilson_interval),
        cmocka_unit_test(mcnemar),
        cmocka_unit_test(paired_drop),
        cmocka_unit_test(paired_mean_drop),
        cmocka_unit_test(deviation),
        cmocka_unit_test(quartiles),
        cmocka_unit_test(speedup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
