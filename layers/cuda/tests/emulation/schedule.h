/* What the emulation does from here on, for tests in C: the order of threads and blocks, and which device it is. */
#ifndef T2T_CUDA_TESTS_SCHEDULE_H
#define T2T_CUDA_TESTS_SCHEDULE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* policy 0: the first that can go on, 1: any, 2: warps run ahead; seed 0: blocks in order */
void t2t_emulation_schedule(uint64_t seed, int policy);

/* Compute capability times ten, at first 80. */
void t2t_emulation_capability(int ten_times);

#ifdef __cplusplus
}
#endif

#endif
