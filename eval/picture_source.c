/* Batches of decoded files or of a raw tensor; see picture_source.h. */
#include "eval/picture_source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum t2t_status t2t_source_open_files(
    struct picture_source *source, const struct t2t_dataset *pictures, const struct t2t_loader_options *options)
{
    *source = (struct picture_source){.pictures = pictures, .batch = options->batch};
    return t2t_loader_open(&source->loader, pictures, options);
}

/* ---- raw input ---- */

static bool is_integer(enum t2t_dtype dtype)
{
    return dtype == T2T_I32 || dtype == T2T_I64;
}

static enum t2t_status check_input(
    const struct t2t_tensors *tensors, const char *path, const struct t2t_tensor *input, size_t size)
{
    char shape[128];
    if (!input) return t2t_fail(T2T_BAD_DATA, "%s: has no tensor \"input\"", path);
    if (input->rank != 4 || input->shape[1] != 3 || input->shape[2] != size || input->shape[3] != size)
        return t2t_fail(T2T_BAD_DATA, "%s: tensor input is %s, expected [N, 3, %zu, %zu]", path,
            t2t_tensor_shape_text(input, shape), size, size);
    if (input->shape[0] == 0) return t2t_fail(T2T_BAD_DATA, "%s: tensor input holds no pictures", path);
    if (input->dtype != T2T_F32 && input->dtype != T2T_F16 && input->dtype != T2T_BF16)
        return t2t_fail(T2T_BAD_DATA, "%s: tensor input is no F32, F16 or BF16", path);
    const struct t2t_tensor *label = t2t_tensors_find(tensors, "label");
    if (label && (!is_integer(label->dtype) || label->rank != 1 || label->shape[0] != input->shape[0]))
        return t2t_fail(T2T_BAD_DATA, "%s: tensor label is %s, expected one I32 or I64 for each of %zu pictures", path,
            t2t_tensor_shape_text(label, shape), input->shape[0]);
    return T2T_OK;
}

static int64_t label_at(const struct t2t_tensor *label, size_t index)
{
    if (label->dtype == T2T_I32) {
        int32_t value;
        memcpy(&value, (const char *)label->data + index * sizeof value, sizeof value);
        return value;
    }
    int64_t value;
    memcpy(&value, (const char *)label->data + index * sizeof value, sizeof value);
    return value;
}

static enum t2t_status describe(struct t2t_dataset *pictures, const struct t2t_tensors *tensors, const char *path,
    size_t total, size_t num_classes, size_t limit)
{
    const struct t2t_tensor *label = t2t_tensors_find(tensors, "label");
    const size_t count = limit && limit < total ? limit : total, name_bytes = strlen(path) + 32;
    char *names = calloc(count, name_bytes);
    pictures->storage = names;
    pictures->samples = calloc(count, sizeof *pictures->samples);
    if (!names || !pictures->samples) return t2t_fail_memory("a list of pictures", count * name_bytes);
    pictures->count = count;
    pictures->total = total;
    pictures->layout = "raw";
    pictures->label_kind = label ? "index" : "none";
    for (size_t i = 0; i < count; i++) {
        char *name = names + i * name_bytes;
        const size_t place = (size_t)((double)i * (double)total / (double)count);
        const int64_t number = label ? label_at(label, place) : -1;
        snprintf(name, name_bytes, "%s[%zu]", path, place);
        if (label && (number < 0 || (uint64_t)number >= num_classes))
            return t2t_fail(T2T_BAD_DATA, "%s: label %" PRId64 " of picture %zu is none of the model's %zu classes",
                path, number, place, num_classes);
        pictures->samples[i] =
            (struct t2t_sample){.path = name, .name = name, .label = (int32_t)number, .index = (uint64_t)place};
    }
    return T2T_OK;
}

enum t2t_status t2t_raw_input_open(struct t2t_tensors **tensors, struct t2t_dataset *pictures, const char *path,
    size_t image_size, size_t num_classes, size_t limit)
{
    *pictures = (struct t2t_dataset){.count = 0};
    enum t2t_status status = t2t_tensors_open(tensors, path);
    if (status) return status == T2T_BAD_MODEL ? T2T_BAD_DATA : status;
    const struct t2t_tensor *input = t2t_tensors_find(*tensors, "input");
    status = check_input(*tensors, path, input, image_size);
    if (!status) status = describe(pictures, *tensors, path, input->shape[0], num_classes, limit);
    if (status) {
        t2t_raw_input_close(*tensors, pictures);
        *tensors = NULL;
    }
    return status;
}

void t2t_raw_input_close(struct t2t_tensors *tensors, struct t2t_dataset *pictures)
{
    t2t_tensors_close(tensors);
    free(pictures->storage);
    free(pictures->samples);
    *pictures = (struct t2t_dataset){.count = 0};
}

enum t2t_status t2t_source_open_raw(struct picture_source *source, struct t2t_tensors *tensors,
    const struct t2t_dataset *pictures, size_t image_size, size_t batch)
{
    const size_t pixels = 3 * image_size * image_size;
    *source = (struct picture_source){.pictures = pictures,
        .batch = batch,
        .tensors = tensors,
        .input = t2t_tensors_find(tensors, "input"),
        .pixels = malloc(batch * pixels * sizeof(float)),
        .image_index = calloc(batch, sizeof(uint64_t)),
        .sample = calloc(batch, sizeof(size_t)),
        .label = calloc(batch, sizeof(int32_t)),
        .report = calloc(batch, sizeof(struct t2t_picture_report))};
    if (source->pixels && source->image_index && source->sample && source->label && source->report) return T2T_OK;
    t2t_source_close(source);
    return t2t_fail_memory("a batch of pictures", batch * pixels * sizeof(float));
}

/* The next pictures of the tensor, as float32. */
static enum t2t_status read_raw(struct picture_source *source, size_t count)
{
    struct t2t_tensor part = *source->input;
    const size_t pixels = part.shape[1] * part.shape[2] * part.shape[3];
    part.shape[0] = 1;
    part.elements = pixels;
    for (size_t i = 0; i < count; i++) {
        const struct t2t_sample *sample = &source->pictures->samples[source->next + i];
        part.data = (const char *)source->input->data + sample->index * pixels * t2t_dtype_bytes(part.dtype);
        if (t2t_tensor_to_float(&part, source->pixels + i * pixels))
            return t2t_fail(T2T_BAD_DATA, "%s: this picture of tensor input holds NaN or infinity", sample->name);
        source->sample[i] = source->next + i;
        source->image_index[i] = sample->index;
        source->label[i] = sample->label;
    }
    source->current = (struct t2t_batch){.count = count,
        .pixels = source->pixels,
        .image_index = source->image_index,
        .sample = source->sample,
        .label = source->label,
        .report = source->report};
    source->next += count;
    return T2T_OK;
}

enum t2t_status t2t_source_next(struct picture_source *source, const struct t2t_batch **batch)
{
    *batch = NULL;
    if (source->loader) {
        *batch = t2t_loader_next(source->loader);
        return T2T_OK;
    }
    const size_t left = source->pictures->count - source->next;
    if (!left) return T2T_OK;
    const enum t2t_status status = read_raw(source, left < source->batch ? left : source->batch);
    if (!status) *batch = &source->current;
    return status;
}

const struct t2t_batch *t2t_source_peek(struct picture_source *source)
{
    return source->loader ? t2t_loader_peek(source->loader) : NULL;
}

void t2t_source_close(struct picture_source *source)
{
    t2t_loader_close(source->loader);
    free(source->pixels);
    free(source->image_index);
    free(source->sample);
    free(source->label);
    free(source->report);
    *source = (struct picture_source){.batch = 0};
}
