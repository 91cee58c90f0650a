/* The CPU as a device: opening it, and the table that joins its operations. */
#include "layers/cpu/cpu_device.h"

#include <stdio.h>
#include <stdlib.h>

#include "layers/base/cpu_features.h"
#include "layers/cpu/cpu_attention.h"
#include "layers/cpu/kernels.h"

static void cpu_close(struct layer_device *device)
{
    if (!device) return;
    t2t_linear_engine_close(device->linear_engine);
    free(device->each_thread);
    free(device);
}

static enum t2t_status split_threads(struct layer_device *device)
{
    if (device->threads == 1) return T2T_OK;
    device->each_thread = calloc(device->threads, sizeof *device->each_thread);
    if (!device->each_thread) return t2t_fail_memory("the CPU's threads", device->threads * sizeof *device);
    for (size_t t = 0; t < device->threads; t++)
        device->each_thread[t] = (struct layer_device){.threads = 1,
            .first_thread = t,
            .linear_engine = device->linear_engine,
            .format = device->format,
            .kernels = device->kernels};
    return T2T_OK;
}

static enum t2t_status cpu_open(struct layer_device **device, const struct layer_device_options *options)
{
    *device = NULL;
    struct layer_device *made = calloc(1, sizeof *made);
    if (!made) return t2t_fail_memory("the CPU device", sizeof *made);
    made->format = options->format;
    made->threads = options->threads ? options->threads : t2t_cpu_allowed();
    enum t2t_status status = t2t_kernels_choose(&made->kernels);
    if (!status) status = t2t_linear_engine_open(&made->linear_engine, made->threads);
    if (!status) status = t2t_linear_supports(made->linear_engine, made->format);
    if (!status) status = split_threads(made);
    if (status) {
        cpu_close(made);
        return status;
    }
    char library[32];
    t2t_linear_library(library, sizeof library);
    snprintf(made->description, sizeof made->description, "cpu, %s kernels, %zu thread%s, %s", made->kernels->name,
        made->threads, made->threads == 1 ? "" : "s", library);
    *device = made;
    return T2T_OK;
}

static const char *cpu_describe(const struct layer_device *device)
{
    return device->description;
}

static size_t cpu_threads(const struct layer_device *device)
{
    return device->threads;
}

static struct layer_device *cpu_one_thread(struct layer_device *device, size_t number)
{
    return device->each_thread ? &device->each_thread[number] : device;
}

static size_t cpu_attention_scratch(struct layer_device *device, const struct attention_shape *shape,
    const struct attention_config *config, size_t batch)
{
    return t2t_cpu_attention_scratch(device->kernels, device->threads, shape, config, batch);
}

static void cpu_attention(struct layer_device *device, const struct attention_call *call)
{
    t2t_cpu_attention(device->kernels, device->threads, call);
}

const struct layer_ops t2t_cpu_ops = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .threads = cpu_threads,
    .one_thread = cpu_one_thread,
    .linear_open = t2t_linear_open,
    .linear_close = t2t_linear_close,
    .linear = t2t_linear,
    .layer_norm = t2t_layer_norm,
    .soft_split_image = t2t_soft_split_image,
    .soft_split_tokens = t2t_soft_split_tokens,
    .assemble_tokens = t2t_assemble_tokens,
    .attention_scratch = cpu_attention_scratch,
    .attention = cpu_attention,
    .performer_scratch = t2t_performer_scratch,
    .performer_attention = t2t_performer_attention,
};
