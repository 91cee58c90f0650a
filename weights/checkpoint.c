/* From a file to named tensors: which form, which dictionary, which names, and numbers in row-major order. */
#include "weights/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weights/checkpoint_choice.h"
#include "weights/checkpoint_names.h"
#include "weights/input_file.h"
#include "weights/torch_stream.h"

enum { MOST_TENSORS = 20000 };
#define MOST_BYTES (UINT64_C(1) << 30)

struct t2t_checkpoint {
    char *path;
    struct t2t_checkpoint_info info;
    struct t2t_tensor *tensors;
    size_t count;
    char *names;              /* of all tensors, one after another; NULL: the safetensors file's own */
    struct t2t_tensors *file; /* safetensors */
    enum t2t_file_kind kind;  /* else: */
    struct torch_stream stream;
    const struct pickle_tensor **views; /* [count] */
    unsigned char **copies;             /* [count]: of tensors that did not lie in one piece */
};

/* ---- safetensors ---- */

static enum t2t_status open_safetensors(struct t2t_checkpoint *checkpoint, const struct t2t_checkpoint_options *options)
{
    enum t2t_status status = t2t_tensors_open(&checkpoint->file, checkpoint->path);
    if (status) return status;
    if (options->key == T2T_KEY_EMA)
        return t2t_fail(T2T_BAD_MODEL, "%s: is a safetensors file, which has one set of weights and no state_dict_ema",
            checkpoint->path);
    checkpoint->info.format = "safetensors";
    const char *model = t2t_tensors_metadata(checkpoint->file, "model");
    if (model) snprintf(checkpoint->info.arch, sizeof checkpoint->info.arch, "%s", model);
    checkpoint->count = t2t_tensors_count(checkpoint->file);
    if (checkpoint->count > MOST_TENSORS)
        return t2t_fail(T2T_BAD_MODEL, "%s: holds %zu tensors, more than the %d that are read", checkpoint->path,
            checkpoint->count, MOST_TENSORS);
    checkpoint->tensors = calloc(checkpoint->count + 1, sizeof *checkpoint->tensors);
    if (!checkpoint->tensors) return t2t_fail_memory("a list of tensors", checkpoint->count);
    for (size_t i = 0; i < checkpoint->count && !status; i++) {
        checkpoint->tensors[i] = *t2t_tensors_at(checkpoint->file, i);
        checkpoint->tensors[i].data = NULL;
        status = t2t_check_name(checkpoint->path, checkpoint->tensors[i].name, strlen(checkpoint->tensors[i].name));
    }
    return status;
}

/* ---- the dictionary ---- */

static size_t count_places(const struct pickle *pickle, const struct pickle_value *dict, size_t *name_bytes)
{
    size_t count = 0;
    *name_bytes = 0;
    for (uint32_t at = dict->as.places.first; at; at = pickle->places[at].next, count++) {
        const struct pickle_value *key = &pickle->values[pickle->places[at].value];
        if (count % 2 == 0 && key->type == PICKLE_TEXT && key->as.text.bytes <= T2T_MOST_NAME_BYTES)
            *name_bytes += key->as.text.bytes + 1;
    }
    return count / 2;
}

static enum t2t_status add_tensor(struct t2t_checkpoint *checkpoint, const struct pickle_value *dict,
    const struct pickle_value *key, const struct pickle_value *value, char **names)
{
    const struct pickle *pickle = &checkpoint->stream.pickle;
    const char *text = (const char *)pickle->bytes + key->as.text.offset;
    if (key->type != PICKLE_TEXT)
        return t2t_fail(T2T_BAD_MODEL, "%s: a dictionary of weights has %s as a key, expected a name", checkpoint->path,
            t2t_pickle_type_name(key->type));
    const enum t2t_status status = t2t_check_name(checkpoint->path, text, key->as.text.bytes);
    if (status) return status;
    if (value->type != PICKLE_TENSOR) {
        char keys[T2T_KEYS_TEXT];
        t2t_list_keys(pickle, dict, keys);
        return t2t_fail(T2T_BAD_MODEL,
            "%s: %.*s is %s, expected a tensor; weights are looked for under state_dict_ema, state_dict and model, or "
            "as the file itself, which holds %s",
            checkpoint->path, (int)key->as.text.bytes, text, t2t_pickle_type_name(value->type), keys);
    }
    const struct pickle_tensor *view = &pickle->tensors[value->as.index];
    struct t2t_tensor *tensor = &checkpoint->tensors[checkpoint->count];
    *tensor = (struct t2t_tensor){
        .name = *names, .dtype = view->storage.dtype, .rank = view->rank, .elements = view->elements};
    memcpy(tensor->shape, view->shape, sizeof tensor->shape);
    memcpy(*names, text, key->as.text.bytes);
    *names += key->as.text.bytes;
    *(*names)++ = '\0';
    checkpoint->views[checkpoint->count++] = view;
    return T2T_OK;
}

static enum t2t_status collect(struct t2t_checkpoint *checkpoint, const struct pickle_value *dict)
{
    const struct pickle *pickle = &checkpoint->stream.pickle;
    size_t name_bytes;
    const size_t count = count_places(pickle, dict, &name_bytes);
    if (count == 0) return t2t_fail(T2T_BAD_MODEL, "%s: holds no tensors", checkpoint->path);
    if (count > MOST_TENSORS)
        return t2t_fail(T2T_BAD_MODEL, "%s: holds %zu tensors, more than the %d that are read", checkpoint->path, count,
            MOST_TENSORS);
    checkpoint->tensors = calloc(count, sizeof *checkpoint->tensors);
    checkpoint->views = calloc(count, sizeof *checkpoint->views);
    checkpoint->copies = calloc(count, sizeof *checkpoint->copies);
    checkpoint->names = malloc(name_bytes + 1);
    if (!checkpoint->tensors || !checkpoint->views || !checkpoint->copies || !checkpoint->names)
        return t2t_fail_memory("a list of tensors", count * sizeof *checkpoint->tensors);
    char *names = checkpoint->names;
    enum t2t_status status = T2T_OK;
    for (uint32_t at = dict->as.places.first; at && !status;) {
        const struct pickle_place *key = &pickle->places[at], *value = &pickle->places[key->next];
        status = add_tensor(checkpoint, dict, &pickle->values[key->value], &pickle->values[value->value], &names);
        at = value->next;
    }
    return status;
}

static enum t2t_status open_torch(struct t2t_checkpoint *checkpoint, const struct t2t_checkpoint_options *options)
{
    struct torch_stream *stream = &checkpoint->stream;
    checkpoint->info.format = checkpoint->kind == T2T_FILE_ZIP ? "PyTorch zip archive" : "PyTorch legacy pickle stream";
    enum t2t_status status =
        checkpoint->kind == T2T_FILE_ZIP ? t2t_torch_zip_open(stream) : t2t_torch_legacy_open(stream);
    const struct pickle_value *dict = NULL;
    if (!status) status = t2t_choose_weights(&stream->pickle, checkpoint->path, options->key, &checkpoint->info, &dict);
    return status ? status : collect(checkpoint, dict);
}

/* ---- names ---- */

enum t2t_status t2t_checkpoint_rename(
    struct t2t_checkpoint *checkpoint, const struct t2t_renaming *rows, size_t row_count, bool *changed)
{
    const enum t2t_status status =
        t2t_rename(checkpoint->tensors, checkpoint->count, rows, row_count, &checkpoint->names, changed);
    return status ? status : t2t_check_unique(checkpoint->path, checkpoint->tensors, checkpoint->count, *changed);
}

/* Takes the prefix off where it stands. */
static enum t2t_status strip(struct t2t_checkpoint *checkpoint, const char *prefix)
{
    bool changed = false;
    const enum t2t_status status =
        t2t_checkpoint_rename(checkpoint, &(const struct t2t_renaming){prefix, ""}, 1, &changed);
    if (changed) checkpoint->info.stripped = prefix;
    return status;
}

/* ---- opening ---- */

static enum t2t_status refuse_kind(const char *path, enum t2t_file_kind kind)
{
    const char *what = t2t_file_kind_text(kind);
    switch (kind) {
    case T2T_FILE_TAR:
        return t2t_fail(T2T_BAD_MODEL,
            "%s: is a tar archive. Checkpoints called .pth.tar are no tar files: this is one from before PyTorch "
            "0.1.10, "
            "which is not read (load it with PyTorch and save it again), or files packed together (unpack it)",
            path);
    case T2T_FILE_COMPRESSED: return t2t_fail(T2T_BAD_MODEL, "%s: is %s; unpack it first", path, what);
    case T2T_FILE_HTML:
    case T2T_FILE_LFS_POINTER:
        return t2t_fail(T2T_BAD_MODEL,
            "%s: is %s saved under a checkpoint's name; the download went wrong, fetch the "
            "file itself",
            path, what);
    default:
        return t2t_fail(T2T_BAD_MODEL, "%s: is %s; expected a checkpoint of torch.save, or safetensors", path, what);
    }
}

static enum t2t_status open_kind(struct t2t_checkpoint *checkpoint, const struct t2t_checkpoint_options *options)
{
    struct torch_stream *stream = &checkpoint->stream;
    stream->path = checkpoint->path;
    enum t2t_status status = t2t_input_open(checkpoint->path, &stream->descriptor, &stream->size);
    if (status) return status;
    checkpoint->kind = t2t_input_kind(checkpoint->path, stream->descriptor, stream->size);
    switch (checkpoint->kind) {
    case T2T_FILE_SAFETENSORS: status = open_safetensors(checkpoint, options); break;
    case T2T_FILE_ZIP:
    case T2T_FILE_TORCH_LEGACY:
    case T2T_FILE_PICKLE: status = open_torch(checkpoint, options); break;
    default: status = refuse_kind(checkpoint->path, checkpoint->kind); break;
    }
    return status ? status : strip(checkpoint, options->strip_prefix ? options->strip_prefix : "module.");
}

enum t2t_status t2t_checkpoint_open(
    struct t2t_checkpoint **checkpoint, const char *path, const struct t2t_checkpoint_options *options)
{
    *checkpoint = NULL;
    struct t2t_checkpoint *made = calloc(1, sizeof *made);
    if (!made) return t2t_fail_memory("a checkpoint", sizeof *made);
    made->info.format = made->info.key = made->info.beside = made->info.stripped = "";
    made->stream.descriptor = -1;
    made->path = strdup(path);
    const enum t2t_status status = made->path ? open_kind(made, options) : t2t_fail_memory("a name", strlen(path));
    if (status) {
        t2t_checkpoint_close(made);
        return status;
    }
    *checkpoint = made;
    return T2T_OK;
}

void t2t_checkpoint_close(struct t2t_checkpoint *checkpoint)
{
    if (!checkpoint) return;
    if (checkpoint->stream.descriptor >= 0) close(checkpoint->stream.descriptor);
    t2t_torch_stream_free(&checkpoint->stream);
    t2t_tensors_close(checkpoint->file);
    for (size_t i = 0; checkpoint->copies && i < checkpoint->count; i++) free(checkpoint->copies[i]);
    free(checkpoint->copies);
    free(checkpoint->views);
    free(checkpoint->names);
    free(checkpoint->tensors);
    free(checkpoint->path);
    free(checkpoint);
}

const struct t2t_checkpoint_info *t2t_checkpoint_info(const struct t2t_checkpoint *checkpoint)
{
    return &checkpoint->info;
}

size_t t2t_checkpoint_count(const struct t2t_checkpoint *checkpoint)
{
    return checkpoint->count;
}

const struct t2t_tensor *t2t_checkpoint_at(const struct t2t_checkpoint *checkpoint, size_t index)
{
    return index < checkpoint->count ? &checkpoint->tensors[index] : NULL;
}

const struct t2t_tensor *t2t_checkpoint_find(const struct t2t_checkpoint *checkpoint, const char *name)
{
    for (size_t i = 0; i < checkpoint->count; i++)
        if (strcmp(checkpoint->tensors[i].name, name) == 0) return &checkpoint->tensors[i];
    return NULL;
}

const struct t2t_tensors *t2t_checkpoint_safetensors(const struct t2t_checkpoint *checkpoint)
{
    return checkpoint->file;
}

/* ---- numbers ---- */

static size_t storage_of(const struct t2t_checkpoint *checkpoint, size_t number)
{
    const struct pickle *pickle = &checkpoint->stream.pickle;
    const struct pickle_text key = checkpoint->views[number]->storage.key;
    return t2t_pickle_find_storage(pickle, pickle->bytes + key.offset, key.bytes);
}

static enum t2t_status materialise(struct t2t_checkpoint *checkpoint, size_t number)
{
    const struct pickle_tensor *view = checkpoint->views[number];
    const unsigned char *storage = checkpoint->stream.data[storage_of(checkpoint, number)];
    const size_t bytes = t2t_dtype_bytes(view->storage.dtype);
    if (t2t_in_one_piece(view) || view->elements == 0) {
        checkpoint->tensors[number].data = storage + view->offset * bytes;
        return T2T_OK;
    }
    unsigned char *copy = malloc(view->elements * bytes);
    if (!copy) return t2t_fail_memory("a tensor", view->elements * bytes);
    t2t_gather(view, storage, copy);
    checkpoint->copies[number] = copy;
    checkpoint->tensors[number].data = copy;
    return T2T_OK;
}

static enum t2t_status load_torch(struct t2t_checkpoint *checkpoint, const bool *wanted)
{
    struct torch_stream *stream = &checkpoint->stream;
    bool *storages = calloc(stream->pickle.storage_count + 1, sizeof *storages);
    if (!storages) return t2t_fail_memory("a list of storages", stream->pickle.storage_count);
    for (size_t i = 0; i < checkpoint->count; i++)
        if (!wanted || wanted[i]) storages[storage_of(checkpoint, i)] = true;
    enum t2t_status status = checkpoint->kind == T2T_FILE_ZIP ? t2t_torch_zip_load(stream, storages)
                                                              : t2t_torch_legacy_load(stream, storages);
    free(storages);
    for (size_t i = 0; i < checkpoint->count && !status; i++)
        if (!wanted || wanted[i]) status = materialise(checkpoint, i);
    return status;
}

enum t2t_status t2t_checkpoint_load(struct t2t_checkpoint *checkpoint, const bool *wanted)
{
    uint64_t total = 0;
    for (size_t i = 0; i < checkpoint->count; i++) {
        const struct t2t_tensor *tensor = &checkpoint->tensors[i];
        if (wanted && !wanted[i]) continue;
        if (tensor->elements > MOST_BYTES) total = MOST_BYTES;
        total += tensor->elements * t2t_dtype_bytes(tensor->dtype);
        if (total > MOST_BYTES)
            return t2t_fail(T2T_BAD_MODEL, "%s: the tensors have more than the 1 GiB that is read", checkpoint->path);
    }
    if (!checkpoint->file) return load_torch(checkpoint, wanted);
    for (size_t i = 0; i < checkpoint->count; i++)
        if (!wanted || wanted[i]) checkpoint->tensors[i].data = t2t_tensors_at(checkpoint->file, i)->data;
    return T2T_OK;
}
