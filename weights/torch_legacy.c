/* The form torch.save wrote before PyTorch 1.6 (torch/serialization.py, _legacy_save): five pickles one after another
 * (magic number, protocol version, system info, the object, list of storage keys), then for each key the number of
 * elements in 8 bytes and the elements.
 */
#include <stdlib.h>
#include <string.h>

#include "weights/input_file.h"
#include "weights/torch_stream.h"

enum { FIRST_READ = 1 << 20, PROTOCOL_VERSION = 1001, COUNT_BYTES = 8 };

static const unsigned char magic_number[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

/* The five pickles, as long as the file is known. */
struct parts {
    size_t bytes; /* of the file, in stream->bytes */
    size_t end;   /* of the last pickle */
    struct pickle small, keys;
    bool truncated;
};

static enum t2t_status next_pickle(struct torch_stream *stream, struct parts *parts, struct pickle *pickle)
{
    t2t_pickle_free(pickle);
    const enum t2t_status status = t2t_pickle_read(pickle, stream->path, stream->bytes, parts->bytes, parts->end);
    parts->truncated = pickle->truncated;
    if (!status) parts->end = pickle->end;
    return status;
}

static enum t2t_status check_magic(const struct torch_stream *stream, const struct pickle *pickle)
{
    const struct pickle_value *root = t2t_pickle_root(pickle);
    if (root->type == PICKLE_LONG && root->as.text.bytes == sizeof magic_number &&
        memcmp(pickle->bytes + root->as.text.offset, magic_number, sizeof magic_number) == 0)
        return T2T_OK;
    return t2t_fail(
        T2T_BAD_MODEL, "%s: is a pickle, but not one that torch.save wrote; save it with torch.save", stream->path);
}

static enum t2t_status check_system(const struct torch_stream *stream, const struct pickle *pickle)
{
    const struct pickle_value *little = t2t_pickle_get(pickle, t2t_pickle_root(pickle), "little_endian");
    if (!little || little->type != PICKLE_BOOL)
        return t2t_fail(
            T2T_BAD_MODEL, "%s: does not say the byte order it was written in; it is damaged", stream->path);
    if (!little->as.integer)
        return t2t_fail(T2T_BAD_MODEL,
            "%s: was written on a big-endian machine, which is not read; load it with PyTorch and save it again",
            stream->path);
    return T2T_OK;
}

static enum t2t_status read_parts(struct torch_stream *stream, struct parts *parts)
{
    enum t2t_status status = next_pickle(stream, parts, &parts->small);
    if (!status) status = check_magic(stream, &parts->small);
    if (!status) status = next_pickle(stream, parts, &parts->small);
    if (status) return status;
    const struct pickle_value *version = t2t_pickle_root(&parts->small);
    if (version->type != PICKLE_INT || version->as.integer != PROTOCOL_VERSION)
        return t2t_fail(T2T_BAD_MODEL, "%s: has another version of torch.save's form than %d; it is damaged",
            stream->path, PROTOCOL_VERSION);
    status = next_pickle(stream, parts, &parts->small);
    if (!status) status = check_system(stream, &parts->small);
    if (!status) status = next_pickle(stream, parts, &stream->pickle);
    if (!status) status = next_pickle(stream, parts, &parts->keys);
    return status;
}

/* The pickles are a few kilobytes before hundreds of megabytes of numbers, and nothing says how many: read more and
 * begin anew as long as they do not end. */
static enum t2t_status read_pickles(struct torch_stream *stream, struct parts *parts)
{
    const size_t most = stream->size < T2T_PICKLE_MAX_BYTES ? (size_t)stream->size : T2T_PICKLE_MAX_BYTES;
    for (size_t bytes = FIRST_READ;; bytes *= 4) {
        parts->bytes = bytes < most ? bytes : most;
        parts->end = 0;
        unsigned char *larger = realloc(stream->bytes, parts->bytes);
        if (!larger) return t2t_fail_memory("a pickle", parts->bytes);
        stream->bytes = larger;
        enum t2t_status status = t2t_input_read(stream->path, stream->descriptor, 0, stream->bytes, parts->bytes);
        if (!status) status = read_parts(stream, parts);
        if (!status || !parts->truncated || parts->bytes == most) return status;
    }
}

/* Where each listed storage lies, in the order of the list. */
static enum t2t_status place(
    struct torch_stream *stream, const struct pickle_value *key, const struct pickle *keys, uint64_t *at)
{
    const size_t number = key->type == PICKLE_TEXT ? t2t_pickle_find_storage(&stream->pickle,
                                                         keys->bytes + key->as.text.offset, key->as.text.bytes)
                                                   : stream->pickle.storage_count;
    if (number == stream->pickle.storage_count || stream->places[number])
        return t2t_fail(
            T2T_BAD_MODEL, "%s: lists a storage twice, or one that no tensor has; it is damaged", stream->path);
    unsigned char count_bytes[COUNT_BYTES];
    enum t2t_status status = t2t_input_read(stream->path, stream->descriptor, *at, count_bytes, sizeof count_bytes);
    if (status) return status;
    const uint64_t elements = t2t_little_endian(count_bytes, COUNT_BYTES);
    const struct pickle_storage *storage = &stream->pickle.storages[number];
    if (elements != storage->elements)
        return t2t_fail(T2T_BAD_MODEL, "%s: a storage at byte %llu has %llu elements, expected %llu; it is damaged",
            stream->path, (unsigned long long)*at, (unsigned long long)elements, (unsigned long long)storage->elements);
    const uint64_t begin = *at + COUNT_BYTES, bytes = t2t_storage_bytes(storage);
    if (bytes > stream->size - begin)
        return t2t_fail(T2T_BAD_MODEL, "%s: ends within the numbers at byte %llu; it is incomplete, fetch it again",
            stream->path, (unsigned long long)begin);
    stream->places[number] = begin;
    *at = begin + bytes;
    return T2T_OK;
}

static enum t2t_status place_all(struct torch_stream *stream, const struct parts *parts)
{
    const struct pickle *keys = &parts->keys;
    const struct pickle_value *list = t2t_pickle_root(keys);
    if (list->type != PICKLE_LIST)
        return t2t_fail(T2T_BAD_MODEL, "%s: lacks the list of its storages; it is damaged", stream->path);
    uint64_t at = parts->end;
    size_t count = 0;
    enum t2t_status status = T2T_OK;
    for (uint32_t item = list->as.places.first; item && !status; item = keys->places[item].next, count++)
        status = place(stream, &keys->values[keys->places[item].value], keys, &at);
    if (status) return status;
    if (count != stream->pickle.storage_count)
        return t2t_fail(T2T_BAD_MODEL, "%s: lists %zu storages, its tensors have %zu; it is damaged", stream->path,
            count, stream->pickle.storage_count);
    if (at != stream->size)
        return t2t_fail(T2T_BAD_MODEL, "%s: %llu trailing bytes belong to no tensor; it is damaged", stream->path,
            (unsigned long long)(stream->size - at));
    return T2T_OK;
}

enum t2t_status t2t_torch_legacy_open(struct torch_stream *stream)
{
    struct parts parts = {0};
    enum t2t_status status = read_pickles(stream, &parts);
    if (!status) status = t2t_torch_stream_prepare(stream);
    if (!status) status = place_all(stream, &parts);
    t2t_pickle_free(&parts.small);
    t2t_pickle_free(&parts.keys);
    return status;
}

enum t2t_status t2t_torch_legacy_load(struct torch_stream *stream, const bool *wanted)
{
    enum t2t_status status = t2t_torch_stream_reserve(stream, wanted);
    for (size_t i = 0; i < stream->pickle.storage_count && !status; i++)
        if (wanted[i])
            status = t2t_input_read(stream->path, stream->descriptor, stream->places[i], stream->data[i],
                t2t_storage_bytes(&stream->pickle.storages[i]));
    return status;
}
