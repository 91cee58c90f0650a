/* Reads a Python pickle as data. Nothing is imported, called or constructed: a fixed list of instructions fills a flat
 * table of values, a fixed list of globals is matched as text, everything else is refused with its byte offset.
 *
 * Protocols 2 to 4. Bounds: 16 MiB of pickle, 500,000 values and as many places in containers, 50,000 storages and as
 * many tensors, which together bound the memory at about 50 MB; the checkpoint of a training run needs a tenth of each.
 * Nothing recurses, neither here nor in a caller that walks one level. Internal to weights/.
 */
#ifndef T2T_WEIGHTS_PICKLE_H
#define T2T_WEIGHTS_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weights/safetensors.h"

enum { T2T_PICKLE_MAX_BYTES = 16 << 20 };

enum pickle_type {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_LONG, /* beyond 64 bits: its bytes as text */
    PICKLE_FLOAT,
    PICKLE_TEXT, /* str or bytes */
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_GLOBAL,
    PICKLE_STORAGE,
    PICKLE_TENSOR,
    PICKLE_INERT /* an object nobody looks into: a set, a Namespace, a NumPy scalar */
};

/* Bytes within the pickle. */
struct pickle_text {
    uint32_t offset, bytes;
};

struct pickle_value {
    unsigned char type;   /* enum pickle_type */
    unsigned char global; /* PICKLE_GLOBAL: row of the list of globals */
    bool ordered;         /* PICKLE_DICT: an OrderedDict, which may have attributes */
    union {
        int64_t integer;         /* PICKLE_INT, PICKLE_BOOL */
        struct pickle_text text; /* PICKLE_TEXT, PICKLE_LONG */
        struct {
            uint32_t first, last; /* containers: their places; a dictionary's alternate key, value */
        } places;
        size_t index; /* PICKLE_STORAGE, PICKLE_TENSOR: in the lists below */
    } as;
};

struct pickle_place {
    uint32_t value, next; /* next 0: the last */
};

struct pickle_storage {
    struct pickle_text key;
    enum t2t_dtype dtype;
    uint64_t elements;
};

/* A view of a storage; known to lie inside it. */
struct pickle_tensor {
    struct pickle_storage storage;
    uint64_t offset; /* in elements, as the strides */
    size_t rank;
    size_t shape[T2T_TENSOR_MAX_RANK];
    size_t stride[T2T_TENSOR_MAX_RANK];
    size_t elements;
};

struct pickle {
    const char *path; /* for sentences */
    const unsigned char *bytes;
    size_t size;
    size_t end;     /* of the pickle in `bytes` */
    bool truncated; /* it failed because `bytes` ended */
    uint32_t root;
    struct pickle_value *values;
    struct pickle_place *places; /* the first is not used */
    struct pickle_storage *storages;
    struct pickle_tensor *tensors;
    size_t value_count, value_room, place_count, place_room;
    size_t storage_count, storage_room, tensor_count, tensor_room;
};

/* Reads the pickle that begins at bytes[start]. `bytes` must outlive the result; release it with t2t_pickle_free(),
 * also after a failure. Sentences begin with `path`; byte offsets in them count from bytes[0]. */
enum t2t_status t2t_pickle_read(
    struct pickle *pickle, const char *path, const unsigned char *bytes, size_t size, size_t start);
void t2t_pickle_free(struct pickle *pickle);

const struct pickle_value *t2t_pickle_root(const struct pickle *pickle);
/* Whether a value is exactly this text. */
bool t2t_pickle_is(const struct pickle *pickle, const struct pickle_value *value, const char *text);
/* The last value under a key of a dictionary; NULL when there is none or `dict` is no dictionary. */
const struct pickle_value *t2t_pickle_get(
    const struct pickle *pickle, const struct pickle_value *dict, const char *key);

/* Sorts the storages by key and keeps one of each; T2T_BAD_MODEL when two of one key contradict each other. */
enum t2t_status t2t_pickle_unique_storages(struct pickle *pickle);
/* Number of the storage with these bytes as key, storage_count when there is none; after unique_storages. */
size_t t2t_pickle_find_storage(const struct pickle *pickle, const void *key, size_t bytes);

#endif
