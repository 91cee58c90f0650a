/* From options to a loaded model and the preparation of its pictures. */
#include "eval/model_options.h"

#include <stdlib.h>
#include <string.h>

#include "eval/progress.h"
#include "eval/weights_lookup.h"
#include "layers/base/clock.h"
#include "layers/base/cpu_features.h"
#include "layers/devices.h"

enum { DEFAULT_SIZE = 224 };

enum t2t_status t2t_open_model(const struct model_options *options, struct t2t_model **model, char **path)
{
    enum t2t_status status = t2t_weights_find(path, options->weights);
    if (status) return status;
    const double begin = t2t_now();
    status = t2t_model_load(model, options->model, *path);
    if (status) {
        free(*path);
        *path = NULL;
        return status;
    }
    t2t_detail("%s: %s, %.1f million parameters, loaded in %.2f s", *path, t2t_model_config(*model)->name,
        1e-6 * (double)t2t_model_parameters(*model), t2t_now() - begin);
    return T2T_OK;
}

enum number_format t2t_chosen_format(const struct model_options *options)
{
    static const enum number_format formats[] = {FORMAT_FLOAT32, FORMAT_BFLOAT16, FORMAT_FLOAT16, FORMAT_FLOAT32,
        FORMAT_BFLOAT16, FORMAT_FLOAT16, FORMAT_FLOAT16, FORMAT_FLOAT16};
    return formats[options->dtype];
}

/* Products in bfloat16 that take longer than those in float32 save nobody time. */
static void warn_of_slow_bfloat16(void)
{
    const struct t2t_cpu_features features = t2t_cpu_features();
    if (features.amx_bf16 || (features.avx512bf16 && !features.slow_bf16)) return;
    t2t_warn(
        "--dtype bfloat16: this processor multiplies it more slowly than float32, which is the faster --dtype here");
}

enum t2t_status t2t_choose_device(const struct model_options *options, struct chosen_device *device)
{
    char reason[T2T_REASON_BYTES];
    *device = (struct chosen_device){.options = {.format = t2t_chosen_format(options),
                                         .threads = options->threads,
                                         .tf32 = options->tf32,
                                         .graph = options->graph}};
    enum t2t_status status =
        t2t_device_choose(options->device ? options->device : "cpu", &device->ops, &device->options, reason);
    if (!status && options->tf32 && device->ops == &t2t_cpu_ops)
        t2t_warn("--tf32 has no meaning on the CPU, whose products are %s", number_format_name(device->options.format));
    else if (!status && options->tf32 && device->options.format != FORMAT_FLOAT32)
        t2t_warn("--tf32 has no meaning beside --dtype %s", number_format_name(device->options.format));
    if (!status && device->ops == &t2t_cpu_ops && device->options.format == FORMAT_BFLOAT16) warn_of_slow_bfloat16();
    if (!status && options->graph && device->ops == &t2t_cpu_ops)
        status = t2t_fail(T2T_BAD_USAGE, "--cuda-graph: the CPU has no CUDA graphs; leave it out%s%s",
            *reason ? ", or see to a CUDA device: " : ", or use --device cuda", reason);
    if (!status && *reason) t2t_note("--device auto takes the CPU: %s", reason);
    return status;
}

size_t t2t_batches_ahead(const struct chosen_device *device)
{
    return device->ops->input_ahead ? 2 : 1;
}

size_t t2t_choose_threads(const struct model_options *options)
{
    return options->threads ? options->threads : t2t_cpu_allowed();
}

static enum t2t_status read_triple(const char *option, const char *text, double minimum, float values[3])
{
    if (!text) return T2T_OK;
    char copy[128];
    if (strlen(text) < sizeof copy) {
        strcpy(copy, text);
        char *rest = copy;
        size_t count = 0;
        for (const char *word; count < 3 && (word = strsep(&rest, ",")); count++) {
            double value;
            if (!t2t_parse_real(word, minimum, 1000, &value)) break;
            values[count] = (float)value;
        }
        if (count == 3 && !rest) return T2T_OK;
    }
    return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": expected three numbers, as in 0.485,0.456,0.406", option, text);
}

enum t2t_status t2t_choose_preprocess(
    const struct model_options *options, const struct t2t_model *model, struct t2t_preprocess *preprocess)
{
    const struct t2t_input_config *input = model ? t2t_model_input(model) : &t2t_timm_input;
    *preprocess = (struct t2t_preprocess){
        .image_size = model ? t2t_model_config(model)->image_size : DEFAULT_SIZE,
        .crop_pct = options->crop_pct > 0 ? options->crop_pct : input->crop_pct,
        .interpolation = strcmp(input->interpolation, "bilinear") == 0 ? T2T_BILINEAR : T2T_BICUBIC,
        .strict = options->strict,
    };
    memcpy(preprocess->mean, input->mean, sizeof preprocess->mean);
    memcpy(preprocess->std, input->std, sizeof preprocess->std);
    if (options->interpolation >= 0) preprocess->interpolation = (enum t2t_interpolation)options->interpolation;
    if (options->image_size && model && options->image_size != preprocess->image_size)
        return t2t_fail(T2T_BAD_MODEL,
            "--img-size %zu: the positions of these weights are for %zu px; "
            "t2tvit-convert --resize-pos-embed %zu makes others",
            options->image_size, preprocess->image_size, options->image_size);
    if (options->image_size) preprocess->image_size = options->image_size;
    const enum t2t_status status = read_triple("mean", options->mean, -1000, preprocess->mean);
    return status ? status : read_triple("std", options->std, 1e-6, preprocess->std);
}
