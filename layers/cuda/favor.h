/* FAVOR+ (layers/methods.md) for performer and scatterbrain: y = sqrt(scale) k, features w_f of a key
 * exp(w_f.y - |y|^2 / 2). What they give to a run of keys is attention of features to keys with a bias. */
#ifndef T2T_LAYERS_CUDA_FAVOR_H
#define T2T_LAYERS_CUDA_FAVOR_H

#include "layers/cuda/unit_rows.h"

/* Keys cut into runs of 64; the cuts fall where windows of a tile of queries begin or end. Run r holds keys
 * begin(r) ... end(r) - 1, none where both are beyond the first or the last key. */
struct KeyRuns {
    int count, first, keys; /* runs; where run 0 begins, may be negative; of the call */
    bool to_end;            /* the last run goes on to the last key */

    __host__ __device__ int border(int run) const
    {
        const int at = first + run * TILE_QUERIES;
        return at < 0 ? 0 : at < keys ? at : keys;
    }
    __host__ __device__ int begin(int run) const { return border(run); }
    __host__ __device__ int end(int run) const { return to_end && run == count - 1 ? keys : border(run + 1); }
};

/* bias [units, keys] = -|y_j|^2 / 2 in base 2. */
cudaError_t t2t_cuda_key_biases(const struct attention_call *call, float *bias, cudaStream_t stream);

/* For each run and feature the log2 of the sum of the features of its keys, log_sum [units, runs, features], -INFINITY
 * for a run without keys, and the mean of v under them, mean [units, runs, features, value_dim], then NaN.
 * w [units, features, head_dim]; bias as above. */
cudaError_t t2t_cuda_feature_sums(const struct attention_call *call, const float *w, const float *bias,
    const KeyRuns &runs, float *mean, float *log_sum, cudaStream_t stream);

#endif
