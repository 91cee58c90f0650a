/* Writing safetensors: whole or not at all. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "layers/base/new_file.h"
#include "weights/safetensors.h"

enum { LENGTH_BYTES = 8, ALIGNMENT = 64, MAX_HEADER_BYTES = 100000000 };

static size_t tensor_bytes(const struct t2t_tensor *tensor)
{
    size_t bytes = t2t_dtype_bytes(tensor->dtype);
    for (size_t i = 0; i < tensor->rank; i++) bytes *= tensor->shape[i];
    return bytes;
}

/* ---- the header ---- */

static json_t *describe(const struct t2t_tensor *tensor, json_int_t begin)
{
    json_t *shape = json_array();
    for (size_t i = 0; i < tensor->rank; i++) json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i]));
    if (json_array_size(shape) != tensor->rank) { /* out of memory */
        json_decref(shape);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", t2t_dtype_name(tensor->dtype), "shape", shape, "data_offsets",
        begin, begin + (json_int_t)tensor_bytes(tensor));
}

/* Adds a name that is valid UTF-8 and not there yet. */
static enum t2t_status add(const char *path, json_t *to, const char *name, json_t *value)
{
    if (json_object_get(to, name)) {
        json_decref(value);
        return t2t_fail(T2T_CANNOT_WRITE, "%s: cannot hold two entries of the name %.200s", path, name);
    }
    if (json_object_set_new(to, name, value) == 0) return T2T_OK;
    if (errno == ENOMEM) return t2t_fail_memory("the header", 64);
    return t2t_fail(T2T_CANNOT_WRITE, "%s: entry %.200s cannot be written: it is not UTF-8", path, name);
}

static enum t2t_status make_header(const char *path, const struct t2t_tensor *tensors, size_t count,
    const struct t2t_metadata *metadata, size_t metadata_count, json_t *header)
{
    enum t2t_status status = T2T_OK;
    errno = 0; /* nothing else tells what is no text from what found no memory */
    if (metadata_count) {
        json_t *pairs = json_object();
        status = add(path, header, "__metadata__", pairs);
        for (size_t i = 0; i < metadata_count && !status; i++)
            status = add(path, pairs, metadata[i].key, json_string(metadata[i].value));
    }
    size_t begin = 0;
    for (size_t i = 0; i < count && !status; i++) {
        status = add(path, header, tensors[i].name, describe(&tensors[i], (json_int_t)begin));
        begin += tensor_bytes(&tensors[i]);
    }
    return status;
}

/* The length and the JSON text, padded so that the data begins at a multiple of 64 bytes. NULL without memory. */
static char *header_text(const json_t *header, size_t *bytes)
{
    const size_t length = json_dumpb(header, NULL, 0, JSON_COMPACT);
    *bytes = (LENGTH_BYTES + length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *text = length ? malloc(*bytes) : NULL;
    if (!text) return NULL;
    memset(text, ' ', *bytes);
    const size_t stated = *bytes - LENGTH_BYTES;
    for (size_t i = 0; i < LENGTH_BYTES; i++) text[i] = (char)(unsigned char)(stated >> 8 * i);
    if (json_dumpb(header, text + LENGTH_BYTES, length, JSON_COMPACT) == length) return text;
    free(text);
    return NULL;
}

/* ---- the file ---- */

static enum t2t_status write_file(
    const char *path, const char *header, size_t header_bytes, const struct t2t_tensor *tensors, size_t count)
{
    struct t2t_new_file file;
    enum t2t_status status = t2t_new_file_begin(&file, path);
    if (status) return status;
    status = t2t_new_file_write(&file, header, header_bytes);
    for (size_t i = 0; i < count && !status; i++)
        status = t2t_new_file_write(&file, tensors[i].data, tensor_bytes(&tensors[i]));
    return t2t_new_file_end(&file, status);
}

enum t2t_status t2t_tensors_write(const char *path, const struct t2t_tensor *tensors, size_t count,
    const struct t2t_metadata *metadata, size_t metadata_count)
{
    json_t *header = json_object();
    size_t bytes = 0;
    char *text = NULL;
    enum t2t_status status = header ? make_header(path, tensors, count, metadata, metadata_count, header)
                                    : t2t_fail_memory("the header", 64);
    if (!status && !(text = header_text(header, &bytes))) status = t2t_fail_memory("the header", bytes);
    if (!status && bytes > MAX_HEADER_BYTES)
        status = t2t_fail(T2T_CANNOT_WRITE, "%s: the header would have %zu bytes, the format allows %d", path, bytes,
            MAX_HEADER_BYTES);
    if (!status) status = write_file(path, text, bytes, tensors, count);
    free(text);
    json_decref(header);
    return status;
}
