/* Modules for tests of layers/devices.c, a kind for each definition of KIND_*. */
#include <stdio.h>

#include "layers/devices.h"

#if defined(KIND_MISSING_LIBRARY)
int t2t_nowhere(void);
#endif

#if !defined(KIND_NO_ENTRY)
static const struct layer_ops ops = {.name = "cuda"};

static const struct layer_ops *get_ops(void)
{
    return &ops;
}

static size_t probe(const struct layer_device_options *options, char *reason, size_t bytes)
{
    const size_t number = options->ordinal;
#if defined(KIND_UNUSABLE)
    snprintf(reason, bytes, "the module has no code for device %zu", number);
    return 0;
#else
    if (number < 2) return 2;
    snprintf(reason, bytes, "there are 2 devices");
    return 0;
#endif
}

static const struct t2t_module module = {get_ops, probe};

t2t_module_open_function t2t_module_open;
const struct t2t_module *t2t_module_open(unsigned abi, void (*fail)(enum t2t_status, const char *))
{
    (void)fail;
#if defined(KIND_OTHER_ABI)
    return abi == T2T_MODULE_ABI + 1 ? &module : NULL;
#elif defined(KIND_MISSING_LIBRARY)
    return t2t_nowhere() || abi != T2T_MODULE_ABI ? NULL : &module;
#else
    return abi == T2T_MODULE_ABI ? &module : NULL;
#endif
}
#else
int t2t_nothing_of_interest(void);
int t2t_nothing_of_interest(void)
{
    return 1;
}
#endif
