/* Loading a weights file: what is accepted, and that everything else is refused with a sentence that names the file,
 * the tensor or metadata key, what was found and what was expected.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "layers/base/half.h"
#include "vit/tests/synthetic.h"

enum { MAX_TENSORS = 64, MAX_METADATA = 24 };

static const struct t2t_config small = {.name = "custom",
    .tokens_type = T2T_TOKENS_TRANSFORMER,
    .image_size = 32,
    .num_classes = 5,
    .embed_dim = 24,
    .depth = 1,
    .num_heads = 2,
    .mlp_ratio = 1.5,
    .token_dim = 8};

/* A weights file taken apart, to be changed and written again. */
struct parts {
    struct t2t_tensor tensor[MAX_TENSORS];
    size_t tensors;
    struct t2t_metadata metadata[MAX_METADATA];
    size_t metadata_count;
};

static struct t2t_tensors *good; /* the unchanged file */
static char good_path[64] = "/tmp/t2tvit_good_XXXXXX", changed_path[64] = "/tmp/t2tvit_changed_XXXXXX";

static int make_files(void **state)
{
    (void)state;
    close(mkstemp(good_path));
    close(mkstemp(changed_path));
    if (synthetic_weights_write(good_path, &small, 1)) return -1;
    return t2t_tensors_open(&good, good_path) ? -1 : 0;
}

static int remove_files(void **state)
{
    (void)state;
    t2t_tensors_close(good);
    unlink(good_path);
    unlink(changed_path);
    return 0;
}

static struct parts take_apart(void)
{
    struct parts parts = {.tensors = t2t_tensors_count(good)};
    assert_true(parts.tensors < MAX_TENSORS);
    for (size_t i = 0; i < parts.tensors; i++) parts.tensor[i] = *t2t_tensors_at(good, i);
    const char *key;
    while ((key = t2t_tensors_metadata_key(good, parts.metadata_count)))
        parts.metadata[parts.metadata_count++] = (struct t2t_metadata){key, t2t_tensors_metadata(good, key)};
    return parts;
}

static struct t2t_tensor *tensor_of(struct parts *parts, const char *name)
{
    for (size_t i = 0; i < parts->tensors; i++)
        if (strcmp(parts->tensor[i].name, name) == 0) return &parts->tensor[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Sets, adds or (value NULL) removes a metadata pair. */
static void set_metadata(struct parts *parts, const char *key, const char *value)
{
    size_t i = 0;
    while (i < parts->metadata_count && strcmp(parts->metadata[i].key, key) != 0) i++;
    if (value)
        parts->metadata[i] = (struct t2t_metadata){key, value};
    else
        parts->metadata[i] = parts->metadata[parts->metadata_count - 1];
    if (value && i == parts->metadata_count) parts->metadata_count++;
    if (!value) parts->metadata_count--;
}

static void put_together(const struct parts *parts)
{
    if (t2t_tensors_write(changed_path, parts->tensor, parts->tensors, parts->metadata, parts->metadata_count))
        fail_msg("%s", t2t_last_error());
}

static struct t2t_model *accepted(const struct parts *parts, const char *variant)
{
    put_together(parts);
    struct t2t_model *model;
    if (t2t_model_load(&model, variant, changed_path)) fail_msg("%s", t2t_last_error());
    return model;
}

/* The sentence names the file and holds every one of the words. */
static void refused(const struct parts *parts, const char *variant, const char *first, const char *second)
{
    put_together(parts);
    struct t2t_model *model = (struct t2t_model *)&model;
    assert_int_equal(t2t_model_load(&model, variant, changed_path), T2T_BAD_MODEL);
    assert_null(model);
    const char *words[] = {changed_path, first, second};
    for (size_t i = 0; i < 3; i++)
        if (!strstr(t2t_last_error(), words[i])) fail_msg("\"%s\" does not say \"%s\"", t2t_last_error(), words[i]);
}

static void accepts_the_unchanged_file(void **state)
{
    (void)state;
    struct parts parts = take_apart();
    set_metadata(&parts, "class_names", "[\"a\", \"b c\", \"d\", \"\\u00e9\", \"e\"]");
    set_metadata(&parts, "a_key_of_someone_else", "is ignored");
    set_metadata(&parts, "crop_pct", "0.875");
    set_metadata(&parts, "interpolation", "bilinear");
    set_metadata(&parts, "mean", "[0.5, 0.25, 0.125]");
    set_metadata(&parts, "std", "0.5, 0.25, 1");
    struct t2t_model *model = accepted(&parts, NULL);
    const struct t2t_config *config = t2t_model_config(model);
    assert_int_equal(config->tokens_type, T2T_TOKENS_TRANSFORMER);
    assert_int_equal(config->image_size, 32);
    assert_int_equal(config->num_classes, 5);
    assert_int_equal(config->embed_dim, 24);
    assert_int_equal(config->num_heads, 2);
    assert_int_equal(config->depth, 1);
    assert_int_equal(config->token_dim, 8);
    assert_string_equal(t2t_model_class_names(model)[1], "b c");
    assert_string_equal(t2t_model_class_names(model)[3], "\xc3\xa9");
    const struct t2t_input_config *input = t2t_model_input(model);
    assert_true(fabs(input->crop_pct - 0.875) < 1e-12);
    assert_string_equal(input->interpolation, "bilinear");
    const float mean[3] = {0.5F, 0.25F, 0.125F}, std[3] = {0.5F, 0.25F, 1};
    assert_memory_equal(input->mean, mean, sizeof mean);
    assert_memory_equal(input->std, std, sizeof std);
    t2t_model_free(model);
}

static void defaults_are_timms_evaluation(void **state)
{
    (void)state;
    const struct parts parts = take_apart();
    struct t2t_model *model = accepted(&parts, "custom");
    const struct t2t_input_config *input = t2t_model_input(model);
    const float mean[3] = {0.485F, 0.456F, 0.406F}, std[3] = {0.229F, 0.224F, 0.225F};
    assert_true(fabs(input->crop_pct - 0.9) < 1e-12);
    assert_string_equal(input->interpolation, "bicubic");
    assert_memory_equal(input->mean, mean, sizeof mean);
    assert_memory_equal(input->std, std, sizeof std);
    assert_null(t2t_model_class_names(model));
    t2t_model_free(model);
}

static void refuses_wrong_tensors(void **state)
{
    (void)state;
    static const float extra_values[2] = {1, 2};
    struct parts parts = take_apart();
    *tensor_of(&parts, "norm.bias") = parts.tensor[--parts.tensors];
    refused(&parts, NULL, "norm.bias is missing", "[24]");

    parts = take_apart();
    parts.tensor[parts.tensors++] =
        (struct t2t_tensor){.name = "aux_head.bias", .rank = 1, .shape = {2}, .elements = 2, .data = extra_values};
    refused(&parts, NULL, "aux_head.bias", "no part of");

    parts = take_apart();
    struct t2t_tensor *tensor = tensor_of(&parts, "blocks.0.attn.qkv.weight");
    tensor->shape[0] = 24;
    tensor->shape[1] = 72;
    refused(&parts, NULL, "blocks.0.attn.qkv.weight is [24, 72]", "expects [72, 24]");

    parts = take_apart();
    tensor = tensor_of(&parts, "cls_token"); /* [1, 1, 24] */
    tensor->rank = 2;
    tensor->shape[1] = 24;
    refused(&parts, NULL, "cls_token is [1, 24]", "[1, 1, 24]");

    parts = take_apart();
    tensor = tensor_of(&parts, "blocks.0.norm1.weight");
    tensor->dtype = T2T_I32;
    refused(&parts, NULL, "blocks.0.norm1.weight", "I32");
}

static void refuses_values_that_are_not_finite(void **state)
{
    (void)state;
    float values[24] = {0};
    uint16_t halves[24] = {0};
    const struct {
        enum t2t_dtype dtype;
        float value;
        uint16_t half;
    } cases[] = {{T2T_F32, NAN, 0}, {T2T_F32, -INFINITY, 0}, {T2T_F16, 0, 0x7c00}, {T2T_F16, 0, 0xfe00},
        {T2T_BF16, 0, 0x7f80}, {T2T_BF16, 0, 0xffc0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct parts parts = take_apart();
        struct t2t_tensor *tensor = tensor_of(&parts, "norm.weight");
        values[17] = cases[i].value;
        halves[17] = cases[i].half;
        tensor->dtype = cases[i].dtype;
        tensor->data = cases[i].dtype == T2T_F32 ? (const void *)values : halves;
        refused(&parts, NULL, "norm.weight", "17");
    }
}

static void refuses_contradictory_metadata(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *word;
    } cases[] = {
        {"model", NULL, "--model"},
        {"model", "t2t_vit_99", "t2t_vit_99"},
        {"model", "t2t_vit_7", "t2t_vit_7"}, /* a real one, whose tensors these are not */
        {"tokens_type", NULL, "missing"},
        {"tokens_type", "convolution", "performer"},
        {"embed_dim", NULL, "missing"},
        {"embed_dim", "25", "does not divide"},
        {"embed_dim", "24x", "whole number"},
        {"embed_dim", "", "whole number"},
        {"embed_dim", "1e300", "whole number"},
        {"depth", "0", "whole number"},
        {"depth", "-1", "whole number"},
        {"depth", "1.5", "whole number"},
        {"depth", "127", "126"},
        {"depth", "2", "blocks.1."},
        {"num_heads", "7", "num_heads"},
        {"num_heads", "nan", "num_heads"},
        {"token_dim", "16", "tokens_to_token.attention1"},
        {"mlp_ratio", "0", "mlp_ratio"},
        {"mlp_ratio", "inf", "mlp_ratio"},
        {"mlp_ratio", "2", "mlp.fc1.weight"},
        {"image_size", "33", "multiple of 16"},
        {"image_size", "48", "pos_embed"},
        {"image_size", "huge", "whole number"},
        {"crop_pct", "0", "crop_pct"},
        {"crop_pct", "1.5", "crop_pct"},
        {"interpolation", "lanczos", "bicubic"},
        {"mean", "0.5, 0.5", "three numbers"},
        {"mean", "0.5, 0.5, 0.5, 0.5", "three numbers"},
        {"std", "1, 0, 1", "three numbers"},
        {"std", "1, nan, 1", "three numbers"},
        {"class_names", "a, b, c, d, e", "JSON list of 5"},
        {"class_names", "[\"a\", \"b\", \"c\", \"d\"]", "JSON list of 5"},
        {"class_names", "[1, 2, 3, 4, 5]", "JSON list of 5"},
        {"class_names", "{\"a\": 1}", "JSON list of 5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct parts parts = take_apart();
        set_metadata(&parts, cases[i].key, cases[i].value);
        refused(&parts, NULL, cases[i].word, "");
    }
    const struct parts parts = take_apart();
    refused(&parts, "t2t_vit_14", "custom", "t2t_vit_14"); /* the file says otherwise */
}

static void names_an_official_variant(void **state)
{
    (void)state;
    struct parts parts = take_apart();
    set_metadata(&parts, "model", NULL);
    refused(&parts, "t2t_vit_t_14", "tokens_to_token.attention1", "t2t_vit_t_14");
    refused(&parts, "t2t_vit_t_15", "t2t_vit_t_15", "t2t_vit_14_resnext");
}

/* Half precision is read as the float32 that it stands for, at any alignment. */
static void reads_half_precision(void **state)
{
    (void)state;
    static char bytes[24 * 2 + 1];
    struct parts parts = take_apart();
    struct t2t_tensor *tensor = tensor_of(&parts, "norm.weight");
    float original[24];
    memcpy(original, tensor->data, sizeof original);
    for (int format = 0; format < 2; format++) {
        for (size_t i = 0; i < 24; i++) {
            const uint16_t half = format ? t2t_float_to_bfloat16(original[i]) : t2t_float_to_half(original[i]);
            memcpy(bytes + 1 + 2 * i, &half, 2);
        }
        tensor->dtype = format ? T2T_BF16 : T2T_F16;
        tensor->data = bytes + 1;
        struct t2t_model *model = accepted(&parts, NULL);
        const float *read = t2t_model_weights(model)->norm_weight;
        for (size_t i = 0; i < 24; i++) {
            assert_true(fabsf(read[i] - original[i]) <= fabsf(original[i]) * (format ? 0x1p-8F : 0x1p-11F));
            assert_true(fabsf(read[i]) > 0);
        }
        t2t_model_free(model);
    }
}

static void weights_are_mapped_not_copied(void **state)
{
    (void)state;
    const struct parts parts = take_apart();
    struct t2t_model *model = accepted(&parts, NULL);
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    const uintptr_t at = (uintptr_t)t2t_model_weights(model)->positions;
    char line[512];
    bool mapped = false;
    while (fgets(line, sizeof line, maps)) {
        unsigned long begin, end;
        if (sscanf(line, "%lx-%lx", &begin, &end) == 2 && at >= begin && at < end)
            mapped = strstr(line, changed_path) != NULL;
    }
    fclose(maps);
    t2t_model_free(model);
    assert_true(mapped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_the_unchanged_file),
        cmocka_unit_test(defaults_are_timms_evaluation),
        cmocka_unit_test(refuses_wrong_tensors),
        cmocka_unit_test(refuses_values_that_are_not_finite),
        cmocka_unit_test(refuses_contradictory_metadata),
        cmocka_unit_test(names_an_official_variant),
        cmocka_unit_test(reads_half_precision),
        cmocka_unit_test(weights_are_mapped_not_copied),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
