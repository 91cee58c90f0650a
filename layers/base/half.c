/* float16 and bfloat16 in integer arithmetic: round to nearest, ties to even, subnormal numbers included; what is too
 * large becomes infinity, NaN stays NaN.
 */
#include <string.h>

#include "layers/base/half.h"

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* value / 2^shift, 1 <= shift <= 31. A carry out of the mantissa raises the exponent, which is what it should do. */
static uint32_t round_to_even(uint32_t value, unsigned shift)
{
    const uint32_t quotient = value >> shift, rest = value & ((UINT32_C(1) << shift) - 1);
    const uint32_t half = UINT32_C(1) << (shift - 1);
    return quotient + (rest > half || (rest == half && (quotient & 1)));
}

/* The bias of float32's exponent less that of float16's, where float32 has its exponent. */
static const uint32_t exponent_shift = UINT32_C(112) << 23;

float t2t_half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    if (magnitude < 0x400) { /* subnormal: a multiple of 2^-24 */
        const float value = (float)magnitude * 0x1p-24F;
        return sign ? -value : value;
    }
    return float_of_bits(sign | ((magnitude << 13) + exponent_shift));
}

uint16_t t2t_float_to_half(float value)
{
    const uint32_t bits = bits_of_float(value), magnitude = bits & 0x7fffffff;
    const uint32_t sign = bits >> 16 & 0x8000;
    uint32_t half;
    if (magnitude > 0x7f800000)
        half = 0x7e00;
    else if (magnitude >= 0x477ff000) /* 65520, half way to what would be the next half: infinity */
        half = 0x7c00;
    else if (magnitude >= 0x38800000) /* 2^-14 */
        half = round_to_even(magnitude - exponent_shift, 13);
    else if (magnitude < 0x33000000) /* 2^-25 */
        half = 0;
    else
        half = round_to_even((magnitude & 0x7fffff) | 0x800000, 126 - (magnitude >> 23));
    return (uint16_t)(sign | half);
}

float t2t_bfloat16_to_float(uint16_t bfloat16)
{
    return float_of_bits((uint32_t)bfloat16 << 16);
}

uint16_t t2t_float_to_bfloat16(float value)
{
    const uint32_t bits = bits_of_float(value), magnitude = bits & 0x7fffffff;
    const uint32_t bfloat16 = magnitude > 0x7f800000 ? 0x7fc0 : round_to_even(magnitude, 16);
    return (uint16_t)((bits >> 16 & 0x8000) | bfloat16);
}
