/* What the two forms of torch.save share; see torch_stream.h. */
#include "weights/torch_stream.h"

#include <stdlib.h>
#include <string.h>

#define MOST_BYTES (UINT64_C(1) << 30)

enum t2t_status t2t_torch_stream_prepare(struct torch_stream *stream)
{
    const enum t2t_status status = t2t_pickle_unique_storages(&stream->pickle);
    if (status) return status;
    const size_t count = stream->pickle.storage_count + 1; /* never nothing */
    stream->places = calloc(count, sizeof *stream->places);
    stream->data = calloc(count, sizeof *stream->data);
    return stream->places && stream->data ? T2T_OK : t2t_fail_memory("a list of storages", count * sizeof(uint64_t));
}

enum t2t_status t2t_torch_stream_reserve(struct torch_stream *stream, const bool *wanted)
{
    uint64_t total = 0;
    for (size_t i = 0; i < stream->pickle.storage_count; i++)
        if (wanted[i]) total += t2t_storage_bytes(&stream->pickle.storages[i]);
    if (total > MOST_BYTES)
        return t2t_fail(T2T_BAD_MODEL, "%s: the tensors need %llu bytes, more than the 1 GiB that is read",
            stream->path, (unsigned long long)total);
    for (size_t i = 0; i < stream->pickle.storage_count; i++) {
        if (!wanted[i]) continue;
        const size_t bytes = t2t_storage_bytes(&stream->pickle.storages[i]);
        stream->data[i] = malloc(bytes + 1); /* never nothing */
        if (!stream->data[i]) return t2t_fail_memory("a tensor", bytes);
    }
    return T2T_OK;
}

void t2t_torch_stream_free(struct torch_stream *stream)
{
    for (size_t i = 0; stream->data && i < stream->pickle.storage_count; i++) free(stream->data[i]);
    free(stream->data);
    free(stream->places);
    t2t_pickle_free(&stream->pickle);
    free(stream->bytes);
    t2t_zip_directory_free(&stream->directory);
    *stream = (struct torch_stream){.descriptor = -1};
}

bool t2t_in_one_piece(const struct pickle_tensor *view)
{
    size_t expected = 1;
    for (size_t i = view->rank; i-- > 0;) {
        if (view->shape[i] != 1 && view->stride[i] != expected) return false;
        expected *= view->shape[i];
    }
    return true;
}

void t2t_gather(const struct pickle_tensor *view, const unsigned char *storage, unsigned char *out)
{
    const size_t bytes = t2t_dtype_bytes(view->storage.dtype);
    size_t index[T2T_TENSOR_MAX_RANK] = {0};
    uint64_t at = view->offset;
    for (size_t done = 0; done < view->elements; done++) {
        memcpy(out + done * bytes, storage + at * bytes, bytes);
        for (size_t i = view->rank; i-- > 0;) {
            at += view->stride[i];
            if (++index[i] < view->shape[i]) break;
            at -= view->stride[i] * view->shape[i];
            index[i] = 0;
        }
    }
}
