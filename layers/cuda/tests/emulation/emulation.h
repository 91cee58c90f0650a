/* CUDA C++ compiled as plain C++17 and run on the CPU, to prove kernels without a GPU.
 *
 *   c++ -std=c++17 -x c++ -DT2T_CUDA_EMULATION -include emulation.h -isystem CUDA/include kernel.cu
 *
 * A fiber a CUDA thread, one block after another, all on one thread of the system. Types are those of the CUDA headers;
 * the runtime's functions are defined in runtime.cpp against their real prototypes, so host code links with them or with
 * the real library. Shared and device memory begin as 0xff (NaN, -1); barriers that part of a block misses, collectives
 * that lanes disagree on and launches beyond a device's limits are errors with file and line. Schedules can be random, so
 * that a missing barrier shows; under ThreadSanitizer it shows in one run.
 */
#ifndef T2T_CUDA_TESTS_EMULATION_H
#define T2T_CUDA_TESTS_EMULATION_H

/* crt/host_defines.h keeps these where they are defined first. */
#define __host__
#define __device__
#define __global__
#define __launch_bounds__(...)
#define __forceinline__ inline

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include <cuda_runtime_api.h>
#include <vector_functions.h>

#define EMULATION_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace emulation
{

/* Which of the threads that can go on does: the first that could, any, or warps one after another as far as they get. */
enum Policy { IN_ORDER, RANDOM, WARPS_RUN_AHEAD };

struct Config {
    uint64_t seed = 0; /* of schedules and the order of blocks; 0: in order */
    Policy policy = IN_ORDER;
    size_t shared_limit = 48 << 10; /* without an attribute, as a driver has it */
    size_t shared_most = 64 << 10;  /* with one: the least of all supported devices */
    int capability = 80;            /* compute capability, ten times */
};
extern Config config;

extern unsigned lane; /* of the running thread in its warp */

/* What went wrong in the last launch that failed, "" before any. */
const char *last_error();
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

void *dynamic_shared();
cudaError_t run(
    const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream, const std::function<void()> &body);
void queue(cudaStream_t stream, const std::function<void()> &run); /* what a library does on a stream */

void barrier(const char *file, int line);
void maybe_yield(); /* with random schedules: atomics do */

/* An operation of a warp: each lane of `mask` hands in an argument; when all have, `execute` runs once. */
typedef void (*Execute)(void *const *argument, unsigned mask);
enum Operation { SYNC, SHUFFLE, BALLOT, MATCH, PRODUCT_FLOAT16, PRODUCT_BFLOAT16, LOAD_MATRICES, LOAD_TRANSPOSED };
void collective(Operation operation, unsigned mask, void *argument, Execute execute, const char *file, int line);

struct Shuffle {
    uint64_t in, out;
    int source;
};
struct Vote {
    int predicate;
    unsigned out;
    uint64_t key;
};
/* Of tensor cores (tensor_cores.cpp). */
struct Product {
    float *d;
    const uint32_t *a, *b;
};
struct Matrices {
    uint32_t *to;
    uint16_t row[8]; /* that this lane gave: read by it, so that sanitizers see who reads what */
};
inline Matrices matrices_at(uint32_t *to, const void *row, const char *file, int line)
{
    Matrices matrices = {to, {}};
    if (reinterpret_cast<uintptr_t>(row) % sizeof matrices.row) fail("a misaligned matrix at %s:%d", file, line);
    std::memcpy(matrices.row, row, sizeof matrices.row);
    return matrices;
}
void execute_sync(void *const *, unsigned);
void execute_shuffle(void *const *, unsigned);
void execute_ballot(void *const *, unsigned);
void execute_match(void *const *, unsigned);
void execute_product_float16(void *const *, unsigned);
void execute_product_bfloat16(void *const *, unsigned);
void execute_load_matrices(void *const *, unsigned);
void execute_load_transposed(void *const *, unsigned);

template <class T> inline T shuffle(unsigned mask, T value, int source, const char *file, int line)
{
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "a shuffle moves a small plain value");
    Shuffle argument = {0, 0, source};
    std::memcpy(&argument.in, &value, sizeof value);
    collective(SHUFFLE, mask, &argument, execute_shuffle, file, line);
    std::memcpy(&value, &argument.out, sizeof value);
    return value;
}

} /* namespace emulation */

extern uint3 threadIdx, blockIdx; /* set at every switch */
extern dim3 blockDim, gridDim;

/* ---- barriers and warps ---- */

inline void __syncthreads(EMULATION_SITE)
{
    emulation::barrier(file, line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATION_SITE)
{
    emulation::collective(emulation::SYNC, mask, nullptr, emulation::execute_sync, file, line);
}
template <class T> inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATION_SITE)
{
    const int lane = (int)emulation::lane;
    return emulation::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), file, line);
}
template <class T> inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATION_SITE)
{
    const int lane = (int)emulation::lane, source = lane ^ bits;
    return emulation::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, file, line);
}
template <class T> inline T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, EMULATION_SITE)
{
    const int lane = (int)emulation::lane, source = lane - (int)distance;
    return emulation::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATION_SITE)
{
    emulation::Vote vote = {predicate, 0, 0};
    emulation::collective(emulation::BALLOT, mask, &vote, emulation::execute_ballot, file, line);
    return vote.out;
}
template <class T> inline unsigned __match_any_sync(unsigned mask, T key, EMULATION_SITE)
{
    emulation::Vote vote = {0, 0, 0};
    std::memcpy(&vote.key, &key, sizeof key);
    emulation::collective(emulation::MATCH, mask, &vote, emulation::execute_match, file, line);
    return vote.out;
}

/* ---- atomics, relaxed as on a device ---- */

template <class T> inline T atomicAdd(T *at, T value)
{
    static_assert(std::is_integral<T>::value, "sums of floats by atomics depend on the schedule");
    emulation::maybe_yield();
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

/* ---- arithmetic ---- */

inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
inline int min(int a, int b)
{
    return a < b ? a : b;
}
inline int max(int a, int b)
{
    return a > b ? a : b;
}

/* ---- launching ---- */

template <class... P, class... A>
inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *launch, void (*kernel)(P...), A &&...arguments)
{
    std::tuple<P...> copy(static_cast<P>(std::forward<A>(arguments))...); /* at launch, as on a device */
    return emulation::run(reinterpret_cast<const void *>(kernel), launch->gridDim, launch->blockDim,
        launch->dynamicSmemBytes, launch->stream, [kernel, copy] { std::apply(kernel, copy); });
}
template <class... P>
inline cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value)
{
    return ::cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}
template <class... P> inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, void (*kernel)(P...))
{
    return ::cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(kernel));
}

#endif
