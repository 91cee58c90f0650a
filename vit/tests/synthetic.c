/* Synthetic weights; see synthetic.h. */
#include "vit/tests/synthetic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct t2t_config synthetic_small = {.name = "custom",
    .tokens_type = T2T_TOKENS_TRANSFORMER,
    .image_size = SYNTHETIC_SIZE,
    .num_classes = SYNTHETIC_CLASSES,
    .embed_dim = 36,
    .depth = 2,
    .num_heads = 3,
    .mlp_ratio = 2,
    .token_dim = 64};

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* Whether the component before the last, "norm1" of "blocks.0.norm1.weight", names a norm. */
static bool is_norm(const char *name)
{
    const char *norm = strstr(name, "norm");
    return norm && strchr(norm, '.') && !strchr(strchr(norm, '.') + 1, '.');
}

static void rule(const struct t2t_expected_tensor *tensor, double *offset, double *amplitude)
{
    *offset = 0;
    if (is_norm(tensor->name)) {
        *offset = ends_with(tensor->name, ".weight") ? 1 : 0;
        *amplitude = *offset > 0 ? 0.2 : 0.1;
    } else if (strcmp(tensor->name, "cls_token") == 0) {
        *amplitude = 0.5;
    } else if (ends_with(tensor->name, ".w")) {
        *amplitude = sqrt(3);
    } else if (ends_with(tensor->name, ".bias")) {
        *amplitude = 0.1;
    } else {
        *amplitude = (ends_with(tensor->name, ".kqv.weight") ? 0.3 : 1) * sqrt(3 / (double)tensor->shape[1]);
    }
}

/* Row p, column j: sin or cos of p / 10000^(2 floor(j / 2) / width). */
static void sinusoid(size_t rows, size_t width, float *out)
{
    for (size_t p = 0; p < rows; p++)
        for (size_t j = 0; j < width; j++) {
            const double angle = (double)p / pow(10000, 2 * (double)(j / 2) / (double)width);
            out[p * width + j] = (float)(j % 2 ? cos(angle) : sin(angle));
        }
}

static size_t elements(const struct t2t_expected_tensor *tensor)
{
    size_t count = 1;
    for (size_t i = 0; i < tensor->rank; i++) count *= tensor->shape[i];
    return count;
}

void synthetic_tensor(const struct t2t_expected_tensor *tensor, uint64_t seed, float *out)
{
    if (strcmp(tensor->name, "pos_embed") == 0) {
        sinusoid(tensor->shape[1], tensor->shape[2], out);
        return;
    }
    double offset, amplitude;
    rule(tensor, &offset, &amplitude);
    const size_t count = elements(tensor);
    synthetic_uniform(tensor->name, seed, count, out);
    for (size_t i = 0; i < count; i++) {
        const volatile float product = (float)amplitude * out[i]; /* rounded before the sum */
        out[i] = (float)offset + product;
    }
}

void synthetic_picture(size_t size, uint64_t seed, float *out)
{
    synthetic_uniform("input", seed, 3 * size * size, out);
    for (size_t i = 0; i < 3 * size * size; i++) out[i] *= 2;
}

static enum t2t_status write_tensors(
    const char *path, const struct t2t_config *config, const struct t2t_tensor *tensors, size_t count)
{
    char image_size[24], embed_dim[24], depth[24], num_heads[24], mlp_ratio[32], token_dim[24];
    snprintf(image_size, sizeof image_size, "%zu", config->image_size);
    snprintf(embed_dim, sizeof embed_dim, "%zu", config->embed_dim);
    snprintf(depth, sizeof depth, "%zu", config->depth);
    snprintf(num_heads, sizeof num_heads, "%zu", config->num_heads);
    snprintf(mlp_ratio, sizeof mlp_ratio, "%.17g", config->mlp_ratio);
    snprintf(token_dim, sizeof token_dim, "%zu", config->token_dim);
    const struct t2t_metadata metadata[] = {{"model", config->name}, {"image_size", image_size},
        {"tokens_type", config->tokens_type == T2T_TOKENS_PERFORMER ? "performer" : "transformer"},
        {"embed_dim", embed_dim}, {"depth", depth}, {"num_heads", num_heads}, {"mlp_ratio", mlp_ratio},
        {"token_dim", token_dim}};
    return t2t_tensors_write(path, tensors, count, metadata, sizeof metadata / sizeof *metadata);
}

enum t2t_status synthetic_weights_write(const char *path, const struct t2t_config *config, uint64_t seed)
{
    struct t2t_expected_tensor expected;
    size_t count = 0;
    while (t2t_expected_tensor(config, count, &expected)) count++;
    struct t2t_tensor *tensors = calloc(count, sizeof *tensors);
    struct t2t_expected_tensor *names = calloc(count, sizeof *names);
    enum t2t_status status = tensors && names ? T2T_OK : t2t_fail_memory("synthetic weights", count);
    for (size_t i = 0; i < count && !status; i++) {
        t2t_expected_tensor(config, i, &names[i]);
        float *values = malloc(elements(&names[i]) * sizeof *values);
        if (!values) {
            status = t2t_fail_memory("synthetic weights", elements(&names[i]) * sizeof *values);
            break;
        }
        synthetic_tensor(&names[i], seed, values);
        tensors[i] = (struct t2t_tensor){.name = names[i].name,
            .dtype = T2T_F32,
            .rank = names[i].rank,
            .elements = elements(&names[i]),
            .data = values};
        memcpy(tensors[i].shape, names[i].shape, sizeof names[i].shape);
    }
    if (!status) status = write_tensors(path, config, tensors, count);
    for (size_t i = 0; tensors && i < count; i++) free((void *)(uintptr_t)tensors[i].data);
    free(tensors);
    free(names);
    return status;
}

enum t2t_status synthetic_model_load(struct t2t_model **model, const struct t2t_config *config, uint64_t seed)
{
    char path[1024];
    *model = NULL;
    snprintf(path, sizeof path, "%s/t2tvit_synthetic_XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    const int descriptor = mkstemp(path);
    if (descriptor < 0) return t2t_fail(T2T_CANNOT_WRITE, "%s: cannot be made", path);
    close(descriptor);
    enum t2t_status status = synthetic_weights_write(path, config, seed);
    if (!status) status = t2t_model_load(model, NULL, path);
    unlink(path); /* the mapping stays */
    return status;
}
