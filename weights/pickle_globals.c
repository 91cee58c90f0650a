/* The list of globals; see pickle_globals.h. Texts to compare with, nothing more: no row leads to a function. */
#include "weights/pickle_globals.h"

#include <stdbool.h>
#include <string.h>

#define STORAGE(NAME, DTYPE)                                                                                           \
    {                                                                                                                  \
        "torch", NAME "Storage", ROLE_STORAGE, DTYPE                                                                   \
    }
#define DTYPE(NAME)                                                                                                    \
    {                                                                                                                  \
        "torch", NAME, ROLE_CONSTANT, T2T_F32                                                                          \
    }
#define INERT(MODULE, NAME)                                                                                            \
    {                                                                                                                  \
        MODULE, NAME, ROLE_INERT, T2T_F32                                                                              \
    }

static const struct pickle_global globals[] = {
    {"collections", "OrderedDict", ROLE_ORDERED_DICT, T2T_F32},
    {"torch._utils", "_rebuild_tensor_v2", ROLE_TENSOR, T2T_F32},
    {"torch._utils", "_rebuild_tensor", ROLE_TENSOR, T2T_F32},
    {"torch._utils", "_rebuild_parameter", ROLE_PARAMETER, T2T_F32},
    {"torch._utils", "_rebuild_parameter_with_state", ROLE_PARAMETER, T2T_F32},
    {"torch", "Size", ROLE_SIZE, T2T_F32},
    STORAGE("Float", T2T_F32),
    STORAGE("Half", T2T_F16),
    STORAGE("BFloat16", T2T_BF16),
    STORAGE("Double", T2T_F64),
    STORAGE("Long", T2T_I64),
    STORAGE("Int", T2T_I32),
    STORAGE("Short", T2T_I16),
    STORAGE("Char", T2T_I8),
    STORAGE("Byte", T2T_U8),
    STORAGE("Bool", T2T_BOOL),
    DTYPE("float32"),
    DTYPE("float16"),
    DTYPE("bfloat16"),
    DTYPE("float64"),
    DTYPE("int64"),
    DTYPE("int32"),
    DTYPE("int16"),
    DTYPE("int8"),
    DTYPE("uint8"),
    DTYPE("bool"),
    /* what training checkpoints carry beside their tensors */
    INERT("argparse", "Namespace"),
    INERT("collections", "Counter"),
    INERT("builtins", "set"),
    INERT("__builtin__", "set"),
    INERT("torch", "device"),
    INERT("_codecs", "encode"),
    INERT("numpy", "dtype"),
    INERT("numpy.core.multiarray", "scalar"),
    INERT("numpy._core.multiarray", "scalar"),
};

static bool same(const char *text, const char *bytes, size_t length)
{
    return strlen(text) == length && memcmp(text, bytes, length) == 0;
}

int t2t_pickle_global(const char *module, size_t module_bytes, const char *name, size_t name_bytes)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (same(globals[i].module, module, module_bytes) && same(globals[i].name, name, name_bytes)) return (int)i;
    return -1;
}

const struct pickle_global *t2t_pickle_global_row(size_t row)
{
    return &globals[row];
}
