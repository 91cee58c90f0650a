/* The two formats of half precision as types, and how numbers are rounded to them. */
#ifndef T2T_LAYERS_CUDA_HALF_CUH
#define T2T_LAYERS_CUDA_HALF_CUH

#include "layers/cuda/device.cuh"

#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

/* Two numbers, the first in the low half. */
template <class Half> __device__ __forceinline__ uint32_t round_pair(float first, float second);

template <> __device__ __forceinline__ uint32_t round_pair<__half>(float first, float second)
{
    const __half2 pair = __floats2half2_rn(first, second);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

template <> __device__ __forceinline__ uint32_t round_pair<__nv_bfloat16>(float first, float second)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

/* Numbers first ... first + 3 of a row of `count`, zeros beyond its end. A row may begin at any float. */
template <class Half> __device__ __forceinline__ uint2 round_four(const float *row, int first, int count, float factor)
{
    float4 x = make_float4(0, 0, 0, 0);
    const float *from = row + first;
    if (first + 4 <= count && reinterpret_cast<uintptr_t>(from) % sizeof x == 0) {
        x = *reinterpret_cast<const float4 *>(from);
    } else {
        if (first < count) x.x = from[0];
        if (first + 1 < count) x.y = from[1];
        if (first + 2 < count) x.z = from[2];
        if (first + 3 < count) x.w = from[3];
    }
    return make_uint2(round_pair<Half>(x.x * factor, x.y * factor), round_pair<Half>(x.z * factor, x.w * factor));
}

#endif
