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
void zip_archive(struct bytes *out, const struct zip_part *parts, size_t count);
uint32_t zip_crc32(const void *data, size_t size);

struct torch_form {
    const char *key;    /* {KEY: {...}}; NULL: the dictionary itself */
    const char *prefix; /* before every name; NULL: none */
    const char *arch;   /* beside the key; NULL: none */
};

/* Contiguous tensors, each with a storage of its own. */
void torch_zip(struct bytes *out, const struct t2t_tensor *tensors, size_t count, struct torch_form form);
void torch_legacy(struct bytes *out, const struct t2t_tensor *tensors, size_t count, struct torch_form form);

#endif
