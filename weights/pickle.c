/* The pickle machine: one small function an instruction, found in a table by its code; see pickle.h.
 *
 * The stack holds numbers of values. Every value has one type for good, and every instruction checks the types it is
 * given, so no value is ever taken for another kind. pickle_objects.c has the instructions that make objects.
 */
#include "weights/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "weights/pickle_machine.h"

/* ---- instructions: constants ---- */

static enum t2t_status none(struct machine *machine, unsigned char code)
{
    (void)code;
    return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_NONE});
}

static enum t2t_status boolean(struct machine *machine, unsigned char code)
{
    return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_BOOL, .as.integer = code == 0x88});
}

static enum t2t_status integer(struct machine *machine, unsigned char code)
{
    uint64_t number;
    const enum t2t_status status = pickle_read_number(machine, code == 'J' ? 4 : code == 'M' ? 2 : 1, &number);
    if (status) return status;
    const int64_t value = code == 'J' ? (int64_t)(int32_t)(uint32_t)number : (int64_t)number;
    return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_INT, .as.integer = value});
}

/* Two's complement of up to 255 bytes. */
static enum t2t_status long_integer(struct machine *machine, unsigned char code)
{
    (void)code;
    struct pickle_text text;
    const enum t2t_status status = pickle_read_text(machine, 1, &text);
    if (status) return status;
    if (text.bytes > 8) return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_LONG, .as.text = text});
    const unsigned char *bytes = machine->pickle->bytes + text.offset;
    uint64_t number = text.bytes && bytes[text.bytes - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = text.bytes; i-- > 0;) number = number << 8 | bytes[i];
    return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_INT, .as.integer = (int64_t)number});
}

static enum t2t_status floating(struct machine *machine, unsigned char code)
{
    (void)code;
    uint64_t number;
    const enum t2t_status status = pickle_read_number(machine, 8, &number);
    return status ? status : pickle_push_new(machine, (struct pickle_value){.type = PICKLE_FLOAT});
}

static enum t2t_status text(struct machine *machine, unsigned char code)
{
    const size_t length_bytes = strchr("UC\x8c", code) ? 1 : strchr("XTB", code) ? 4 : 8;
    struct pickle_value value = {.type = PICKLE_TEXT};
    const enum t2t_status status = pickle_read_text(machine, length_bytes, &value.as.text);
    return status ? status : pickle_push_new(machine, value);
}

/* ---- instructions: containers ---- */

static enum t2t_status empty(struct machine *machine, unsigned char code)
{
    const enum pickle_type type = code == '}'   ? PICKLE_DICT
                                  : code == ']' ? PICKLE_LIST
                                  : code == ')' ? PICKLE_TUPLE
                                                : PICKLE_INERT;
    return pickle_push_new(machine, (struct pickle_value){.type = (unsigned char)type});
}

/* The top `count` values become one tuple. */
static enum t2t_status gather(struct machine *machine, size_t count)
{
    const size_t from = machine->depth - count;
    enum t2t_status status = pickle_push_new(machine, (struct pickle_value){.type = PICKLE_TUPLE});
    if (status) return status;
    const uint32_t tuple = pickle_pop(machine);
    for (size_t i = 0; i < count && !status; i++) status = pickle_append(machine, tuple, machine->stack[from + i]);
    machine->depth = from;
    return status ? status : pickle_push(machine, tuple);
}

static enum t2t_status small_tuple(struct machine *machine, unsigned char code)
{
    const size_t count = (size_t)code - 0x84;
    const enum t2t_status status = pickle_need(machine, count);
    return status ? status : gather(machine, count);
}

static enum t2t_status tuple(struct machine *machine, unsigned char code)
{
    (void)code;
    size_t count = 0;
    const enum t2t_status status = pickle_take_mark(machine, &count);
    return status ? status : gather(machine, count);
}

static enum t2t_status mark(struct machine *machine, unsigned char code)
{
    (void)code;
    return pickle_put_mark(machine);
}

static enum t2t_status discard(struct machine *machine, unsigned char code)
{
    (void)code;
    if (machine->mark_count && pickle_above_mark(machine) == 0) {
        machine->mark_count--;
        return T2T_OK;
    }
    const enum t2t_status status = pickle_need(machine, 1);
    if (!status) pickle_pop(machine);
    return status;
}

static enum t2t_status discard_to_mark(struct machine *machine, unsigned char code)
{
    (void)code;
    size_t count = 0;
    const enum t2t_status status = pickle_take_mark(machine, &count);
    if (!status) machine->depth -= count;
    return status;
}

/* Moves the top `count` values into the container below them, whose type must be `type`. */
static enum t2t_status fill(struct machine *machine, size_t count, enum pickle_type type, const char *wrong)
{
    enum t2t_status status = pickle_need(machine, count + 1);
    if (status) return status;
    const size_t from = machine->depth - count;
    const uint32_t container = machine->stack[from - 1];
    if (machine->pickle->values[container].type != type) return pickle_refuse(machine, wrong);
    if (type != PICKLE_INERT)
        for (size_t i = 0; i < count && !status; i++)
            status = pickle_append(machine, container, machine->stack[from + i]);
    machine->depth = from;
    return status;
}

static enum t2t_status add_items(struct machine *machine, unsigned char code)
{
    size_t count = code == 's' ? 2 : 1;
    if (code != 'a' && code != 's') {
        const enum t2t_status status = pickle_take_mark(machine, &count);
        if (status) return status;
    }
    if (code == 0x90) return fill(machine, count, PICKLE_INERT, "adds to something that is no set");
    if (code == 'a' || code == 'e') return fill(machine, count, PICKLE_LIST, "appends to something that is no list");
    if (count % 2) return pickle_refuse(machine, "sets a key without a value");
    return fill(machine, count, PICKLE_DICT, "sets items of something that is no dictionary");
}

static enum t2t_status frozen_set(struct machine *machine, unsigned char code)
{
    const enum t2t_status status = discard_to_mark(machine, code);
    return status ? status : pickle_push_new(machine, (struct pickle_value){.type = PICKLE_INERT});
}

/* ---- instructions: memory ---- */

static enum t2t_status put(struct machine *machine, unsigned char code)
{
    uint64_t number = machine->remembered;
    const enum t2t_status status = code == 0x94 ? T2T_OK : pickle_read_number(machine, code == 'q' ? 1 : 4, &number);
    return status ? status : pickle_remember(machine, number);
}

static enum t2t_status get(struct machine *machine, unsigned char code)
{
    uint64_t number;
    const enum t2t_status status = pickle_read_number(machine, code == 'h' ? 1 : 4, &number);
    if (status) return status;
    if (number >= machine->memo_room || machine->memo[number] == NOTHING)
        return pickle_refuse(machine, "asks for a value that was never remembered");
    return pickle_push(machine, machine->memo[number]);
}

static enum t2t_status frame(struct machine *machine, unsigned char code)
{
    (void)code;
    uint64_t length = 0;
    const enum t2t_status status = pickle_read_number(machine, 8, &length);
    if (status) return status;
    if (length > T2T_PICKLE_MAX_BYTES) return pickle_refuse(machine, "states a frame longer than 16 MiB");
    return length > machine->pickle->size - machine->at ? pickle_ends_early(machine) : T2T_OK;
}

/* ---- the machine ---- */

typedef enum t2t_status instruction(struct machine *machine, unsigned char code);

static instruction *const instructions[256] = {
    ['N'] = none,
    [0x88] = boolean,
    [0x89] = boolean,
    ['J'] = integer,
    ['K'] = integer,
    ['M'] = integer,
    [0x8a] = long_integer,
    ['G'] = floating,
    ['U'] = text,
    ['T'] = text,
    ['X'] = text,
    ['B'] = text,
    ['C'] = text,
    [0x8c] = text,
    [0x8d] = text,
    [0x8e] = text,
    ['}'] = empty,
    [']'] = empty,
    [')'] = empty,
    [0x8f] = empty,
    ['t'] = tuple,
    [0x85] = small_tuple,
    [0x86] = small_tuple,
    [0x87] = small_tuple,
    ['('] = mark,
    ['0'] = discard,
    ['1'] = discard_to_mark,
    ['a'] = add_items,
    ['e'] = add_items,
    ['s'] = add_items,
    ['u'] = add_items,
    [0x90] = add_items,
    [0x91] = frozen_set,
    ['q'] = put,
    ['r'] = put,
    [0x94] = put,
    ['h'] = get,
    ['j'] = get,
    [0x95] = frame,
    ['c'] = pickle_global,
    [0x93] = pickle_stack_global,
    ['R'] = pickle_reduce,
    [0x81] = pickle_new_object,
    ['b'] = pickle_build,
    ['Q'] = pickle_persistent_id,
};

static enum t2t_status check_protocol(struct machine *machine)
{
    const struct pickle *pickle = machine->pickle;
    if (pickle->size - machine->at < 2) return pickle_ends_early(machine);
    const unsigned char *at = pickle->bytes + machine->at;
    if (at[0] != 0x80)
        return t2t_fail(T2T_BAD_MODEL,
            "%s: no pickle of protocol 2 to 4 begins at byte %zu; protocols 0 and 1 are not "
            "read, load the file with PyTorch and save it again",
            pickle->path, machine->at);
    if (at[1] < 2 || at[1] > 4)
        return t2t_fail(T2T_BAD_MODEL, "%s: the pickle at byte %zu has protocol %d, expected 2 to 4", pickle->path,
            machine->at, at[1]);
    machine->at += 2;
    return T2T_OK;
}

static enum t2t_status run(struct machine *machine)
{
    struct pickle *pickle = machine->pickle;
    enum t2t_status status = check_protocol(machine);
    while (!status) {
        machine->instruction = machine->at;
        if (machine->at >= pickle->size) return pickle_ends_early(machine);
        const unsigned char code = pickle->bytes[machine->at++];
        if (code == '.') break;
        if (!instructions[code])
            return t2t_fail(T2T_BAD_MODEL,
                "%s: the pickle at byte %zu holds instruction 0x%02x, which no checkpoint "
                "needs; refused",
                pickle->path, machine->instruction, code);
        status = instructions[code](machine, code);
    }
    if (status) return status;
    if (machine->depth != 1 || machine->mark_count) return pickle_refuse(machine, "ends with other than one value");
    pickle->root = machine->stack[0];
    pickle->end = machine->at;
    return T2T_OK;
}

enum t2t_status t2t_pickle_read(
    struct pickle *pickle, const char *path, const unsigned char *bytes, size_t size, size_t start)
{
    *pickle = (struct pickle){.path = path, .bytes = bytes, .size = size, .place_count = 1};
    struct machine machine = {.pickle = pickle, .at = start, .instruction = start};
    if (size > T2T_PICKLE_MAX_BYTES) return pickle_refuse(&machine, "is longer than 16 MiB");
    const enum t2t_status status = run(&machine);
    free(machine.stack);
    free(machine.marks);
    free(machine.memo);
    return status;
}

void t2t_pickle_free(struct pickle *pickle)
{
    free(pickle->values);
    free(pickle->places);
    free(pickle->storages);
    free(pickle->tensors);
    *pickle = (struct pickle){0};
}

/* ---- looking into the result ---- */

const struct pickle_value *t2t_pickle_root(const struct pickle *pickle)
{
    return &pickle->values[pickle->root];
}

bool t2t_pickle_is(const struct pickle *pickle, const struct pickle_value *value, const char *expected)
{
    return value->type == PICKLE_TEXT && value->as.text.bytes == strlen(expected) &&
           memcmp(pickle->bytes + value->as.text.offset, expected, value->as.text.bytes) == 0;
}

const struct pickle_value *t2t_pickle_get(const struct pickle *pickle, const struct pickle_value *dict, const char *key)
{
    if (dict->type != PICKLE_DICT) return NULL;
    const struct pickle_value *found = NULL;
    for (uint32_t at = dict->as.places.first; at;) {
        const struct pickle_place *place = &pickle->places[at], *next = &pickle->places[place->next];
        if (t2t_pickle_is(pickle, &pickle->values[place->value], key)) found = &pickle->values[next->value];
        at = next->next;
    }
    return found;
}
