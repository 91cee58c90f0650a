/* The prediction against numbers by hand, and what its crossover must be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "eval/predict.h"

static const struct attention_shape layer1 = {1, 3136, 3136, 64, 64, 0.0825F};
static const struct attention_config exact = {.kind = ATTENTION_EXACT};
static const struct attention_config published = {
    .kind = ATTENTION_KDEFORMER, .projections = 7, .bucket = 32, .samples = 98};

static void near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-3 * fabs(expected))) fail_msg("%g, expected %g", value, expected);
}

/* 4 n^2 d FLOP, n^2 exponentials, 4 n d numbers. 132 x 4096 x 1.83e9 = 989.4e12; 132 x 16 x 1.83e9 = 3.865e12. */
static void exact_by_hand(void **state)
{
    (void)state;
    const struct gpu *h100 = t2t_gpu_named("h100");
    const struct attention_work work = t2t_attention_work(&layer1, &exact, 1);
    int bound;
    near(work.flop, 2.5176e9);
    near(work.exponentials, 9834496);
    near(work.numbers, 802816);
    assert_int_equal(work.kernels, 1);
    near(t2t_predict(h100, &work, false, &bound), 2.5176e9 / 61.84e12 + 3e-6);
    assert_int_equal(bound, BOUND_BY_PRODUCTS);
    const struct attention_work thin = {.flop = 1, .exponentials = 1e9, .numbers = 1, .kernels = 2};
    near(t2t_predict(h100, &thin, true, &bound), 1e9 / 3.865e12 + 6e-6);
    assert_int_equal(bound, BOUND_BY_EXPONENTIALS);
    const struct attention_work many = {.flop = 1, .exponentials = 1, .numbers = 1, .kernels = 12};
    near(t2t_predict(h100, &many, true, &bound), 36e-6);
    assert_int_equal(bound, BOUND_BY_LAUNCHES);
    const struct attention_work wide = {.flop = 1, .exponentials = 1, .numbers = 1e9, .kernels = 0};
    near(t2t_predict(h100, &wide, true, &bound), 2e9 / 3.35e12);
    assert_int_equal(bound, BOUND_BY_MEMORY);
    assert_null(t2t_gpu_named("h200"));
}

/* Products 3136 (32 + 98) 128, hashes 2 x 3136 x 64 x 7, a Gram matrix 3136 x 65 x 65 multiply-adds; a batch of 8. Only
 * the products are the tensor cores'. */
static void kdeformer_by_hand(void **state)
{
    (void)state;
    const struct attention_work work = t2t_attention_work(&layer1, &published, 8);
    near(work.flop, 2 * 8 * 68242496.0);
    near(work.tensor_flop, 2 * 8 * 52183040.0);
    near(work.exponentials, 8 * 3136 * 130.0);
    near(work.numbers, 8 * 7 * 200704.0);
    assert_int_equal(work.kernels, 11);
    const struct gpu *h100 = t2t_gpu_named("h100");
    const struct attention_work products = {.flop = 3e12, .tensor_flop = 2e12};
    near(t2t_predict(h100, &products, false, NULL), 3e12 / 61.84e12);
    near(t2t_predict(h100, &products, true, NULL), 2e12 / 989.4e12 + 1e12 / 61.84e12);
}

static void crossover_is_where_it_wins(void **state)
{
    (void)state;
    const struct gpu *h100 = t2t_gpu_named("h100");
    for (int half = 0; half < 2; half++)
        for (size_t batch = 1; batch <= 8; batch += 7) {
            const size_t from = t2t_predict_crossover(h100, &layer1, &published, batch, half);
            assert_true(from > 64);
            for (int side = -1; side <= 1; side += 2) {
                struct attention_shape shape = layer1;
                shape.queries = shape.keys = (size_t)((double)from * (1 + 0.05 * side));
                const struct attention_work a = t2t_attention_work(&shape, &exact, batch);
                const struct attention_work b = t2t_attention_work(&shape, &published, batch);
                assert_int_equal(t2t_predict(h100, &b, half, NULL) < t2t_predict(h100, &a, half, NULL), side > 0);
            }
        }
    const struct attention_config same = {.kind = ATTENTION_EXACT};
    assert_int_equal(t2t_predict_crossover(h100, &layer1, &same, 1, true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact_by_hand), cmocka_unit_test(kdeformer_by_hand),
        cmocka_unit_test(crossover_is_where_it_wins)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
