/* Tensor cores, the loading of their factors, and powers of two in one instruction: all inline PTX of this folder. What a
 * wrapper does in emulation stands beside it.
 *
 * Matrices lie across a warp as PTX has them (mma.m16n8k16): of lane 4 g + t
 *   a [16, 16]: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), each with the number to its right
 *   b [16, 8]:  (2t, g), (2t + 8, g), each with the number below it
 *   d [16, 8]:  (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
 */
#ifndef T2T_LAYERS_CUDA_MMA_CUH
#define T2T_LAYERS_CUDA_MMA_CUH

#include "layers/cuda/half.cuh"

#ifdef T2T_CUDA_EMULATION
#define AND_SITE , EMULATION_SITE
#define AND_ITS_SITE , const char *file, int line
#else
#define AND_SITE
#define AND_ITS_SITE
#endif

/* d += a b, exact products summed in float32. */
template <class Half>
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] AND_SITE);

template <>
__device__ __forceinline__ void multiply_add<__half>(
    float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] AND_ITS_SITE)
{
#if defined(T2T_CUDA_EMULATION)
    emulation::Product product = {d, a, b};
    emulation::collective(
        emulation::PRODUCT_FLOAT16, WHOLE_WARP, &product, emulation::execute_product_float16, file, line);
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else /* of Turing, eight columns of a at a time */
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}

template <>
__device__ __forceinline__ void multiply_add<__nv_bfloat16>(
    float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] AND_ITS_SITE)
{
#if defined(T2T_CUDA_EMULATION)
    emulation::Product product = {d, a, b};
    emulation::collective(
        emulation::PRODUCT_BFLOAT16, WHOLE_WARP, &product, emulation::execute_product_bfloat16, file, line);
#elif __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap(); /* the device was refused when it was opened */
#endif
}

/* Four 8 x 8 matrices of 16-bit numbers: lane l gives the address, in shared memory and of a multiple of 16 bytes, of row
 * l % 8 of matrix l / 8, and gets of each (g, 2t) and the number to its right; transposed, (2t, g) and the one below it. */
template <bool transposed> __device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const void *row AND_SITE)
{
#ifdef T2T_CUDA_EMULATION
    emulation::Matrices matrices = emulation::matrices_at(to, row, file, line);
    emulation::collective(transposed ? emulation::LOAD_TRANSPOSED : emulation::LOAD_MATRICES, WHOLE_WARP, &matrices,
        transposed ? emulation::execute_load_transposed : emulation::execute_load_matrices, file, line);
#else
    const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    if (transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(at)
                     : "memory");
#endif
}

/* 2^x to 2e-7 of it; what is below float32's normal numbers becomes 0. */
__device__ __forceinline__ float power_of_two(float x)
{
#ifdef T2T_CUDA_EMULATION
    return x < -126 ? 0 : exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

#endif
