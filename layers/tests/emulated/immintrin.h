/* Stands before the compiler's header where kernels_avx512.c is built for a processor without AVX-512: SIMDe's portable
 * intrinsics under the usual names. */
#ifndef T2T_TESTS_EMULATED_IMMINTRIN_H
#define T2T_TESTS_EMULATED_IMMINTRIN_H

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#define vec_keep(v) __asm__("" : "+m"(v)) /* no register holds such a vector */

#endif
