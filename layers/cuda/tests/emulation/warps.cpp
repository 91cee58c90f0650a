/* Operations of a warp. */
#include "fibers.h"

namespace emulation
{

/* Runs the operation that `waiting` waits in, once all its lanes are there. Lanes that have exited do not count. */
void try_collective(Warp *warp, Fiber *first, Fiber *waiting)
{
    const unsigned wanted = waiting->mask & warp->exists & ~warp->done;
    if ((warp->pending & wanted) != wanted) return;
    void *arguments[32];
    for (unsigned i = 0; i < 32; i++) {
        if (!(wanted >> i & 1)) continue;
        const Fiber &fiber = first[i];
        if (fiber.mask != waiting->mask) return;
        if (fiber.operation != waiting->operation)
            fail("lanes of a warp in different operations: %s:%d and %s:%d", file_name(waiting->file), waiting->line,
                file_name(fiber.file), fiber.line);
        arguments[i] = fiber.argument;
    }
    waiting->execute(arguments, wanted);
    warp->pending &= ~wanted;
    for (unsigned i = 0; i < 32; i++) {
        if (!(wanted >> i & 1)) continue;
        if (first + i == current)
            current->state = RUNNING;
        else
            make_ready(first + i);
    }
}

void collective(Operation operation, unsigned mask, void *argument, Execute execute, const char *file, int line)
{
    Fiber *fiber = current;
    Warp *warp = &warps[fiber->warp];
    if (!(mask >> fiber->lane & 1))
        fail("lane %u is not in its own mask %08x at %s:%d", fiber->lane, mask, file_name(file), line);
    fiber->operation = operation;
    fiber->mask = mask;
    fiber->argument = argument;
    fiber->execute = execute;
    fiber->file = file;
    fiber->line = line;
    char *sync = nullptr;
    if (operation == SYNC) { /* nothing else orders memory among lanes */
        sync = &warp->sync[fiber->syncs++ & 1];
        release(sync);
    }
    fiber->state = AT_WARP;
    warp->pending |= 1u << fiber->lane;
    try_collective(warp, &fibers[fiber->warp * 32], fiber);
    if (fiber->state == AT_WARP) {
        next();
    } else if (config.policy != IN_ORDER) {
        make_ready(fiber); /* the last to come need not be the first to go on */
        next();
    }
    if (sync) acquire(sync);
}

void execute_sync(void *const *, unsigned) {}

void execute_shuffle(void *const *argument, unsigned mask)
{
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        Shuffle *shuffle = static_cast<Shuffle *>(argument[i]);
        if (shuffle->source < 0 || shuffle->source > 31 || !(mask >> shuffle->source & 1))
            fail("a shuffle reads lane %d, mask %08x", shuffle->source, mask);
        shuffle->out = static_cast<Shuffle *>(argument[shuffle->source])->in;
    }
}

void execute_ballot(void *const *argument, unsigned mask)
{
    unsigned bits = 0;
    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1) bits |= static_cast<unsigned>(static_cast<Vote *>(argument[i])->predicate != 0) << i;
    for (unsigned i = 0; i < 32; i++)
        if (mask >> i & 1) static_cast<Vote *>(argument[i])->out = bits;
}

void execute_match(void *const *argument, unsigned mask)
{
    for (unsigned i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        Vote *vote = static_cast<Vote *>(argument[i]);
        vote->out = 0;
        for (unsigned j = 0; j < 32; j++)
            if ((mask >> j & 1) && static_cast<Vote *>(argument[j])->key == vote->key) vote->out |= 1u << j;
    }
}

} /* namespace emulation */
