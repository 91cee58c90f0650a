/* float16 and bfloat16 numbers as bits; conversions round to the nearest, ties to even. */
#ifndef T2T_LAYERS_BASE_HALF_H
#define T2T_LAYERS_BASE_HALF_H

#include <stdint.h>

float t2t_half_to_float(uint16_t half);
float t2t_bfloat16_to_float(uint16_t bfloat16);
uint16_t t2t_float_to_half(float value);
uint16_t t2t_float_to_bfloat16(float value);

#endif
