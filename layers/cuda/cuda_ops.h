/* The CUDA device's table of operations, for who links it: the module, and tests in emulation. */
#ifndef T2T_LAYERS_CUDA_CUDA_OPS_H
#define T2T_LAYERS_CUDA_CUDA_OPS_H

#include "layers/layers.h"

#ifdef __cplusplus
extern "C"
#endif
    const struct layer_ops *
    t2t_cuda_ops(void);

#endif
