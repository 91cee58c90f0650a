/* What every kernel uses: one launch for the compiler of CUDA and for the emulation, shared memory, sums over lanes. */
#ifndef T2T_LAYERS_CUDA_DEVICE_CUH
#define T2T_LAYERS_CUDA_DEVICE_CUH

#ifndef T2T_CUDA_EMULATION
#include <cuda_runtime.h>
#endif
#include <cstddef>
#include <cstdint>

/* A block's dynamic shared memory as one struct. */
#ifdef T2T_CUDA_EMULATION
#define SHARED_MEMORY(type, name) type *name = static_cast<type *>(emulation::dynamic_shared())
#else
#define SHARED_MEMORY(type, name)                                                                                      \
    extern __shared__ __align__(16) unsigned char shared_bytes[];                                                      \
    type *name = reinterpret_cast<type *>(shared_bytes)
#endif

constexpr unsigned WHOLE_WARP = 0xffffffffu;
constexpr int WARP = 32;

template <class... P, class... A>
inline cudaError_t launch(
    void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, A... arguments)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

/* Over `lanes` neighbouring lanes, a power of two; every lane gets the result. */
template <int lanes, class T> __device__ __forceinline__ T sum_over(T x)
{
    for (int bits = lanes / 2; bits; bits /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, bits);
    return x;
}
template <int lanes> __device__ __forceinline__ float max_over(float x)
{
    for (int bits = lanes / 2; bits; bits /= 2) x = fmaxf(x, __shfl_xor_sync(WHOLE_WARP, x, bits));
    return x;
}

#endif
