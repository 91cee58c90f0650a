/* Bump allocator with a measuring pass; see arena.h. */
#include "layers/base/arena.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define T2T_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define T2T_ADDRESS_SANITIZER 1
#endif
#endif

#ifdef T2T_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
enum { REDZONE = 64 };
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
enum { REDZONE = 0 };
#endif

enum { ALIGNMENT = 64 };

/* Sizes come from models that were checked against limits far below this; a sum that still overflows must not wrap. */
static size_t saturating_add(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

void *t2t_arena_take(struct t2t_arena *arena, size_t count, size_t size)
{
    const size_t bytes = size && count > (SIZE_MAX - 4 * ALIGNMENT) / size ? SIZE_MAX - 4 * ALIGNMENT : count * size;
    const size_t padded = saturating_add((bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT, REDZONE);
    const size_t start = arena->used;
    arena->used = saturating_add(start, padded);
    if (arena->used > arena->peak) arena->peak = arena->used;
    if (!arena->memory) return NULL;
    assert(arena->used <= arena->capacity);
    if (arena->adopted) return arena->memory + start;
    ASAN_UNPOISON_MEMORY_REGION(arena->memory + start, bytes); /* for good: planned memory is used after its release */
    return arena->memory + start;
}

size_t t2t_arena_mark(const struct t2t_arena *arena)
{
    return arena->used;
}

void t2t_arena_release(struct t2t_arena *arena, size_t mark)
{
    assert(mark <= arena->used);
    arena->used = mark;
}

void t2t_arena_adopt(struct t2t_arena *arena, void *memory)
{
    *arena = (struct t2t_arena){.memory = memory, .capacity = arena->peak, .peak = arena->peak, .adopted = true};
}

enum t2t_status t2t_arena_reserve(struct t2t_arena *arena)
{
    assert(!arena->memory);
    const size_t bytes = arena->peak ? arena->peak : ALIGNMENT;
    arena->memory = bytes > SIZE_MAX / 2 ? NULL : aligned_alloc(ALIGNMENT, bytes);
    if (!arena->memory) return t2t_fail_memory("the session's activations", bytes);
    arena->capacity = bytes;
    arena->used = 0;
    ASAN_POISON_MEMORY_REGION(arena->memory, bytes);
    return T2T_OK;
}

void t2t_arena_free(struct t2t_arena *arena)
{
    if (arena->adopted) arena->memory = NULL;
    if (arena->memory) ASAN_UNPOISON_MEMORY_REGION(arena->memory, arena->capacity);
    free(arena->memory);
    *arena = (struct t2t_arena){0};
}
