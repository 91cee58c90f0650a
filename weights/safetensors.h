/* safetensors files: read through a mapping, written whole or not at all.
 *
 * Format: 8 bytes little-endian header length, a JSON header (name -> dtype, shape, data_offsets; `__metadata__` maps
 * strings to strings), then the data without holes. https://github.com/huggingface/safetensors
 * Everything read is checked before use: header length, duplicate keys, offsets, overlaps, holes, overflow, rank.
 */
#ifndef T2T_WEIGHTS_SAFETENSORS_H
#define T2T_WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

enum { T2T_TENSOR_MAX_RANK = 8 };

enum t2t_dtype { T2T_F32, T2T_F16, T2T_BF16, T2T_F64, T2T_I64, T2T_I32, T2T_I16, T2T_I8, T2T_U8, T2T_BOOL, T2T_DTYPES };

const char *t2t_dtype_name(enum t2t_dtype dtype); /* "F32" */
size_t t2t_dtype_bytes(enum t2t_dtype dtype);

struct t2t_tensor {
    const char *name;
    enum t2t_dtype dtype;
    size_t rank;
    size_t shape[T2T_TENSOR_MAX_RANK];
    size_t elements;  /* product of the shape */
    const void *data; /* little-endian, row-major, possibly unaligned */
};

struct t2t_tensors; /* an open file */

/* Maps and checks a file. On failure *file is NULL and the sentence names the path. Release with t2t_tensors_close(). */
enum t2t_status t2t_tensors_open(struct t2t_tensors **file, const char *path);
void t2t_tensors_close(struct t2t_tensors *file);
/* Gives the mapping's resident pages back; they are read from the file again when next used. Data stay valid. */
void t2t_tensors_release_pages(const struct t2t_tensors *file);

size_t t2t_tensors_count(const struct t2t_tensors *file);
/* In the order of their data. Valid as long as the file is open. */
const struct t2t_tensor *t2t_tensors_at(const struct t2t_tensors *file, size_t index);
const struct t2t_tensor *t2t_tensors_find(const struct t2t_tensors *file, const char *name); /* NULL: none */
/* A `__metadata__` value, or NULL. */
const char *t2t_tensors_metadata(const struct t2t_tensors *file, const char *key);
/* Metadata pairs by index, in the file's order: keys[i] NULL after the last. */
const char *t2t_tensors_metadata_key(const struct t2t_tensors *file, size_t index);
const char *t2t_tensors_path(const struct t2t_tensors *file);

/* "[64, 147]" into `text`; returns text. */
char *t2t_tensor_shape_text(const struct t2t_tensor *tensor, char text[128]);

/* out[elements] = the values as float32; F32, F16 and BF16 only (T2T_BAD_MODEL otherwise). NaN and infinity are
 * refused (T2T_BAD_MODEL) with the tensor's name and the element's index. */
enum t2t_status t2t_tensor_to_float(const struct t2t_tensor *tensor, float *out);

struct t2t_metadata {
    const char *key, *value;
};

/* Writes a file through a temporary beside it (fsync, rename): afterwards `path` is complete, or what it was before.
 * The header is padded with spaces so that the data begins at a multiple of 64 bytes. T2T_CANNOT_WRITE on failure. */
enum t2t_status t2t_tensors_write(const char *path, const struct t2t_tensor *tensors, size_t count,
    const struct t2t_metadata *metadata, size_t metadata_count);

#endif
