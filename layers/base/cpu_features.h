/* Which instruction sets the processor and the operating system offer, and how many threads we may use. */
#ifndef T2T_LAYERS_BASE_CPU_FEATURES_H
#define T2T_LAYERS_BASE_CPU_FEATURES_H

#include <stdbool.h>
#include <stddef.h>

struct t2t_cpu_features {
    bool avx2_fma;   /* AVX2, FMA3, and the system saves ymm registers */
    bool avx512;     /* AVX-512 F, BW, DQ, VL, and the system saves zmm registers */
    bool avx512bf16; /* additionally AVX512_BF16 */
    bool slow_bf16; /* its products take longer than as many of float32, as on Intel's processors (there AMX is fast) */
    bool amx_bf16;  /* additionally AMX tiles with bfloat16, and the system keeps them for this process */
};

struct t2t_cpu_features t2t_cpu_features(void);

/* Processors in the affinity mask, at most the cgroup's quota (version 1 or 2) rounded up; at least 1. */
size_t t2t_cpu_allowed(void);

#endif
