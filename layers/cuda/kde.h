/* What the steps of KDEformer share on the device (layers/kdeformer.md, kdeformer-sampling.md): kde_order.cu,
 * kde_probability.cu and kde_norm.cu, kde_samples.cu, kde_attention.cu. */
#ifndef T2T_LAYERS_CUDA_KDE_H
#define T2T_LAYERS_CUDA_KDE_H

#include "layers/cuda/attend.cuh"
#include "layers/cuda/cuda_device.h"

/* Sizes of a unit, and its blocks and groups as on the CPU. */
struct KdeSizes {
    int queries, keys, head_dim, value_dim;
    int projections, bucket, blocks, rows; /* of the block diagonal: keys, how many, queries in each but the last */
    int groups, samples, pilots;           /* samples and pilots of a group */

    /* Sorted positions of a group's queries: first ... last - 1. */
    __host__ __device__ int group_query(int group) const
    {
        const int first = static_cast<int>(static_cast<long long>(group) * blocks / groups) * rows;
        return first < queries ? first : queries;
    }
};

/* Device memory of a call; [units, ...] each. */
struct KdeMemory {
    uint16_t *q_code, *k_code;           /* [queries], [keys]: places along the Gray sequence */
    uint32_t *q_order, *k_order, *other; /* rows at sorted positions; scratch of the sort */
    uint32_t *k_position;                /* [keys] */
    float *pilot_sum;                    /* [groups, pilots] log2 of the softmax's sum */
    float *column;                       /* [groups, keys] log2 of the sum over pilots of squared weights */
    float *mean;                         /* [value_dim] of v */
    double *gram, *vectors;              /* [width, width], [41, width] of the operator norm, width = value_dim + 1 */
    float *norm;                         /* [1] */
    float *length;                       /* [keys] |[v_j, 1]|, or |v_j - mean| */
    float *probability;                  /* [groups, keys] */
    unsigned long long *weight;          /* [groups, keys] */
    uint32_t *sample_key;                /* [groups, samples] */
    float *sample_weight;                /* [groups, samples] log2 of 1 / expected draws */
    int *taken;                          /* [groups] */
    const float *projection;             /* the call's draws */
    const uint32_t *sample_uniform, *pilot_uniform;
};

struct KdeCall {
    const struct attention_call *call;
    struct layer_device *device;
    KdeSizes sizes;
    KdeMemory memory;
    size_t units;
};

cudaError_t t2t_cuda_kde_order(const KdeCall &kde);
cudaError_t t2t_cuda_kde_probability(const KdeCall &kde);
/* |[V, 1]| and |[v_j, 1]| (kde_norm.cu). */
cudaError_t t2t_cuda_kde_value_norms(const KdeCall &kde);
cudaError_t t2t_cuda_kde_samples(const KdeCall &kde);
/* mean [units, value_dim] of v. */
cudaError_t t2t_cuda_mean_value(const struct attention_call *call, float *mean, cudaStream_t stream);

#endif
