/* Reading safetensors: the header is read and checked as a whole before the data is mapped, so that a mapping only ever
 * exists of a file whose every tensor is known to lie inside it.
 *
 * A file that another program truncates while it is mapped raises SIGBUS on access, as every mapping does: the library
 * cannot answer that, programs catch the signal (weights are replaced by renaming, never by writing into them).
 */
#include "weights/safetensors.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "weights/input_file.h"
#include "weights/safetensors_header.h"

struct placed_tensor {
    struct t2t_tensor tensor;
    uint64_t begin, end; /* in the data */
};

struct t2t_tensors {
    char *path;
    json_t *header; /* owns all names and metadata */
    struct placed_tensor *tensors;
    size_t count;
    void *map;
    size_t map_bytes;
};

static const struct {
    const char *name;
    size_t bytes;
} dtypes[T2T_DTYPES] = {
    [T2T_F32] = {"F32", 4},
    [T2T_F16] = {"F16", 2},
    [T2T_BF16] = {"BF16", 2},
    [T2T_F64] = {"F64", 8},
    [T2T_I64] = {"I64", 8},
    [T2T_I32] = {"I32", 4},
    [T2T_I16] = {"I16", 2},
    [T2T_I8] = {"I8", 1},
    [T2T_U8] = {"U8", 1},
    [T2T_BOOL] = {"BOOL", 1},
};

const char *t2t_dtype_name(enum t2t_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t t2t_dtype_bytes(enum t2t_dtype dtype)
{
    return dtypes[dtype].bytes;
}

/* ---- the header's tensors ---- */

static enum t2t_status bad_tensor(const struct t2t_tensors *file, const char *name, const char *what)
{
    return t2t_fail(
        T2T_BAD_MODEL, "%s: tensor %.200s: %s; the file is damaged or not safetensors", file->path, name, what);
}

static enum t2t_status read_dtype(const struct t2t_tensors *file, struct t2t_tensor *tensor, const json_t *value)
{
    if (!json_is_string(value)) return bad_tensor(file, tensor->name, "dtype is missing or no string");
    for (size_t i = 0; i < T2T_DTYPES; i++) {
        if (strcmp(dtypes[i].name, json_string_value(value)) != 0) continue;
        tensor->dtype = (enum t2t_dtype)i;
        return T2T_OK;
    }
    return t2t_fail(T2T_BAD_MODEL, "%s: tensor %.200s: dtype \"%.50s\" is not known here, expected F32, F16 or BF16",
        file->path, tensor->name, json_string_value(value));
}

static enum t2t_status read_shape(const struct t2t_tensors *file, struct t2t_tensor *tensor, const json_t *list)
{
    if (!json_is_array(list)) return bad_tensor(file, tensor->name, "shape is missing or no list");
    if (json_array_size(list) > T2T_TENSOR_MAX_RANK)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %.200s: has %zu dimensions, expected at most %d", file->path,
            tensor->name, json_array_size(list), T2T_TENSOR_MAX_RANK);
    tensor->rank = json_array_size(list);
    tensor->elements = 1;
    for (size_t i = 0; i < tensor->rank; i++) {
        const json_t *size = json_array_get(list, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return bad_tensor(file, tensor->name, "shape holds something else than whole numbers from 0");
        tensor->shape[i] = (size_t)json_integer_value(size);
        if (__builtin_mul_overflow(tensor->elements, tensor->shape[i], &tensor->elements))
            return bad_tensor(file, tensor->name, "the product of its shape is beyond 64 bits");
    }
    return T2T_OK;
}

static enum t2t_status read_offsets(
    const struct t2t_tensors *file, struct placed_tensor *placed, const json_t *list, uint64_t data_bytes)
{
    const char *name = placed->tensor.name;
    const json_t *begin = json_array_get(list, 0), *end = json_array_get(list, 1);
    if (json_array_size(list) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return bad_tensor(file, name, "data_offsets is not [begin, end] with 0 <= begin <= end");
    placed->begin = (uint64_t)json_integer_value(begin);
    placed->end = (uint64_t)json_integer_value(end);
    if (placed->end > data_bytes)
        return t2t_fail(T2T_BAD_MODEL,
            "%s: tensor %.200s: ends at byte %llu of the data, but the file holds %llu; it is incomplete, fetch it "
            "again",
            file->path, name, (unsigned long long)placed->end, (unsigned long long)data_bytes);
    size_t expected;
    if (__builtin_mul_overflow(placed->tensor.elements, t2t_dtype_bytes(placed->tensor.dtype), &expected))
        return bad_tensor(file, name, "its size is beyond 64 bits");
    if (placed->end - placed->begin != expected)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %.200s: data_offsets span %llu bytes, %s of its shape needs %zu",
            file->path, name, (unsigned long long)(placed->end - placed->begin), t2t_dtype_name(placed->tensor.dtype),
            expected);
    return T2T_OK;
}

static enum t2t_status check_metadata(const struct t2t_tensors *file)
{
    json_t *metadata = json_object_get(file->header, "__metadata__");
    if (metadata && !json_is_object(metadata))
        return t2t_fail(T2T_BAD_MODEL, "%s: __metadata__ is no object of strings", file->path);
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value)
    {
        if (json_is_string(value)) continue;
        return t2t_fail(
            T2T_BAD_MODEL, "%s: __metadata__ %.200s is not a string, which the format demands", file->path, key);
    }
    return T2T_OK;
}

static enum t2t_status read_tensors(struct t2t_tensors *file, uint64_t data_bytes)
{
    enum t2t_status status = check_metadata(file);
    if (status) return status;
    file->tensors = calloc(json_object_size(file->header) + 1, sizeof *file->tensors);
    if (!file->tensors)
        return t2t_fail_memory("the list of tensors", json_object_size(file->header) * sizeof *file->tensors);
    const char *name;
    json_t *value;
    json_object_foreach(file->header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        struct placed_tensor *placed = &file->tensors[file->count];
        placed->tensor.name = name;
        if (!json_is_object(value)) return bad_tensor(file, name, "is described by something else than an object");
        status = read_dtype(file, &placed->tensor, json_object_get(value, "dtype"));
        if (!status) status = read_shape(file, &placed->tensor, json_object_get(value, "shape"));
        if (!status) status = read_offsets(file, placed, json_object_get(value, "data_offsets"), data_bytes);
        if (status) return status;
        file->count++;
    }
    return T2T_OK;
}

static int by_place(const void *left, const void *right)
{
    const struct placed_tensor *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end) return a->end < b->end ? -1 : 1;
    return strcmp(a->tensor.name, b->tensor.name);
}

/* Every byte of the data belongs to exactly one tensor. */
static enum t2t_status check_cover(struct t2t_tensors *file, uint64_t data_bytes)
{
    if (file->count) qsort(file->tensors, file->count, sizeof *file->tensors, by_place);
    uint64_t covered = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct placed_tensor *placed = &file->tensors[i];
        if (placed->begin < covered)
            return t2t_fail(T2T_BAD_MODEL, "%s: tensors %.200s and %.200s overlap at byte %llu of the data", file->path,
                file->tensors[i - 1].tensor.name, placed->tensor.name, (unsigned long long)placed->begin);
        if (placed->begin > covered)
            return t2t_fail(T2T_BAD_MODEL, "%s: tensor %.200s leaves a hole before it, bytes %llu to %llu of the data",
                file->path, placed->tensor.name, (unsigned long long)covered, (unsigned long long)placed->begin);
        covered = placed->end;
    }
    if (covered == data_bytes) return T2T_OK;
    return t2t_fail(T2T_BAD_MODEL, "%s: %llu trailing bytes belong to no tensor", file->path,
        (unsigned long long)(data_bytes - covered));
}

static enum t2t_status map_data(struct t2t_tensors *file, int descriptor, uint64_t size, size_t data_begins)
{
    void *map = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (map == MAP_FAILED)
        return t2t_fail(T2T_NO_RESOURCE, "%s: its %llu bytes cannot be mapped: %s", file->path,
            (unsigned long long)size, strerror(errno));
    file->map = map;
    file->map_bytes = (size_t)size;
    for (size_t i = 0; i < file->count; i++)
        file->tensors[i].tensor.data = (const char *)map + data_begins + file->tensors[i].begin;
    return T2T_OK;
}

static enum t2t_status read_file(struct t2t_tensors *file, int descriptor, uint64_t size)
{
    size_t data_begins = 0;
    enum t2t_status status = t2t_safetensors_header(&file->header, &data_begins, file->path, descriptor, size);
    if (status) return status;
    const uint64_t data_bytes = size - data_begins;
    status = read_tensors(file, data_bytes);
    if (!status) status = check_cover(file, data_bytes);
    if (!status) status = map_data(file, descriptor, size, data_begins);
    return status;
}

enum t2t_status t2t_tensors_open(struct t2t_tensors **file, const char *path)
{
    *file = NULL;
    int descriptor;
    uint64_t size;
    enum t2t_status status = t2t_input_open(path, &descriptor, &size);
    if (status) return status;
    struct t2t_tensors *made = calloc(1, sizeof *made);
    if (made) made->path = strdup(path);
    if (made && made->path)
        status = read_file(made, descriptor, size);
    else
        status = t2t_fail_memory("an open file", sizeof *made);
    close(descriptor);
    if (status) {
        t2t_tensors_close(made);
        return status;
    }
    *file = made;
    return T2T_OK;
}

void t2t_tensors_release_pages(const struct t2t_tensors *file)
{
    if (file->map)
        (void)madvise(file->map, file->map_bytes, MADV_DONTNEED); /* private and only read: nothing is lost */
}

void t2t_tensors_close(struct t2t_tensors *file)
{
    if (!file) return;
    if (file->map) munmap(file->map, file->map_bytes);
    free(file->tensors);
    json_decref(file->header);
    free(file->path);
    free(file);
}

/* ---- what is in it ---- */

size_t t2t_tensors_count(const struct t2t_tensors *file)
{
    return file->count;
}

const struct t2t_tensor *t2t_tensors_at(const struct t2t_tensors *file, size_t index)
{
    return index < file->count ? &file->tensors[index].tensor : NULL;
}

const struct t2t_tensor *t2t_tensors_find(const struct t2t_tensors *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].tensor.name, name) == 0) return &file->tensors[i].tensor;
    return NULL;
}

const char *t2t_tensors_metadata(const struct t2t_tensors *file, const char *key)
{
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

const char *t2t_tensors_metadata_key(const struct t2t_tensors *file, size_t index)
{
    json_t *metadata = json_object_get(file->header, "__metadata__");
    void *at = json_object_iter(metadata);
    while (at && index-- > 0) at = json_object_iter_next(metadata, at);
    return at ? json_object_iter_key(at) : NULL;
}

const char *t2t_tensors_path(const struct t2t_tensors *file)
{
    return file->path;
}
