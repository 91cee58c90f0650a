/* From the name of a device to its table of operations. The CPU is part of every program; others are modules that are
 * opened at run time, so that programs link none of their libraries.
 */
#ifndef T2T_LAYERS_DEVICES_H
#define T2T_LAYERS_DEVICES_H

#include "layers/layers.h"

/* Rises with every change of struct layer_ops, struct attention_call or what they are made of. */
enum { T2T_MODULE_ABI = 4, T2T_REASON_BYTES = 512 };

/* What a module gives. */
struct t2t_module {
    const struct layer_ops *(*ops)(void);
    /* How many devices there are, where the one that is asked for can be used as it is asked to; 0 with the reason in
     * words. */
    size_t (*probe)(const struct layer_device_options *options, char *reason, size_t bytes);
};

/* The one function of a module, "t2t_module_open": NULL where it has another ABI. `fail` takes its sentences. */
typedef const struct t2t_module *t2t_module_open_function(unsigned abi, void (*fail)(enum t2t_status, const char *));

/* `name`: "cpu"; "cuda" or "cuda:N", T2T_NO_RESOURCE with the reason where it cannot be used; "auto", the first CUDA
 * device or else the CPU, with the reason in `reason` ("" otherwise). Sets *ops and options->ordinal. The module is
 * libt2tvit_cuda.so in $T2TVIT_MODULES, beside the program, or in ../lib. */
enum t2t_status t2t_device_choose(const char *name, const struct layer_ops **ops, struct layer_device_options *options,
    char reason[T2T_REASON_BYTES]);

#endif
