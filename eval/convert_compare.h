/* Looking at weights files: what is in one, and whether two hold the same numbers. */
#ifndef T2T_EVAL_CONVERT_COMPARE_H
#define T2T_EVAL_CONVERT_COMPARE_H

#include <stdbool.h>

#include "weights/checkpoint.h"

/* One line a tensor on standard output: name, type, shape, least, greatest, how many NaN and infinite. */
enum t2t_status t2t_convert_list(const char *path, const struct t2t_checkpoint_options *options);

/* Prints every tensor that is in one file alone, has two shapes, or differs by more than `tolerance`, and a verdict. */
enum t2t_status t2t_convert_verify(
    const char *one, const char *other, const struct t2t_checkpoint_options *options, double tolerance, bool *equal);

#endif
