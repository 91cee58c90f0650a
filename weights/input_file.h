/* Reading a file that may be anything: opened without being waited for, read at stated places, named by its content.
 * Internal to weights/.
 */
#ifndef T2T_WEIGHTS_INPUT_FILE_H
#define T2T_WEIGHTS_INPUT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

enum t2t_file_kind {
    T2T_FILE_UNKNOWN,
    T2T_FILE_SAFETENSORS,
    T2T_FILE_ZIP,
    T2T_FILE_TORCH_LEGACY, /* torch.save before 1.6: a pickled magic number first */
    T2T_FILE_PICKLE,       /* some other pickle */
    T2T_FILE_TAR,
    T2T_FILE_COMPRESSED, /* gzip, xz, bzip2, zstandard, 7z, rar */
    T2T_FILE_HTML,
    T2T_FILE_LFS_POINTER,
    T2T_FILE_NUMPY,
    T2T_FILE_HDF5,
    T2T_FILE_PICTURE,
    T2T_FILE_GGUF
};

/* Opens a regular file for reading. T2T_BAD_MODEL when it is missing, a folder, a device or empty. */
enum t2t_status t2t_input_open(const char *path, int *descriptor, uint64_t *size);

/* All `bytes` at `offset`, or T2T_BAD_MODEL: a file that shrinks meanwhile is an error, not a signal. */
enum t2t_status t2t_input_read(const char *path, int descriptor, uint64_t offset, void *buffer, size_t bytes);

/* The number that `bytes` bytes, at most 8, are in little-endian order. */
static inline uint64_t t2t_little_endian(const unsigned char *from, size_t bytes)
{
    uint64_t number = 0;
    for (size_t i = bytes; i-- > 0;) number = number << 8 | from[i];
    return number;
}

/* What the content is, whatever the name says; T2T_FILE_UNKNOWN also when it cannot be read. */
enum t2t_file_kind t2t_input_kind(const char *path, int descriptor, uint64_t size);

/* "a zip archive, as torch.save writes it" */
const char *t2t_file_kind_text(enum t2t_file_kind kind);

#endif
