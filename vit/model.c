/* Loading a model: every tensor that the configuration names is found, checked and made float32; nothing else may be
 * in the file. float32 data is used where it is mapped.
 */
#include "vit/model.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/base/finite.h"
#include "layers/base/random.h"
#include "vit/model_config.h"

struct t2t_model {
    struct t2t_config config;
    struct t2t_input_config input;
    struct t2t_tensors *file;
    struct t2t_weights weights;
    float *converted; /* tensors that were not aligned float32, or made */
    char **class_names;
    size_t parameters;
};

static void shape_text(const struct t2t_expected_tensor *expected, char text[128])
{
    size_t used = 0;
    for (size_t i = 0; i < expected->rank; i++)
        used += (size_t)snprintf(text + used, 128 - used, "%s%zu", i ? ", " : "[", expected->shape[i]);
    snprintf(text + used, 128 - used, "]");
}

static bool same_shape(const struct t2t_tensor *tensor, const struct t2t_expected_tensor *expected)
{
    return tensor->rank == expected->rank &&
           memcmp(tensor->shape, expected->shape, expected->rank * sizeof *expected->shape) == 0;
}

static enum t2t_status check_tensor(
    const struct t2t_model *model, const struct t2t_tensor *tensor, const struct t2t_expected_tensor *expected)
{
    const char *path = t2t_tensors_path(model->file);
    char wanted[128], found[128];
    shape_text(expected, wanted);
    if (!tensor)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %s is missing; a %s of %zu px needs it as %s", path, expected->name,
            model->config.name, model->config.image_size, wanted);
    if (!same_shape(tensor, expected))
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %s is %s, a %s of %zu px expects %s", path, tensor->name,
            t2t_tensor_shape_text(tensor, found), model->config.name, model->config.image_size, wanted);
    if (tensor->dtype != T2T_F32 && tensor->dtype != T2T_F16 && tensor->dtype != T2T_BF16)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %s holds %s values, expected F32, F16 or BF16", path, tensor->name,
            t2t_dtype_name(tensor->dtype));
    return T2T_OK;
}

static bool usable_in_place(const struct t2t_tensor *tensor)
{
    return tensor->dtype == T2T_F32 && (uintptr_t)tensor->data % sizeof(float) == 0;
}

static enum t2t_status bind(struct t2t_model *model, const struct t2t_tensor *tensor, size_t offset, float **room)
{
    const float *values = tensor->data;
    if (!usable_in_place(tensor)) {
        const enum t2t_status status = t2t_tensor_to_float(tensor, *room);
        if (status) return t2t_fail(status, "%s: %s", t2t_tensors_path(model->file), t2t_last_error());
        values = *room;
        *room += tensor->elements;
    }
    const size_t bad = t2t_first_not_finite(values, tensor->elements);
    if (bad < tensor->elements)
        return t2t_fail(T2T_BAD_MODEL, "%s: tensor %s holds NaN or infinity (element %zu); the file is damaged",
            t2t_tensors_path(model->file), tensor->name, bad);
    memcpy((char *)&model->weights + offset, &values, sizeof values);
    return T2T_OK;
}

/* First pass: all tensors present and right, and how much has to be converted. */
static enum t2t_status check_tensors(struct t2t_model *model, size_t *count, size_t *to_convert)
{
    struct t2t_expected_tensor expected;
    for (*count = 0; t2t_expected_tensor(&model->config, *count, &expected); ++*count) {
        const struct t2t_tensor *tensor = t2t_tensors_find(model->file, expected.name);
        const enum t2t_status status = check_tensor(model, tensor, &expected);
        if (status) return status;
        model->parameters += tensor->elements;
        if (!usable_in_place(tensor)) *to_convert += tensor->elements;
    }
    return T2T_OK;
}

static bool is_expected(const struct t2t_model *model, const char *name)
{
    struct t2t_expected_tensor expected;
    for (size_t i = 0; t2t_expected_tensor(&model->config, i, &expected); i++)
        if (strcmp(expected.name, name) == 0) return true;
    return false;
}

static enum t2t_status refuse_unknown(const struct t2t_model *model)
{
    for (size_t i = 0; i < t2t_tensors_count(model->file); i++) {
        const char *name = t2t_tensors_at(model->file, i)->name;
        if (!is_expected(model, name))
            return t2t_fail(T2T_BAD_MODEL, "%s: tensor %.200s is no part of a %s; t2tvit-convert can leave it out",
                t2t_tensors_path(model->file), name, model->config.name);
    }
    return T2T_OK;
}

static enum t2t_status load(struct t2t_model *model, const char *variant_or_null, const char *path)
{
    enum t2t_status status = t2t_tensors_open(&model->file, path);
    if (!status) status = t2t_read_config(model->file, variant_or_null, &model->config);
    if (!status) status = t2t_read_input_config(model->file, &model->input);
    size_t count = 0, to_convert = 0;
    if (!status) status = check_tensors(model, &count, &to_convert);
    if (!status && count != t2t_tensors_count(model->file)) status = refuse_unknown(model);
    if (!status) status = t2t_read_class_names(model->file, model->config.num_classes, &model->class_names);
    if (status) return status;

    if (to_convert) {
        model->converted = malloc(to_convert * sizeof *model->converted);
        if (!model->converted) return t2t_fail_memory("converted weights", to_convert * sizeof *model->converted);
    }
    float *room = model->converted;
    struct t2t_expected_tensor expected;
    for (size_t i = 0; !status && t2t_expected_tensor(&model->config, i, &expected); i++)
        status = bind(model, t2t_tensors_find(model->file, expected.name), expected.offset, &room);
    assert(status || room == (to_convert ? model->converted + to_convert : NULL));
    return status;
}

enum t2t_status t2t_model_load(struct t2t_model **model, const char *variant_or_null, const char *path)
{
    *model = NULL;
    struct t2t_model *made = calloc(1, sizeof *made);
    if (!made) return t2t_fail_memory("the model", sizeof *made);
    const enum t2t_status status = load(made, variant_or_null, path);
    if (status) {
        t2t_model_free(made);
        return status;
    }
    t2t_model_release_pages(made);
    *model = made;
    return T2T_OK;
}

/* ---- random weights ---- */

static size_t elements_of(const struct t2t_expected_tensor *expected)
{
    size_t elements = 1;
    for (size_t i = 0; i < expected->rank; i++) elements *= expected->shape[i];
    return elements;
}

/* Tensor `index` of the network: vectors are 1 where they weigh a norm and 0 where they are added. */
static void draw_tensor(const struct t2t_expected_tensor *expected, size_t index, uint64_t seed, float *out)
{
    const size_t elements = elements_of(expected), length = strlen(expected->name);
    if (expected->rank == 1) {
        const bool weight = length > 7 && strcmp(expected->name + length - 7, ".weight") == 0;
        for (size_t i = 0; i < elements; i++) out[i] = weight ? 1 : 0;
        return;
    }
    const float scale = 1 / sqrtf((float)expected->shape[expected->rank - 1]);
    const struct t2t_random_key key = {.seed = seed, .layer = (uint32_t)index, .purpose = T2T_RANDOM_TEST};
    t2t_random_normal(key, elements, out);
    for (size_t i = 0; i < elements; i++) out[i] *= scale;
}

static enum t2t_status make_random(struct t2t_model *model, uint64_t seed)
{
    struct t2t_expected_tensor expected;
    model->input = t2t_timm_input;
    for (size_t i = 0; t2t_expected_tensor(&model->config, i, &expected); i++)
        model->parameters += elements_of(&expected);
    model->converted = malloc(model->parameters * sizeof *model->converted);
    if (!model->converted) return t2t_fail_memory("random weights", model->parameters * sizeof *model->converted);
    float *values = model->converted;
    for (size_t i = 0; t2t_expected_tensor(&model->config, i, &expected); i++) {
        draw_tensor(&expected, i, seed, values);
        memcpy((char *)&model->weights + expected.offset, &values, sizeof values);
        values += elements_of(&expected);
    }
    return T2T_OK;
}

enum t2t_status t2t_model_random(struct t2t_model **model, const struct t2t_config *config, uint64_t seed)
{
    *model = NULL;
    struct t2t_model *made = calloc(1, sizeof *made);
    if (!made) return t2t_fail_memory("the model", sizeof *made);
    made->config = *config;
    const enum t2t_status status = make_random(made, seed);
    if (status) {
        t2t_model_free(made);
        return status;
    }
    *model = made;
    return T2T_OK;
}

void t2t_model_free(struct t2t_model *model)
{
    if (!model) return;
    t2t_tensors_close(model->file);
    free(model->converted);
    free(model->class_names);
    free(model);
}

const struct t2t_config *t2t_model_config(const struct t2t_model *model)
{
    return &model->config;
}

const struct t2t_input_config *t2t_model_input(const struct t2t_model *model)
{
    return &model->input;
}

const char *const *t2t_model_class_names(const struct t2t_model *model)
{
    return (const char *const *)model->class_names;
}

size_t t2t_model_parameters(const struct t2t_model *model)
{
    return model->parameters;
}

void t2t_model_release_pages(const struct t2t_model *model)
{
    if (model->file) t2t_tensors_release_pages(model->file);
}

const struct t2t_weights *t2t_model_weights(const struct t2t_model *model)
{
    return &model->weights;
}
