/* Launches, and the functions of the CUDA runtime that host code uses of one device; streams.cpp has the rest. */
#include "fibers.h"
#include "schedule.h"

#include <cstdlib>
#include <map>

#ifdef EMULATION_MSAN
#include <sanitizer/msan_interface.h>
#endif

namespace emulation
{

namespace
{

bool in_kernel;
cudaError_t sticky;
void *shared;
size_t shared_bytes;
std::map<const void *, int> shared_attribute;
/* past the sanitizers' interceptors: this is a device's */
void *(*volatile plain_set)(void *, int, size_t) = memset;

/* A new buffer of the exact size for every block: AddressSanitizer sees overruns, ThreadSanitizer no earlier block. */
void new_shared(size_t bytes)
{
#ifdef EMULATION_TSAN
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
    free(shared);
    shared_bytes = bytes;
    if (posix_memalign(&shared, 1024, bytes ? bytes : 1)) abort();
    poison(shared, bytes);
#ifdef EMULATION_TSAN
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
}

} /* namespace */

void poison(void *memory, size_t bytes)
{
    if (bytes) plain_set(memory, 0xff, bytes);
#ifdef EMULATION_MSAN
    __msan_poison(memory, bytes);
#endif
}

void *dynamic_shared()
{
    if (!shared_bytes) fail("dynamic shared memory is used, but none was asked for at the launch");
    return shared;
}

/* A kernel whose turn in its stream has come. */
static void run_kernel(dim3 grid, dim3 block, size_t bytes, const std::function<void()> &body)
{
    const uint64_t threads = (uint64_t)block.x * block.y * block.z, blocks = (uint64_t)grid.x * grid.y * grid.z;
    failed = false;
    in_kernel = true;
    seed_random(config.seed);
    blockDim = block;
    gridDim = grid;
    prepare_fibers((unsigned)threads);
    std::vector<uint32_t> order(blocks);
    for (uint64_t i = 0; i < blocks; i++) order[i] = (uint32_t)i;
    for (uint64_t i = blocks; config.seed && i > 1; i--) std::swap(order[i - 1], order[random_bits() % i]);
    release(&start_sync);
    for (uint64_t i = 0; i < blocks && !failed; i++) {
        blockIdx = make_uint3(order[i] % grid.x, order[i] / grid.x % grid.y, order[i] / grid.x / grid.y);
        new_shared(bytes);
        run_block((unsigned)threads, body);
    }
#ifdef EMULATION_TSAN
    void *const host = __tsan_get_current_fiber();
    for (size_t i = 0; failed && i < fibers.size(); i++) { /* what abandoned fibers did is over, too */
        __tsan_switch_to_fiber(fibers[i].tsan, 1);
        __tsan_release(&done_sync);
    }
    __tsan_switch_to_fiber(host, 1);
#endif
    acquire(&done_sync);
    in_kernel = false;
    if (failed) sticky = cudaErrorLaunchFailure;
}

cudaError_t run(
    const void *kernel, dim3 grid, dim3 block, size_t bytes, cudaStream_t stream, const std::function<void()> &body)
{
    const uint64_t threads = (uint64_t)block.x * block.y * block.z, blocks = (uint64_t)grid.x * grid.y * grid.z;
    if (in_kernel || !threads || !blocks || threads > 1024 || block.z > 64 || grid.y > 65535 || grid.z > 65535)
        return sticky = cudaErrorInvalidConfiguration;
    const auto attribute = shared_attribute.find(kernel);
    if (bytes > (attribute != shared_attribute.end() ? (size_t)attribute->second : config.shared_limit))
        return sticky = cudaErrorInvalidValue;
    count_launch();
    failed = false;
    queue(stream, [=] { run_kernel(grid, block, bytes, body); });
    return failed ? cudaErrorLaunchFailure : cudaSuccess; /* of a stream that has done it already */
}

cudaError_t sticky_error()
{
    return sticky;
}

} /* namespace emulation */

using namespace emulation;

extern "C" void t2t_emulation_schedule(uint64_t seed, int policy)
{
    config.seed = seed;
    config.policy = static_cast<Policy>(policy);
}

extern "C" void t2t_emulation_capability(int ten_times)
{
    config.capability = ten_times;
}

[[maybe_unused]] static const bool has_read_environment = [] {
    if (const char *text = getenv("T2T_EMULATED_CAPABILITY")) config.capability = atoi(text);
    return true;
}();

static thread_local int current_device;

extern "C" void t2t_emulation_leave_device(void)
{
    current_device = 1;
}

extern "C" int t2t_emulation_device(void)
{
    return current_device;
}

/* ---- the CUDA runtime ---- */

extern "C" {

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    if (device) return cudaErrorInvalidDevice;
    current_device = 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "emulation");
    properties->major = config.capability / 10;
    properties->minor = config.capability % 10;
    properties->sharedMemPerBlockOptin = config.shared_most;
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *)
{
    memset(attributes, 0, sizeof *attributes);
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || (size_t)value > config.shared_most) return sticky = cudaErrorInvalidValue;
    shared_attribute[kernel] = value;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = sticky;
    sticky = cudaSuccess;
    return error;
}
const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaSuccess ? "no error" : *last_error() ? last_error() : "a refused call";
}

} /* extern "C" */
