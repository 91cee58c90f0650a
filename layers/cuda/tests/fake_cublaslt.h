/* What a program asked the fake of cuBLASLt for. */
#ifndef T2T_CUDA_TESTS_FAKE_CUBLASLT_H
#define T2T_CUDA_TESTS_FAKE_CUBLASLT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How often an algorithm was chosen so far. */
size_t t2t_fake_heuristics(void);

#ifdef __cplusplus
}
#endif

#endif
