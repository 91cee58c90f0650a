/* What names of tensors may be, and rewriting them. Internal to the reader of checkpoints. */
#ifndef T2T_WEIGHTS_CHECKPOINT_NAMES_H
#define T2T_WEIGHTS_CHECKPOINT_NAMES_H

#include "weights/checkpoint.h"

enum { T2T_MOST_NAME_BYTES = 500 };

/* T2T_BAD_MODEL unless the name is text of 1 to 500 bytes that can stand in a safetensors file and in a sentence. */
enum t2t_status t2t_check_name(const char *path, const char *name, size_t bytes);

/* T2T_BAD_MODEL when two tensors have one name; `rewritten`: perhaps since their names were rewritten. */
enum t2t_status t2t_check_unique(const char *path, const struct t2t_tensor *tensors, size_t count, bool rewritten);

/* Rewrites the names by the rows, one row after another. *names becomes the memory that holds the names; what was there
 * before is released. *changed: whether any name is another than before. */
enum t2t_status t2t_rename(struct t2t_tensor *tensors, size_t count, const struct t2t_renaming *rows, size_t row_count,
    char **names, bool *changed);

#endif
