/* The pickle instructions that make objects: here a global is a row number, a call is a check of its arguments, and a
 * tensor is a description that is known to lie inside its storage.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "weights/pickle_globals.h"
#include "weights/pickle_machine.h"

enum { MOST_ARGUMENTS = 8, MOST_KEY_BYTES = 200, SHOWN = 100 };
#define MOST_STORAGE_BYTES (UINT64_C(1) << 30)

/* ---- globals ---- */

/* A name for a sentence: bytes that no Python name has become '?'. */
static void shown(const struct pickle *pickle, struct pickle_text text, char out[SHOWN + 1])
{
    size_t i = 0;
    for (; i < text.bytes && i < SHOWN; i++) {
        const unsigned char c = pickle->bytes[text.offset + i];
        out[i] = c < 128 && (isalnum(c) || c == '_' || c == '.') ? (char)c : '?';
    }
    out[i] = '\0';
}

static enum t2t_status push_global(struct machine *machine, struct pickle_text module, struct pickle_text name)
{
    const struct pickle *pickle = machine->pickle;
    const int row = t2t_pickle_global((const char *)pickle->bytes + module.offset, module.bytes,
        (const char *)pickle->bytes + name.offset, name.bytes);
    if (row >= 0)
        return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_GLOBAL, .global = (unsigned char)row});
    char module_text[SHOWN + 1], name_text[SHOWN + 1];
    shown(pickle, module, module_text);
    shown(pickle, name, name_text);
    return t2t_fail(T2T_BAD_MODEL,
        "%s: the pickle at byte %zu asks for the global %s.%s, which is not among those a checkpoint of tensors needs; "
        "refused, nothing was run (save a state_dict() alone)",
        pickle->path, machine->instruction, module_text, name_text);
}

enum t2t_status pickle_global(struct machine *machine, unsigned char code)
{
    (void)code;
    struct pickle_text module, name;
    enum t2t_status status = pickle_read_line(machine, &module);
    if (!status) status = pickle_read_line(machine, &name);
    return status ? status : push_global(machine, module, name);
}

enum t2t_status pickle_stack_global(struct machine *machine, unsigned char code)
{
    (void)code;
    const enum t2t_status status = pickle_need(machine, 2);
    if (status) return status;
    const struct pickle_value *values = machine->pickle->values;
    const struct pickle_value name = values[pickle_pop(machine)], module = values[pickle_pop(machine)];
    if (name.type != PICKLE_TEXT || module.type != PICKLE_TEXT)
        return pickle_refuse(machine, "asks for a global whose name is no text");
    return push_global(machine, module.as.text, name.as.text);
}

/* ---- arguments ---- */

/* The values of a tuple; *count is more than `most` when there are more. False when it is no tuple. */
static bool items_of(const struct pickle *pickle, const struct pickle_value *tuple, size_t most,
    const struct pickle_value **items, size_t *count)
{
    *count = 0;
    if (tuple->type != PICKLE_TUPLE) return false;
    for (uint32_t at = tuple->as.places.first; at && *count <= most; at = pickle->places[at].next) {
        if (*count < most) items[*count] = &pickle->values[pickle->places[at].value];
        ++*count;
    }
    return true;
}

static bool is_size(const struct pickle_value *value)
{
    return value->type == PICKLE_INT && value->as.integer >= 0;
}

/* Sizes or strides; false unless a tuple of whole numbers from 0, no more than the rank allows. */
static bool read_sizes(const struct pickle *pickle, const struct pickle_value *tuple, size_t *sizes, size_t *rank)
{
    const struct pickle_value *items[T2T_TENSOR_MAX_RANK];
    if (!items_of(pickle, tuple, T2T_TENSOR_MAX_RANK, items, rank) || *rank > T2T_TENSOR_MAX_RANK) return false;
    for (size_t i = 0; i < *rank; i++) {
        if (!is_size(items[i])) return false;
        sizes[i] = (size_t)items[i]->as.integer;
    }
    return true;
}

/* ---- storages and tensors ---- */

enum t2t_status pickle_persistent_id(struct machine *machine, unsigned char code)
{
    (void)code;
    enum t2t_status status = pickle_need(machine, 1);
    if (status) return status;
    const struct pickle *pickle = machine->pickle;
    const struct pickle_value *items[6];
    size_t count;
    const struct pickle_value *tuple = &pickle->values[pickle_pop(machine)];
    if (!items_of(pickle, tuple, 6, items, &count) || count < 5 || count > 6 ||
        !t2t_pickle_is(pickle, items[0], "storage") || items[1]->type != PICKLE_GLOBAL ||
        t2t_pickle_global_row(items[1]->global)->role != ROLE_STORAGE || items[2]->type != PICKLE_TEXT ||
        items[3]->type != PICKLE_TEXT || !is_size(items[4]))
        return pickle_refuse(machine, "refers to something that is no storage of a tensor");
    if (count == 6 && items[5]->type != PICKLE_NONE)
        return pickle_refuse(machine, "refers to a view of a storage, as only PyTorch before 0.4 wrote them");
    const struct pickle_storage storage = {.key = items[2]->as.text,
        .dtype = t2t_pickle_global_row(items[1]->global)->dtype,
        .elements = (uint64_t)items[4]->as.integer};
    if (storage.key.bytes == 0 || storage.key.bytes > MOST_KEY_BYTES)
        return pickle_refuse(machine, "refers to a storage by a name that none has");
    if (storage.elements > MOST_STORAGE_BYTES / t2t_dtype_bytes(storage.dtype))
        return pickle_refuse(machine, "refers to a storage of more than 1 GiB");
    return pickle_push_storage(machine, &storage);
}

/* Elements of the tensor, and that the last of them lies inside the storage. */
static bool lies_inside(struct pickle_tensor *tensor)
{
    uint64_t last = tensor->offset;
    tensor->elements = 1;
    for (size_t i = 0; i < tensor->rank; i++) {
        uint64_t reach;
        if (__builtin_mul_overflow(tensor->elements, tensor->shape[i], &tensor->elements)) return false;
        if (tensor->shape[i] == 0) continue;
        if (__builtin_mul_overflow(tensor->shape[i] - 1, tensor->stride[i], &reach)) return false;
        if (__builtin_add_overflow(last, reach, &last)) return false;
    }
    if (tensor->elements == 0) return tensor->offset <= tensor->storage.elements;
    return last < tensor->storage.elements;
}

/* (storage, offset, sizes, strides, requires_grad, hooks, metadata) */
static enum t2t_status rebuild_tensor(
    struct machine *machine, const struct pickle_value *const *arguments, size_t count)
{
    const struct pickle *pickle = machine->pickle;
    if (count < 4 || count > 7 || arguments[0]->type != PICKLE_STORAGE || !is_size(arguments[1]))
        return pickle_refuse(machine, "makes a tensor of something that is no storage");
    struct pickle_tensor tensor = {
        .storage = pickle->storages[arguments[0]->as.index], .offset = (uint64_t)arguments[1]->as.integer};
    size_t strides;
    if (!read_sizes(pickle, arguments[2], tensor.shape, &tensor.rank) ||
        !read_sizes(pickle, arguments[3], tensor.stride, &strides) || strides != tensor.rank)
        return pickle_refuse(machine, "makes a tensor whose sizes and strides are not as many whole numbers from 0");
    /* {'neg': True}: the numbers are those of the storage with the other sign */
    if (count == 7 && arguments[6]->type != PICKLE_NONE &&
        (arguments[6]->type != PICKLE_DICT || arguments[6]->as.places.first))
        return pickle_refuse(machine, "makes a tensor with properties (negated, conjugated) that are not read");
    if (!lies_inside(&tensor)) return pickle_refuse(machine, "makes a tensor that reaches beyond its storage");
    return pickle_push_tensor(machine, &tensor);
}

/* ---- objects ---- */

/* Something and the tuple of arguments that it is called with, off the stack. */
struct call {
    const struct pickle_value *called, *arguments[MOST_ARGUMENTS];
    size_t count;
    bool known; /* it is a global, and the arguments are a tuple that is not too long */
};

static enum t2t_status pop_call(struct machine *machine, struct call *call)
{
    const enum t2t_status status = pickle_need(machine, 2);
    if (status) return status;
    const struct pickle *pickle = machine->pickle;
    const bool tuple =
        items_of(pickle, &pickle->values[pickle_pop(machine)], MOST_ARGUMENTS, call->arguments, &call->count);
    call->called = &pickle->values[pickle_pop(machine)];
    call->known = tuple && call->count <= MOST_ARGUMENTS && call->called->type == PICKLE_GLOBAL;
    return T2T_OK;
}

enum t2t_status pickle_reduce(struct machine *machine, unsigned char code)
{
    (void)code;
    struct call call;
    const enum t2t_status status = pop_call(machine, &call);
    if (status) return status;
    if (!call.known) return pickle_refuse(machine, "calls something that cannot be called");
    switch (t2t_pickle_global_row(call.called->global)->role) {
    case ROLE_ORDERED_DICT:
        if (call.count) return pickle_refuse(machine, "makes an OrderedDict of arguments");
        return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_DICT, .ordered = true});
    case ROLE_TENSOR: return rebuild_tensor(machine, call.arguments, call.count);
    case ROLE_PARAMETER:
        if (call.count < 1 || call.arguments[0]->type != PICKLE_TENSOR)
            return pickle_refuse(machine, "makes a parameter of something that is no tensor");
        return pickle_push_new(machine, *call.arguments[0]);
    case ROLE_SIZE:
        if (call.count != 1 || call.arguments[0]->type != PICKLE_TUPLE)
            return pickle_refuse(machine, "makes a size of something that is no tuple");
        return pickle_push_new(machine, *call.arguments[0]);
    case ROLE_INERT: return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_INERT});
    case ROLE_STORAGE:
    case ROLE_CONSTANT: break;
    }
    return pickle_refuse(machine, "calls a type that is only ever named");
}

/* cls.__new__(cls, *arguments) */
enum t2t_status pickle_new_object(struct machine *machine, unsigned char code)
{
    (void)code;
    struct call call;
    const enum t2t_status status = pop_call(machine, &call);
    if (status) return status;
    if (call.known) {
        const enum pickle_role role = t2t_pickle_global_row(call.called->global)->role;
        if (role == ROLE_ORDERED_DICT && call.count == 0)
            return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_DICT, .ordered = true});
        if (role == ROLE_INERT) return pickle_push_new(machine, (struct pickle_value){.type = PICKLE_INERT});
    }
    return pickle_refuse(machine, "makes an object of something that is no class of a checkpoint");
}

/* Attributes: of an OrderedDict (a state dict's versions) and of inert objects; nobody looks at them. */
enum t2t_status pickle_build(struct machine *machine, unsigned char code)
{
    (void)code;
    const enum t2t_status status = pickle_need(machine, 2);
    if (status) return status;
    pickle_pop(machine);
    const struct pickle_value *object = pickle_top(machine);
    if (object->type == PICKLE_INERT || (object->type == PICKLE_DICT && object->ordered)) return T2T_OK;
    return pickle_refuse(machine, "sets attributes of something that has none");
}

/* ---- storages by key ---- */

static int compare_bytes(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    const int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : a_bytes < b_bytes ? -1 : a_bytes > b_bytes;
}

static int by_key(const void *left, const void *right, void *bytes)
{
    const struct pickle_storage *a = left, *b = right;
    const unsigned char *text = bytes;
    return compare_bytes(text + a->key.offset, a->key.bytes, text + b->key.offset, b->key.bytes);
}

enum t2t_status t2t_pickle_unique_storages(struct pickle *pickle)
{
    if (!pickle->storage_count) return T2T_OK;
    void *bytes = (void *)(uintptr_t)pickle->bytes;
    qsort_r(pickle->storages, pickle->storage_count, sizeof *pickle->storages, by_key, bytes);
    size_t kept = 1;
    for (size_t i = 1; i < pickle->storage_count; i++) {
        const struct pickle_storage *last = &pickle->storages[kept - 1], *next = &pickle->storages[i];
        if (by_key(last, next, bytes) != 0)
            pickle->storages[kept++] = *next;
        else if (last->dtype != next->dtype || last->elements != next->elements)
            return t2t_fail(T2T_BAD_MODEL, "%s: storage %.*s is described in two ways that contradict each other",
                pickle->path, (int)next->key.bytes, (const char *)pickle->bytes + next->key.offset);
    }
    pickle->storage_count = kept;
    return T2T_OK;
}

size_t t2t_pickle_find_storage(const struct pickle *pickle, const void *key, size_t bytes)
{
    size_t from = 0, to = pickle->storage_count;
    while (from < to) {
        const size_t middle = from + (to - from) / 2;
        const struct pickle_text at = pickle->storages[middle].key;
        const int order = compare_bytes(pickle->bytes + at.offset, at.bytes, key, bytes);
        if (order == 0) return middle;
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return pickle->storage_count;
}
