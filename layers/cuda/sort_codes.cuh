/* Stable sort of short codes: the order of rows by hash. */
#ifndef T2T_LAYERS_CUDA_SORT_CODES_CUH
#define T2T_LAYERS_CUDA_SORT_CODES_CUH

#include "layers/cuda/device.cuh"

/* order [lists, rows]: the rows of each list by code [lists, rows], rows of one code as they were. `other` has the size
 * of `order` and is used where codes have more than 8 bits. A block a list. */
cudaError_t t2t_cuda_sort_codes(
    const uint16_t *code, size_t lists, int rows, int bits, uint32_t *order, uint32_t *other, cudaStream_t stream);

#endif
