/* The steps of a conversion: open, name the network, pick its tensors, convert their numbers, describe, write. */
#include "eval/convert_file.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "eval/convert_names.h"
#include "eval/convert_values.h"
#include "eval/sha256.h"
#include "vit/model.h"
#include "weights/utf8.h"

enum { MOST_METADATA = 256, MOST_COPIED = 200, MOST_TENSORS = 20 + 13 * T2T_MAX_LAYERS, NAMED = 5 };

struct conversion {
    const char *in;
    const struct convert_settings *settings;
    struct t2t_checkpoint *checkpoint;
    struct t2t_config config;
    bool *wanted;
    size_t unknown;
    struct t2t_expected_tensor *names;
    struct t2t_tensor *tensors;
    void **memory; /* [MOST_TENSORS + 1]: of converted tensors, and of resized positions */
    size_t count;
    struct t2t_metadata metadata[MOST_METADATA];
    size_t metadata_count;
    char numbers[6][32]; /* values of metadata */
    char sha256[T2T_SHA256_TEXT];
};

/* ---- what is found ---- */

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void say_source(const struct conversion *c, bool rewritten)
{
    const struct t2t_checkpoint_info *info = t2t_checkpoint_info(c->checkpoint);
    const char *ending = strstr(file_name(c->in), ".tar");
    printf("source     %s: %s%s\n", file_name(c->in), info->format,
        ending && strcmp(info->format, "safetensors") != 0 ? " (not a tar file; nothing to unpack)" : "");
    if (*info->key)
        printf("weights    %s%s%s%s\n", info->key, *info->beside ? " (the file also holds " : "", info->beside,
            *info->beside ? "; --weights-key chooses)" : "");
    else
        printf("weights    all of the file\n");
    if (*info->stripped) printf("names      \"%s\" taken off\n", info->stripped);
    if (rewritten) printf("names      rewritten to those of the official code\n");
}

static void say_model(const struct conversion *c)
{
    const struct t2t_config *config = &c->config;
    printf("model      %s: %s, %zu px, %zu classes, embed_dim %zu, depth %zu, %zu heads, MLP ratio %.4g\n",
        config->name, config->tokens_type == T2T_TOKENS_PERFORMER ? "performer" : "transformer", config->image_size,
        config->num_classes, config->embed_dim, config->depth, config->num_heads, config->mlp_ratio);
}

/* Names what is no part of the network; refused unless it may be left out. */
static enum t2t_status answer_unknown(const struct conversion *c)
{
    char list[NAMED * 110] = "";
    size_t named = 0, used = 0;
    for (size_t i = 0; i < t2t_checkpoint_count(c->checkpoint) && named < NAMED; i++) {
        if (c->wanted[i]) continue;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%.100s", named++ ? ", " : "",
            t2t_checkpoint_at(c->checkpoint, i)->name);
    }
    if (c->unknown == 0) return T2T_OK;
    const char *more = c->unknown > named ? " ..." : "";
    if (c->settings->allow_unknown) {
        printf("left out   %zu tensors that are no part of it: %s%s\n", c->unknown, list, more);
        return T2T_OK;
    }
    return t2t_fail(T2T_BAD_MODEL, "%s: %zu tensors are no part of a %s: %s%s; --allow-unknown leaves them out", c->in,
        c->unknown, c->config.name, list, more);
}

/* ---- numbers ---- */

static enum t2t_dtype target_dtype(const struct conversion *c, enum t2t_dtype found)
{
    static const enum t2t_dtype chosen[] = {T2T_F32, T2T_F32, T2T_F16, T2T_BF16};
    const bool keep = c->settings->dtype == 0 && found != T2T_F64; /* the engine reads no F64 */
    return keep ? found : chosen[c->settings->dtype];
}

static enum t2t_status convert_positions(struct conversion *c, struct t2t_tensor *positions)
{
    const double apart = t2t_values_sinusoid_difference(positions), rounding = positions->dtype == T2T_F16    ? 0x1p-11
                                                                               : positions->dtype == T2T_BF16 ? 0x1p-8
                                                                                                              : 1e-6;
    const size_t from = c->config.image_size / 16, to = c->settings->resize / 16;
    const bool kept = to == 0 || to == from;
    printf("positions  %s (largest difference %.3g)%s\n",
        apart <= rounding ? "the sinusoid table" : "differ from the sinusoid table", apart,
        kept ? ", kept as stored" : "");
    if (kept) return T2T_OK;
    const enum t2t_status status = t2t_values_resize_positions(positions, from, to, &c->memory[MOST_TENSORS]);
    if (status) return status;
    printf("positions  resized from %zu to %zu px\n", c->config.image_size, c->settings->resize);
    c->config.image_size = c->settings->resize;
    return T2T_OK;
}

static enum t2t_status convert_tensor(struct conversion *c, const struct t2t_expected_tensor *expected)
{
    struct t2t_tensor *tensor = &c->tensors[c->count];
    c->names[c->count] = *expected;
    *tensor = *t2t_checkpoint_find(c->checkpoint, expected->name);
    tensor->name = c->names[c->count].name;
    const enum t2t_dtype dtype = target_dtype(c, tensor->dtype);
    enum t2t_status status = T2T_OK;
    if (strcmp(tensor->name, "pos_embed") == 0) status = convert_positions(c, tensor);
    if (!status) status = t2t_values_convert(tensor, dtype, c->settings->allow_nonfinite, c->in, &c->memory[c->count]);
    c->count++;
    return status;
}

static enum t2t_status convert_tensors(struct conversion *c)
{
    const struct t2t_config found = c->config; /* resizing changes the other */
    struct t2t_expected_tensor expected;
    size_t numbers = 0, kinds[T2T_DTYPES] = {0};
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; !status && t2t_expected_tensor(&found, i, &expected); i++) {
        status = convert_tensor(c, &expected);
        if (status) break;
        numbers += c->tensors[i].elements;
        kinds[c->tensors[i].dtype]++;
    }
    if (status) return status;
    printf("tensors    %zu, %zu numbers", c->count, numbers);
    for (size_t i = 0; i < T2T_DTYPES; i++)
        if (kinds[i]) printf(", %zu %s", kinds[i], t2t_dtype_name((enum t2t_dtype)i));
    printf("\n");
    return T2T_OK;
}

/* ---- metadata ---- */

/* Keys that say what the network is: they are found, never copied or given. */
static const char *const structural[] = {"model", "variant", "image_size", "tokens_type", "embed_dim", "depth",
    "num_heads", "mlp_ratio", "token_dim", "num_classes"};

static bool is_structural(const char *key, size_t bytes)
{
    for (size_t i = 0; i < sizeof structural / sizeof *structural; i++)
        if (strlen(structural[i]) == bytes && memcmp(structural[i], key, bytes) == 0) return true;
    return false;
}

enum t2t_status t2t_convert_check_metadata(const struct option_texts *metadata)
{
    for (size_t i = 0; i < metadata->count; i++) {
        const char *text = metadata->text[i];
        const size_t bytes = strcspn(text, "=");
        if (bytes == 0 || text[bytes] == '\0')
            return t2t_fail(T2T_BAD_USAGE, "--metadata \"%s\": expected KEY=VALUE", text);
        if (!t2t_is_plain_utf8(text, strlen(text)))
            return t2t_fail(
                T2T_BAD_USAGE, "--metadata \"%s\": expected text in UTF-8 without control characters", text);
        if (is_structural(text, bytes))
            return t2t_fail(
                T2T_BAD_USAGE, "--metadata \"%s\": this is found out from the weights and cannot be given", text);
    }
    return T2T_OK;
}

static void set_metadata(struct conversion *c, const char *key, const char *value)
{
    size_t i = 0;
    while (i < c->metadata_count && strcmp(c->metadata[i].key, key) != 0) i++;
    assert(i < MOST_METADATA);
    c->metadata[i] = (struct t2t_metadata){key, value};
    if (i == c->metadata_count) c->metadata_count++;
}

static void describe_custom(struct conversion *c)
{
    const struct t2t_config *config = &c->config;
    const size_t sizes[] = {config->embed_dim, config->depth, config->num_heads, config->token_dim};
    static const char *const keys[] = {"embed_dim", "depth", "num_heads", "token_dim"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(c->numbers[i], sizeof c->numbers[i], "%zu", sizes[i]);
        set_metadata(c, keys[i], c->numbers[i]);
    }
    snprintf(c->numbers[4], sizeof c->numbers[4], "%.17g", config->mlp_ratio);
    set_metadata(c, "mlp_ratio", c->numbers[4]);
    set_metadata(c, "tokens_type", config->tokens_type == T2T_TOKENS_PERFORMER ? "performer" : "transformer");
}

/* Metadata: what the network is, where it comes from, what the source says beyond that, what the user adds. The texts
 * of --metadata are copied to `texts`, cut at their '='. */
static enum t2t_status describe(struct conversion *c, char *texts)
{
    set_metadata(c, "model", c->config.name);
    snprintf(c->numbers[5], sizeof c->numbers[5], "%zu", c->config.image_size);
    set_metadata(c, "image_size", c->numbers[5]);
    if (strcmp(c->config.name, "custom") == 0) describe_custom(c);
    const struct t2t_tensors *source = t2t_checkpoint_safetensors(c->checkpoint);
    const char *key;
    if (source && t2t_tensors_metadata_key(source, MOST_COPIED))
        return t2t_fail(T2T_BAD_MODEL, "%s: has more than %d metadata entries", c->in, MOST_COPIED);
    for (size_t i = 0; source && (key = t2t_tensors_metadata_key(source, i)); i++)
        if (!is_structural(key, strlen(key))) set_metadata(c, key, t2t_tensors_metadata(source, key));
    if (t2t_is_plain_utf8(file_name(c->in), strlen(file_name(c->in)))) set_metadata(c, "source", file_name(c->in));
    set_metadata(c, "source_sha256", c->sha256);
    if (*t2t_checkpoint_info(c->checkpoint)->key)
        set_metadata(c, "weights_key", t2t_checkpoint_info(c->checkpoint)->key);
    set_metadata(c, "converted_by", "t2tvit-convert " T2T_VERSION);
    for (size_t i = 0; i < c->settings->metadata.count; i++) {
        strcpy(texts, c->settings->metadata.text[i]);
        char *value = strchr(texts, '=');
        *value++ = '\0';
        set_metadata(c, texts, value);
        texts = value + strlen(value) + 1;
    }
    return T2T_OK;
}

/* Makes the folders above a file. */
static enum t2t_status make_folders(const char *file)
{
    char *path = strdup(file);
    if (!path) return t2t_fail_memory("a file name", strlen(file));
    enum t2t_status status = T2T_OK;
    for (char *slash = strchr(path + 1, '/'); slash && !status; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            status = t2t_fail(T2T_CANNOT_WRITE, "%s: cannot be made: %s", path, strerror(errno));
        *slash = '/';
    }
    free(path);
    return status;
}

static enum t2t_status write_out(struct conversion *c, const char *out)
{
    size_t bytes = 1;
    for (size_t i = 0; i < c->settings->metadata.count; i++) bytes += strlen(c->settings->metadata.text[i]) + 1;
    char *texts = malloc(bytes);
    if (!texts) return t2t_fail_memory("metadata", bytes);
    enum t2t_status status = describe(c, texts);
    if (!status && out && c->settings->make_folders) status = make_folders(out);
    if (!status && out) status = t2t_tensors_write(out, c->tensors, c->count, c->metadata, c->metadata_count);
    free(texts);
    if (status) return status;
    char sum[T2T_SHA256_TEXT] = "(not computed)"; /* whatever happens to it, the file is whole */
    if (out) t2t_sha256_file(out, sum);
    printf("sha256     %s  %s\n", c->sha256, c->in);
    if (out) {
        printf("sha256     %s  %s\n", sum, out);
        printf("wrote      %s\n", out);
    } else {
        printf("wrote      nothing (dry run)\n");
    }
    return T2T_OK;
}

/* ---- all of it ---- */

static enum t2t_status prepare(struct conversion *c)
{
    enum t2t_status status = t2t_checkpoint_open(&c->checkpoint, c->in, &c->settings->checkpoint);
    if (status) return status;
    bool rewritten;
    status = t2t_convert_names(c->checkpoint, &rewritten);
    if (status) return status;
    say_source(c, rewritten);
    status = t2t_convert_find_model(c->checkpoint, c->in, &c->settings->model, &c->config);
    if (status) return status;
    say_model(c);
    c->wanted = calloc(t2t_checkpoint_count(c->checkpoint), sizeof *c->wanted);
    c->names = calloc(MOST_TENSORS, sizeof *c->names);
    c->tensors = calloc(MOST_TENSORS, sizeof *c->tensors);
    c->memory = calloc(MOST_TENSORS + 1, sizeof *c->memory);
    if (!c->wanted || !c->names || !c->tensors || !c->memory)
        return t2t_fail_memory("a list of tensors", MOST_TENSORS * sizeof *c->names);
    status = t2t_convert_select(c->checkpoint, c->in, &c->config, c->wanted, &c->unknown);
    return status ? status : answer_unknown(c);
}

enum t2t_status t2t_convert_file(const char *in, const char *out, const struct convert_settings *settings)
{
    struct conversion *c = calloc(1, sizeof *c);
    if (!c) return t2t_fail_memory("a conversion", sizeof *c);
    c->in = in;
    c->settings = settings;
    enum t2t_status status = prepare(c);
    if (!status) status = t2t_checkpoint_load(c->checkpoint, c->wanted);
    if (!status) status = convert_tensors(c);
    if (!status) status = t2t_sha256_file(in, c->sha256);
    if (!status) status = write_out(c, out);
    for (size_t i = 0; c->memory && i <= MOST_TENSORS; i++) free(c->memory[i]);
    free(c->memory);
    free(c->tensors);
    free(c->names);
    free(c->wanted);
    t2t_checkpoint_close(c->checkpoint);
    free(c);
    return status;
}
