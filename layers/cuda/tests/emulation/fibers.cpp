/* The threads of a block as fibers: switching, scheduling, barriers. */
#include "fibers.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include <pthread.h>
#include <sys/mman.h>

#ifdef EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulation
{

Config config;
unsigned lane;
std::vector<Fiber> fibers;
std::vector<Warp> warps;
Fiber *current;
bool failed;
char start_sync, done_sync;

namespace
{

enum { MOST_THREADS = 1024, STACK_BYTES = 64 << 10, PAGE = 4096 };

uint16_t ready[MOST_THREADS]; /* a ring: nothing is allocated within fibers, ThreadSanitizer would see it */
unsigned head, ready_count;
unsigned threads, alive, waiting, generation;
bool abandoned; /* fibers of a failed block are in the middle of something */
char barrier_sync[2];
Fiber main_fiber;
const std::function<void()> *body;
char error[4096];
uint64_t random_state;

extern "C" void t2t_emulation_switch(void **save, void *to);
__asm__(".text\n.globl t2t_emulation_switch\n.type t2t_emulation_switch,@function\nt2t_emulation_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
        ".size t2t_emulation_switch,.-t2t_emulation_switch\n");

void switch_to(Fiber *to)
{
    Fiber *from = current;
    current = to;
    threadIdx = to->thread;
    lane = to->lane;
#ifdef EMULATION_ASAN
    void **keep = from->state == DONE && from != &main_fiber ? nullptr : &from->fake_stack;
    __sanitizer_start_switch_fiber(keep, to->stack, to->stack_bytes);
#endif
#ifdef EMULATION_TSAN
    __tsan_switch_to_fiber(to->tsan, 1); /* 1: no synchronisation is implied */
#endif
    t2t_emulation_switch(&from->stack_pointer, to->stack_pointer);
#ifdef EMULATION_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
#endif
}

void release_barrier()
{
    generation++;
    if (alive < threads) fail("%u threads wait at __syncthreads, the other %u have exited", alive, threads - alive);
    const Fiber *first = nullptr;
    for (unsigned i = 0; i < threads; i++) {
        const Fiber &fiber = fibers[i];
        if (fiber.state != AT_BARRIER) continue;
        if (!first) first = &fiber;
        if (fiber.line != first->line || fiber.file != first->file)
            fail("divergent __syncthreads: %s:%d and %s:%d", file_name(first->file), first->line, file_name(fiber.file),
                fiber.line);
    }
    waiting = 0;
    for (unsigned i = 0; i < threads; i++)
        if (fibers[i].state == AT_BARRIER) make_ready(&fibers[i]);
}

void entry()
{
#ifdef EMULATION_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    acquire(&start_sync);
    (*body)();
    release(&done_sync);
    Fiber *fiber = current;
    fiber->state = DONE;
    alive--;
    Warp *warp = &warps[fiber->warp];
    warp->done |= 1u << fiber->lane;
    for (unsigned i = 0; i < 32 && warp->pending; i++)
        if (warp->pending >> i & 1) try_collective(warp, &fibers[fiber->warp * 32], &fibers[fiber->warp * 32 + i]);
    if (alive && waiting == alive) release_barrier();
    next();
    abort();
}

void begin_fiber(Fiber *fiber)
{
    /* stacks differ in their low bits, or 32 lanes would fall on the same cache sets */
    const size_t top = fiber->stack_bytes - 64 - (fiber->lane + 32 * fiber->warp) * 320 % PAGE;
#ifdef EMULATION_ASAN
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes);
    fiber->fake_stack = nullptr;
#endif
    void **stack = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(fiber->stack + top) & ~(uintptr_t)15);
    *--stack = nullptr;
    *--stack = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++) *--stack = nullptr;
    fiber->stack_pointer = stack;
}

[[noreturn]] void deadlock()
{
    std::map<std::string, int> places;
    for (unsigned i = 0; i < threads; i++) {
        const Fiber &fiber = fibers[i];
        const char *what = fiber.state == DONE ? "exited" : fiber.state == AT_BARRIER ? "at a barrier" : "in a warp";
        std::string place = what;
        if (fiber.state != DONE) place += std::string(" ") + file_name(fiber.file) + ":" + std::to_string(fiber.line);
        places[place]++;
    }
    std::string text;
    for (const auto &place : places) text += "; " + std::to_string(place.second) + " threads " + place.first;
    fail("deadlock%s", text.c_str());
}

void drop_fibers()
{
    for (Fiber &fiber : fibers) {
        munmap(fiber.stack, fiber.stack_bytes);
#ifdef EMULATION_TSAN
        __tsan_destroy_fiber(fiber.tsan);
#endif
    }
    fibers.clear();
}

void find_main_stack()
{
    pthread_attr_t attributes;
    void *stack;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &main_fiber.stack_bytes);
    pthread_attr_destroy(&attributes);
    main_fiber.stack = static_cast<char *>(stack);
}

} /* namespace */

const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void seed_random(uint64_t seed)
{
    random_state = seed * 0x9E3779B97F4A7C15u + 0x1234567;
}

uint32_t random_bits()
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<uint32_t>(random_state >> 16);
}

void make_ready(Fiber *fiber)
{
    fiber->state = READY;
    ready[(head + ready_count++) % MOST_THREADS] = static_cast<uint16_t>(fiber - fibers.data());
}

void next()
{
    if (!ready_count) {
        if (alive) deadlock();
        switch_to(&main_fiber);
        return;
    }
    unsigned chosen = 0;
    if (config.policy != IN_ORDER) chosen = random_bits() % ready_count;
    if (config.policy == WARPS_RUN_AHEAD)
        for (unsigned i = 0; i < ready_count; i++)
            if (fibers[ready[(head + i) % MOST_THREADS]].priority >
                fibers[ready[(head + chosen) % MOST_THREADS]].priority)
                chosen = i;
    std::swap(ready[head], ready[(head + chosen) % MOST_THREADS]);
    Fiber *fiber = &fibers[ready[head]];
    head = (head + 1) % MOST_THREADS;
    ready_count--;
    fiber->state = RUNNING;
    if (fiber != current) switch_to(fiber);
}

const char *last_error()
{
    return error;
}

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, sizeof error, format, arguments);
    va_end(arguments);
    failed = abandoned = true;
    switch_to(&main_fiber);
    abort();
}

void maybe_yield()
{
    if (config.policy != RANDOM || random_bits() % 4) return;
    make_ready(current);
    next();
}

void barrier(const char *file, int line)
{
    Fiber *fiber = current;
    char *sync = &barrier_sync[generation & 1];
    release(sync);
    fiber->file = file;
    fiber->line = line;
    fiber->state = AT_BARRIER;
    if (++waiting == alive) release_barrier();
    next();
    acquire(sync);
}

void prepare_fibers(unsigned count)
{
    if (abandoned || fibers.size() < count) {
        drop_fibers();
        fibers.assign((count + 31) / 32 * 32, Fiber());
        for (Fiber &fiber : fibers) {
            void *stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (stack == MAP_FAILED) abort();
            mprotect(stack, PAGE, PROT_NONE); /* overflows end here */
            fiber.stack = static_cast<char *>(stack);
            fiber.stack_bytes = STACK_BYTES;
#ifdef EMULATION_TSAN
            fiber.tsan = __tsan_create_fiber(0);
#endif
        }
        abandoned = false;
    }
    if (!main_fiber.stack) find_main_stack();
#ifdef EMULATION_TSAN
    main_fiber.tsan = __tsan_get_current_fiber();
#endif
}

void run_block(unsigned count, const std::function<void()> &kernel)
{
    threads = alive = count;
    waiting = head = ready_count = 0;
    body = &kernel;
    warps.assign((count + 31) / 32, Warp());
    for (unsigned i = 0; i < count; i++) {
        Fiber &fiber = fibers[i];
        fiber.thread = make_uint3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
        fiber.lane = i % 32;
        fiber.warp = i / 32;
        fiber.priority = fiber.lane ? fibers[i - 1].priority - 1 : random_bits() | 31;
        fiber.syncs = 0;
        warps[fiber.warp].exists |= 1u << fiber.lane;
        begin_fiber(&fiber);
        make_ready(&fiber);
    }
    current = &main_fiber;
    main_fiber.state = RUNNING;
    next();
}

} /* namespace emulation */
