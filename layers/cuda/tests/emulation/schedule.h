/* How the emulation orders threads and blocks from here on, for tests in C. */
#ifndef T2T_CUDA_TESTS_SCHEDULE_H
#define T2T_CUDA_TESTS_SCHEDULE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C"
#endif
    /* policy 0: the first that can go on, 1: any, 2: warps run ahead; seed 0: blocks in order */
    void
    t2t_emulation_schedule(uint64_t seed, int policy);

#endif
