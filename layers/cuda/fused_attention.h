/* Exact attention in half precision by cuDNN's fused graph, where the library is found and has an engine for the device and
 * the sizes. Elsewhere attend_half does it. */
#ifndef T2T_LAYERS_CUDA_FUSED_ATTENTION_H
#define T2T_LAYERS_CUDA_FUSED_ATTENTION_H

#include "layers/cuda/cuda_device.h"

struct FusedPlan;

#ifdef T2T_CUDNN

/* The plan for a call's shape and up to as many images, made when it is first asked for: when a session opens. With as many
 * queries as keys it is one for q, k and v that are columns of one matrix, as products make them. NULL where there is none. */
const FusedPlan *t2t_cuda_fused_plan(struct layer_device *device, const struct attention_call *call);

/* Rounds q, k and v into the arena's memory, attends, and widens. Always as many images as the plan has, zeros where the
 * call has fewer: an image gets the same bits in any batch. */
void t2t_cuda_fused_attention(
    struct layer_device *device, const FusedPlan *plan, const struct attention_call *call, struct t2t_arena *arena);

/* ", cuDNN 9.19.0", or "" without it. */
void t2t_cuda_fused_describe(char *text, size_t bytes);
void t2t_cuda_fused_close(struct layer_device *device);

#else /* built without cuDNN's headers */

inline const FusedPlan *t2t_cuda_fused_plan(struct layer_device *, const struct attention_call *)
{
    return nullptr;
}
inline void t2t_cuda_fused_attention(
    struct layer_device *, const FusedPlan *, const struct attention_call *, struct t2t_arena *)
{
}
inline void t2t_cuda_fused_describe(char *, size_t) {}
inline void t2t_cuda_fused_close(struct layer_device *) {}

#endif

#endif
