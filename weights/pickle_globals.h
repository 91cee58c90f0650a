/* The globals that a checkpoint may name, and what stands for them. Internal to the pickle reader. */
#ifndef T2T_WEIGHTS_PICKLE_GLOBALS_H
#define T2T_WEIGHTS_PICKLE_GLOBALS_H

#include <stddef.h>

#include "weights/safetensors.h"

enum pickle_role {
    ROLE_ORDERED_DICT,
    ROLE_TENSOR,    /* (storage, offset, sizes, strides, ...) */
    ROLE_PARAMETER, /* (tensor, ...): the tensor */
    ROLE_SIZE,      /* (tuple): the tuple */
    ROLE_STORAGE,   /* names a storage's type in a persistent id */
    ROLE_INERT,     /* a class or function whose result nobody looks into */
    ROLE_CONSTANT   /* a value in itself, never called */
};

struct pickle_global {
    const char *module, *name;
    enum pickle_role role;
    enum t2t_dtype dtype; /* ROLE_STORAGE */
};

/* Row number of module.name, -1 when it is not on the list. */
int t2t_pickle_global(const char *module, size_t module_bytes, const char *name, size_t name_bytes);
const struct pickle_global *t2t_pickle_global_row(size_t row);

#endif
