/* The kernels with AVX2 and FMA: eight floats a vector, tiles of 16 queries. */
#include <immintrin.h>

#include "layers/base/cpu_features.h"
#include "layers/cpu/kernels.h"

#define WIDTH 8
#define ROWS 6
#define LEVEL(name) name##_avx2
#define LEVEL_NAME "avx2"

typedef __m256 vec;

#define vec_load _mm256_loadu_ps
#define vec_store _mm256_storeu_ps
#define vec_set _mm256_set1_ps
#define vec_fma _mm256_fmadd_ps
#define vec_add _mm256_add_ps
#define vec_sub _mm256_sub_ps
#define vec_max _mm256_max_ps
#define vec_any_above(a, b) (_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0)
#define vec_mul _mm256_mul_ps
#define vec_quarters(v) _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1))
#define vec_eight(v) (v)
#define vec_channels(x) _mm256_broadcast_ss(x)
#define vec_fold(v) (v)
#define vec_keep(v) __asm__("" : "+x"(v))

#include "layers/cpu/exp2_vector.h"

/* 2^x for x <= 0: a polynomial for the fraction, the whole part added to the exponent. */
static inline __m256 vec_exp2(__m256 x)
{
    const __m256 round = _mm256_set1_ps(12582912.0F);                                /* 1.5 * 2^23 */
    const __m256 lost = _mm256_cmp_ps(x, _mm256_set1_ps(T2T_NO_WEIGHT), _CMP_LT_OQ); /* NaN stays NaN */
    const __m256 shifted = _mm256_add_ps(x, round);
    const __m256 fraction = _mm256_sub_ps(x, _mm256_sub_ps(shifted, round));
    const __m256 power = exp2_of_fraction(fraction);
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_andnot_ps(lost, _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), exponent)));
}

static bool supported(void)
{
    return t2t_cpu_features().avx2_fma;
}

#include "layers/cpu/attention_vector.h"
