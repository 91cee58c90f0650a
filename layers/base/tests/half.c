/* Half precision, all 65,536 values of each format against a definition in double, and what lies between them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "layers/base/half.h"

static double value_of(uint16_t half, int exponent_bits, int mantissa_bits)
{
    const int exponent = half >> mantissa_bits & ((1 << exponent_bits) - 1),
              mantissa = half & ((1 << mantissa_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    double value;
    if (exponent == (1 << exponent_bits) - 1)
        value = mantissa ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        value = ldexp(mantissa, 1 - bias - mantissa_bits);
    else
        value = ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return half & 0x8000 ? -value : value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void all_values(float (*to_float)(uint16_t), uint16_t (*from_float)(float), int exponent_bits, int mantissa_bits)
{
    const uint16_t infinity = (uint16_t)(((1 << exponent_bits) - 1) << mantissa_bits);
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t half = (uint16_t)i;
        const double value = value_of(half, exponent_bits, mantissa_bits);
        const float converted = to_float(half);
        if (isnan(value)) {
            assert_true(isnan(converted));
            assert_true(isnan(to_float(from_float(converted))));
            continue;
        }
        assert_int_equal(bits_of(converted), bits_of((float)value)); /* also the sign of zero */
        assert_int_equal(from_float(converted), half);
        if ((half & 0x7fff) >= infinity) continue;
        /* between this value and the next: below the middle down, above it up, on it to the even one */
        const double next = (half & 0x7fff) + 1 == infinity
                                ? ldexp(1, 1 << (exponent_bits - 1))
                                : fabs(value_of((uint16_t)(half + 1), exponent_bits, mantissa_bits));
        const float middle = (float)copysign((fabs(value) + next) / 2, value);
        assert_int_equal(from_float(nextafterf(middle, 0)), half);
        assert_int_equal(from_float(middle), half & 1 ? half + 1 : half);
        assert_int_equal(from_float(nextafterf(middle, middle * 2)), half + 1);
    }
}

static void half_precision(void **state)
{
    (void)state;
    all_values(t2t_half_to_float, t2t_float_to_half, 5, 10);
    all_values(t2t_bfloat16_to_float, t2t_float_to_bfloat16, 8, 7);
    assert_int_equal(t2t_float_to_half(1e30F), 0x7c00);
    assert_int_equal(t2t_float_to_half(-1e30F), 0xfc00);
    assert_int_equal(t2t_float_to_half(65520), 0x7c00);
    assert_int_equal(t2t_float_to_half(65519), 0x7bff);
    assert_int_equal(t2t_float_to_half(1e-30F), 0);
    assert_int_equal(t2t_float_to_half(-1e-45F), 0x8000);
    assert_int_equal(t2t_float_to_bfloat16(3.4e38F), 0x7f80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_precision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
