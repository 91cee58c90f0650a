/* The matrices of a call as rows of units, for the methods' host code. */
#ifndef T2T_LAYERS_CUDA_UNIT_ROWS_H
#define T2T_LAYERS_CUDA_UNIT_ROWS_H

#include "layers/cuda/attend.cuh"
#include "layers/cuda/cuda_device.h"

constexpr float LOG2_E = 1.4426950408889634f;

inline size_t tiles_of(size_t queries)
{
    return (queries + TILE_QUERIES - 1) / TILE_QUERIES;
}

inline UnitRows query_rows(const struct attention_call *call)
{
    return {call->q, call->shape.queries * call->q_stride, call->shape.head_dim, call->q_stride,
        static_cast<int>(call->shape.heads)};
}
inline UnitRows key_rows(const struct attention_call *call)
{
    return {call->k, call->shape.keys * call->k_stride, call->shape.head_dim, call->k_stride,
        static_cast<int>(call->shape.heads)};
}
inline UnitRows value_rows(const struct attention_call *call)
{
    return {call->v, call->shape.keys * call->v_stride, call->shape.value_dim, call->v_stride,
        static_cast<int>(call->shape.heads)};
}

/* Rows of a buffer [units, rows, dim] or, with `units` false, of one [rows, dim] that all units share. */
inline UnitRows buffer_rows(const float *data, size_t rows, size_t dim, bool units)
{
    return {data, units ? rows * dim : 0, 0, dim, 1};
}

#endif
