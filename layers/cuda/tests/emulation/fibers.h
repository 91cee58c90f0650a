/* What the parts of the emulation share. */
#ifndef T2T_CUDA_TESTS_FIBERS_H
#define T2T_CUDA_TESTS_FIBERS_H

#include "emulation.h"

#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATION_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATION_ASAN
#endif
#if __has_feature(memory_sanitizer)
#define EMULATION_MSAN
#endif
#endif

/* Under ThreadSanitizer (EMULATION_TSAN) the kernels are compiled with it and this is not: what passes between fibers in
 * here would count as the kernels' races. Only barriers order memory, as on a device. */
#ifdef EMULATION_TSAN
extern "C" {
void __tsan_acquire(void *);
void __tsan_release(void *);
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void *);
void __tsan_switch_to_fiber(void *, unsigned);
void AnnotateIgnoreReadsBegin(const char *, int);
void AnnotateIgnoreWritesBegin(const char *, int);
void AnnotateIgnoreReadsEnd(const char *, int);
void AnnotateIgnoreWritesEnd(const char *, int);
}
#endif

namespace emulation
{

enum State : uint8_t { READY, RUNNING, AT_WARP, AT_BARRIER, DONE };

struct Fiber {
    uint3 thread;
    unsigned lane, warp;
    State state;
    Operation operation;
    unsigned mask, syncs;
    const char *file;
    int line;
    void *argument;
    Execute execute;
    void *stack_pointer;
    char *stack; /* lowest address */
    size_t stack_bytes;
    void *fake_stack, *tsan; /* the sanitizers' own */
    uint32_t priority;
};

struct Warp {
    unsigned exists, pending, done;
    char sync[2];
};

extern std::vector<Fiber> fibers;
extern std::vector<Warp> warps;
extern Fiber *current;
extern bool failed;
extern char start_sync, done_sync;

const char *file_name(const char *path);
uint32_t random_bits();
void seed_random(uint64_t seed);
void make_ready(Fiber *fiber);
void next(); /* leaves the current fiber, which has queued itself or waits */
void try_collective(Warp *warp, Fiber *first, Fiber *waiting);
void run_block(unsigned threads, const std::function<void()> &body);
void prepare_fibers(unsigned threads);
void poison(void *memory, size_t bytes);
void count_launch();
cudaError_t sticky_error(); /* of what has been done */

inline void acquire(void *what)
{
#ifdef EMULATION_TSAN
    __tsan_acquire(what);
#else
    (void)what;
#endif
}
inline void release(void *what)
{
#ifdef EMULATION_TSAN
    __tsan_release(what);
#else
    (void)what;
#endif
}

} /* namespace emulation */

#endif
