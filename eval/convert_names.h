/* Names of other code bases for the tensors of a T2T-ViT. */
#ifndef T2T_EVAL_CONVERT_NAMES_H
#define T2T_EVAL_CONVERT_NAMES_H

#include <stdbool.h>

#include "weights/checkpoint.h"

/* Rewrites names one to one to those of the official code where they are not these already: mmpretrain's, and those of
 * a network that is a part of another module ("backbone.", "student.model." ...). *rewritten tells whether. */
enum t2t_status t2t_convert_names(struct t2t_checkpoint *checkpoint, bool *rewritten);

#endif
