/* What the pickle machine works on: the flat table of values, places in containers, the stack with its marks, the memory,
 * and the bytes it reads. Every growth is bounded here.
 */
#include "weights/pickle_machine.h"

#include <stdlib.h>
#include <string.h>

#include "weights/input_file.h"

/* ---- values, places, stack ---- */

enum t2t_status pickle_refuse(const struct machine *machine, const char *what)
{
    return t2t_fail(T2T_BAD_MODEL, "%s: the pickle at byte %zu %s; it is damaged or no checkpoint",
        machine->pickle->path, machine->instruction, what);
}

/* The array with room for `needed` elements, or as it was and *status says why not. */
static void *make_room(const struct machine *machine, void *array, size_t *room, size_t needed, size_t most,
    size_t bytes, enum t2t_status *status)
{
    *status = T2T_OK;
    if (needed <= *room) return array;
    if (needed > most) {
        *status = pickle_refuse(machine, "holds more values than any checkpoint needs");
        return array;
    }
    size_t larger = *room ? *room * 2 : 256;
    if (larger < needed) larger = needed;
    if (larger > most) larger = most;
    void *moved = realloc(array, larger * bytes);
    if (!moved) {
        *status = t2t_fail_memory("the values of a pickle", larger * bytes);
        return array;
    }
    *room = larger;
    return moved;
}

#define MAKE_ROOM(ARRAY, ROOM, NEEDED, MOST, STATUS)                                                                   \
    ((ARRAY) = make_room(machine, ARRAY, &(ROOM), NEEDED, MOST, sizeof *(ARRAY), &(STATUS)))

enum t2t_status pickle_push(struct machine *machine, uint32_t value)
{
    enum t2t_status status;
    MAKE_ROOM(machine->stack, machine->stack_room, machine->depth + 1, MAX_VALUES, status);
    if (!status) machine->stack[machine->depth++] = value;
    return status;
}

enum t2t_status pickle_push_new(struct machine *machine, struct pickle_value value)
{
    struct pickle *pickle = machine->pickle;
    enum t2t_status status;
    MAKE_ROOM(pickle->values, pickle->value_room, pickle->value_count + 1, MAX_VALUES, status);
    if (status) return status;
    pickle->values[pickle->value_count] = value;
    return pickle_push(machine, (uint32_t)pickle->value_count++);
}

enum t2t_status pickle_push_storage(struct machine *machine, const struct pickle_storage *storage)
{
    struct pickle *pickle = machine->pickle;
    enum t2t_status status;
    MAKE_ROOM(pickle->storages, pickle->storage_room, pickle->storage_count + 1, MAX_STORAGES, status);
    if (status) return status;
    pickle->storages[pickle->storage_count] = *storage;
    return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_STORAGE, .as.index = pickle->storage_count++});
}

enum t2t_status pickle_push_tensor(struct machine *machine, const struct pickle_tensor *tensor)
{
    struct pickle *pickle = machine->pickle;
    enum t2t_status status;
    MAKE_ROOM(pickle->tensors, pickle->tensor_room, pickle->tensor_count + 1, MAX_STORAGES, status);
    if (status) return status;
    pickle->tensors[pickle->tensor_count] = *tensor;
    return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_TENSOR, .as.index = pickle->tensor_count++});
}

enum t2t_status pickle_append(struct machine *machine, uint32_t container, uint32_t value)
{
    struct pickle *pickle = machine->pickle;
    enum t2t_status status;
    MAKE_ROOM(pickle->places, pickle->place_room, pickle->place_count + 1, MAX_VALUES, status);
    if (status) return status;
    const uint32_t place = (uint32_t)pickle->place_count++;
    pickle->places[place] = (struct pickle_place){.value = value};
    struct pickle_value *to = &pickle->values[container];
    if (to->as.places.last)
        pickle->places[to->as.places.last].next = place;
    else
        to->as.places.first = place;
    to->as.places.last = place;
    return T2T_OK;
}

/* How many values lie above the last mark. */
size_t pickle_above_mark(const struct machine *machine)
{
    return machine->depth - (machine->mark_count ? machine->marks[machine->mark_count - 1] : 0);
}

enum t2t_status pickle_need(const struct machine *machine, size_t count)
{
    return pickle_above_mark(machine) >= count ? T2T_OK : pickle_refuse(machine, "takes more values than there are");
}

uint32_t pickle_pop(struct machine *machine)
{
    return machine->stack[--machine->depth];
}

struct pickle_value *pickle_top(const struct machine *machine)
{
    return &machine->pickle->values[machine->stack[machine->depth - 1]];
}

/* Removes the last mark; *count values lie on the stack where it was. */
enum t2t_status pickle_take_mark(struct machine *machine, size_t *count)
{
    if (!machine->mark_count) return pickle_refuse(machine, "ends a list that was never begun");
    *count = pickle_above_mark(machine);
    machine->mark_count--;
    return T2T_OK;
}

enum t2t_status pickle_put_mark(struct machine *machine)
{
    enum t2t_status status;
    MAKE_ROOM(machine->marks, machine->mark_room, machine->mark_count + 1, MAX_VALUES, status);
    if (!status) machine->marks[machine->mark_count++] = machine->depth;
    return status;
}

enum t2t_status pickle_remember(struct machine *machine, uint64_t number)
{
    enum t2t_status status = pickle_need(machine, 1);
    if (status) return status;
    if (number >= MAX_VALUES) return pickle_refuse(machine, "remembers a value under a number beyond all bounds");
    const size_t before = machine->memo_room;
    MAKE_ROOM(machine->memo, machine->memo_room, (size_t)number + 1, MAX_VALUES, status);
    if (status) return status;
    for (size_t i = before; i < machine->memo_room; i++) machine->memo[i] = NOTHING;
    if (machine->memo[number] == NOTHING) machine->remembered++;
    machine->memo[number] = machine->stack[machine->depth - 1];
    return T2T_OK;
}

/* ---- reading ---- */

enum t2t_status pickle_ends_early(struct machine *machine)
{
    machine->pickle->truncated = true;
    return t2t_fail(T2T_BAD_MODEL, "%s: the pickle ends early, within the instruction at byte %zu; it is incomplete",
        machine->pickle->path, machine->instruction);
}

/* A little-endian number of `bytes` bytes, at most 8. */
enum t2t_status pickle_read_number(struct machine *machine, size_t bytes, uint64_t *number)
{
    const struct pickle *pickle = machine->pickle;
    *number = 0;
    if (pickle->size - machine->at < bytes) return pickle_ends_early(machine);
    *number = t2t_little_endian(pickle->bytes + machine->at, bytes);
    machine->at += bytes;
    return T2T_OK;
}

/* Text after its length, which takes `length_bytes`. */
enum t2t_status pickle_read_text(struct machine *machine, size_t length_bytes, struct pickle_text *text)
{
    uint64_t length;
    const enum t2t_status status = pickle_read_number(machine, length_bytes, &length);
    if (status) return status;
    if (length > T2T_PICKLE_MAX_BYTES) return pickle_refuse(machine, "states a text longer than 16 MiB");
    if (machine->pickle->size - machine->at < length) return pickle_ends_early(machine);
    *text = (struct pickle_text){(uint32_t)machine->at, (uint32_t)length};
    machine->at += (size_t)length;
    return T2T_OK;
}

enum t2t_status pickle_read_line(struct machine *machine, struct pickle_text *text)
{
    const unsigned char *from = machine->pickle->bytes + machine->at;
    const unsigned char *end = memchr(from, '\n', machine->pickle->size - machine->at);
    if (!end) return pickle_ends_early(machine);
    *text = (struct pickle_text){(uint32_t)machine->at, (uint32_t)(end - from)};
    machine->at += (size_t)(end - from) + 1;
    return T2T_OK;
}
