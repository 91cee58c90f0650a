/* One block of memory a session, planned before it is reserved.
 *
 * The same code runs twice: on an arena without memory it only measures, on a reserved one it hands out addresses, so
 * what was measured is what is there. Takes are aligned to 64 bytes. Under AddressSanitizer there is a gap after each
 * take, poisoned unless a take of another stage covers it, so that overruns are caught although all share one
 * allocation.
 */
#ifndef T2T_LAYERS_BASE_ARENA_H
#define T2T_LAYERS_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "layers/base/status.h"

struct t2t_arena {
    unsigned char *memory; /* NULL while measuring */
    size_t used;           /* bytes taken so far */
    size_t peak;           /* largest `used` ever: what to reserve */
    size_t capacity;       /* bytes behind `memory` */
    bool adopted;          /* `memory` is another's, perhaps not even this processor's */
};

/* The next `count` elements of `size` bytes; NULL while measuring. The content is undefined. */
void *t2t_arena_take(struct t2t_arena *arena, size_t count, size_t size);

/* Takes made after a mark are given back by release, so that stages which never live together share bytes. Addresses
 * handed out before stay usable: which stage's turn it is, the caller knows. */
size_t t2t_arena_mark(const struct t2t_arena *arena);
void t2t_arena_release(struct t2t_arena *arena, size_t mark);

/* Starts an arena that has measured anew, on `peak` bytes that belong to the caller. */
void t2t_arena_adopt(struct t2t_arena *arena, void *memory);

/* Allocates `peak` bytes for an arena that has measured and starts it anew. The caller frees it with t2t_arena_free(). */
enum t2t_status t2t_arena_reserve(struct t2t_arena *arena);
void t2t_arena_free(struct t2t_arena *arena);

#endif
