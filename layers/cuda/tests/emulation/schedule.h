/* What the emulation does from here on, for tests in C: the order of threads and blocks, and which device it is. */
#ifndef T2T_CUDA_TESTS_SCHEDULE_H
#define T2T_CUDA_TESTS_SCHEDULE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* policy 0: the first that can go on, 1: any, 2: warps run ahead; seed 0: blocks in order */
void t2t_emulation_schedule(uint64_t seed, int policy);

/* Compute capability times ten, at first $T2T_EMULATED_CAPABILITY, or 80. */
void t2t_emulation_capability(int ten_times);

/* The thread's current device becomes another one, 1; which it is. The emulation has two, the second without a use. */
void t2t_emulation_leave_device(void);
int t2t_emulation_device(void);

#ifdef __cplusplus
}
#endif

#endif
