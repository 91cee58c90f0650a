/* What torch.save wrote, in either of its two forms: one pickle that describes, and storages of numbers by key.
 * Internal to weights/.
 */
#ifndef T2T_WEIGHTS_TORCH_STREAM_H
#define T2T_WEIGHTS_TORCH_STREAM_H

#include "weights/pickle.h"
#include "weights/zip_directory.h"

struct torch_stream {
    const char *path;
    int descriptor;
    uint64_t size;
    unsigned char *bytes; /* that the pickle lies in */
    struct pickle pickle; /* its storages unique and sorted by key */
    /* one a storage of the pickle: */
    uint64_t *places;               /* legacy: where its numbers begin in the file */
    unsigned char **data;           /* after loading, those that were wanted */
    struct zip_directory directory; /* zip */
    size_t top_bytes;               /* zip: of "archive/" before every name */
};

/* Reads and checks everything but the numbers. The caller has set path, descriptor and size, and calls
 * t2t_torch_stream_free() whatever comes back. */
enum t2t_status t2t_torch_zip_open(struct torch_stream *stream);
enum t2t_status t2t_torch_legacy_open(struct torch_stream *stream);

/* Reads the numbers of the storages with wanted[i], at most 1 GiB in all. The zip form checks the checksums of all
 * entries on its way. */
enum t2t_status t2t_torch_zip_load(struct torch_stream *stream, const bool *wanted);
enum t2t_status t2t_torch_legacy_load(struct torch_stream *stream, const bool *wanted);

void t2t_torch_stream_free(struct torch_stream *stream);

/* Whether a view's elements lie one behind the other, and copying them so where they do not. */
bool t2t_in_one_piece(const struct pickle_tensor *view);
void t2t_gather(const struct pickle_tensor *view, const unsigned char *storage, unsigned char *out);

/* Bytes of a storage's numbers. */
static inline size_t t2t_storage_bytes(const struct pickle_storage *storage)
{
    return (size_t)storage->elements * t2t_dtype_bytes(storage->dtype);
}

/* The parts both forms share, in torch_stream.c. */
enum t2t_status t2t_torch_stream_prepare(struct torch_stream *stream); /* after the pickle is read */
enum t2t_status t2t_torch_stream_reserve(struct torch_stream *stream, const bool *wanted); /* data[] of the wanted */

#endif
