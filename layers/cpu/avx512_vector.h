/* Vectors of sixteen floats, for the files with AVX-512 kernels. */
#ifndef T2T_LAYERS_CPU_AVX512_VECTOR_H
#define T2T_LAYERS_CPU_AVX512_VECTOR_H

#include <immintrin.h>
#include <string.h>

#include "layers/cpu/kernels.h"

#define WIDTH 16
#define ROWS 8

typedef __m512 vec;

#define vec_load _mm512_loadu_ps
#define vec_store _mm512_storeu_ps
#define vec_set _mm512_set1_ps
#define vec_fma _mm512_fmadd_ps
#define vec_add _mm512_add_ps
#define vec_sub _mm512_sub_ps
#define vec_max _mm512_max_ps
#define vec_any_above(a, b) (_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0)
#define vec_mul _mm512_mul_ps
#define vec_quarters(v)                                                                                                \
    _mm_add_ps(_mm_add_ps(_mm512_castps512_ps128(v), _mm512_extractf32x4_ps(v, 1)),                                    \
        _mm_add_ps(_mm512_extractf32x4_ps(v, 2), _mm512_extractf32x4_ps(v, 3)))
#define vec_eight(v)                                                                                                   \
    _mm256_add_ps(_mm512_castps512_ps256(v), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)))
#define vec_channels(x) _mm512_castpd_ps(_mm512_set1_pd(two_floats(x)))
#define vec_fold(v)                                                                                                    \
    vec_eight(_mm512_permutexvar_ps(_mm512_set_epi32(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0), v))
#ifndef vec_keep /* tests/emulated has no such registers */
#define vec_keep(v) __asm__("" : "+v"(v))
#endif

#include "layers/cpu/exp2_vector.h"

/* Two floats as one double, which is broadcast from memory. */
static inline double two_floats(const float *x)
{
    double both;
    memcpy(&both, x, sizeof both);
    return both;
}

/* 2^x for x <= 0: as with AVX2, but scaling by the whole part is one instruction. */
static inline __m512 vec_exp2(__m512 x)
{
    const __mmask16 counts = _mm512_cmp_ps_mask(x, _mm512_set1_ps(T2T_NO_WEIGHT), _CMP_NLT_UQ); /* NaN stays NaN */
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 fraction = _mm512_sub_ps(x, whole);
    return _mm512_maskz_scalef_ps(counts, exp2_of_fraction(fraction), whole);
}

#endif
