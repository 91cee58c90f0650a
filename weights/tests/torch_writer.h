/* Writes what torch.save writes, for tests: pickles, zip archives, both forms of a checkpoint. */
#ifndef T2T_WEIGHTS_TESTS_TORCH_WRITER_H
#define T2T_WEIGHTS_TESTS_TORCH_WRITER_H

#include <stdbool.h>

#include "weights/safetensors.h"

struct bytes {
    unsigned char *data;
    size_t size, room;
};

void bytes_add(struct bytes *bytes, const void *data, size_t size);
void bytes_number(struct bytes *bytes, uint64_t number, size_t size); /* little-endian */
void bytes_free(struct bytes *bytes);
void bytes_save(const struct bytes *bytes, const char *path);

/* A zip archive of stored entries. */
struct zip_part {
    const char *name;
    const void *data;
    size_t size;
};
typedef void zip_writer(struct bytes *out, const struct zip_part *parts, size_t count);
zip_writer zip_archive;

/* The same by libarchive, which cannot seek back: sizes and checksums stand behind the data. */
zip_writer zip_stored_stream, zip_deflated_stream;
uint32_t zip_crc32(const void *data, size_t size);

struct torch_form {
    const char *key;    /* {KEY: {...}}; NULL: the dictionary itself */
    const char *prefix; /* before every name; NULL: none */
    const char *arch;   /* beside the key; NULL: none */
};

/* Contiguous tensors, each with a storage of its own. */
void torch_zip(struct bytes *out, const struct t2t_tensor *tensors, size_t count, struct torch_form form);
void torch_zip_by(zip_writer *writer, const char *top, struct bytes *out, const struct t2t_tensor *tensors,
    size_t count, struct torch_form form); /* another writer, another top folder than "archive" */
void torch_legacy(struct bytes *out, const struct t2t_tensor *tensors, size_t count, struct torch_form form);

#endif
