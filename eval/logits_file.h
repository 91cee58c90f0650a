/* Saving logits as a safetensors file that other programs can read. */
#ifndef T2T_EVAL_LOGITS_FILE_H
#define T2T_EVAL_LOGITS_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "layers/base/status.h"

/* Logits [pictures, classes] of one attention. */
struct logits_of_run {
    const char *name; /* "exact" */
    const float *logits;
};

/* Writes one tensor a run, named `logits` where there is one run, else `logits.NAME`; metadata `files` is a JSON list of
 * the pictures' names in the tensor's order, and "partial": "true" where not all pictures were seen. */
enum t2t_status t2t_logits_write(const char *path, const struct logits_of_run *runs, size_t run_count, size_t pictures,
    size_t classes, const char *const *names, bool partial);

#endif
