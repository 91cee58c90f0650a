/* Which T2T-ViT a set of named tensors is: everything that shapes can tell, and a word where they cannot. */
#ifndef T2T_EVAL_CONVERT_MODEL_H
#define T2T_EVAL_CONVERT_MODEL_H

#include <stdbool.h>
#include <stddef.h>

#include "vit/t2t_vit.h"
#include "weights/checkpoint.h"

/* What the user said; NULL and 0 where nothing. */
struct convert_model_request {
    const char *model;
    size_t num_heads, num_classes;
};

/* Finds the configuration from names and shapes. The number of heads shows in no shape: it comes from the request, from
 * the name that the file states, or from the only official variant of these shapes. T2T_BAD_MODEL with the candidates
 * where none of these decides. */
enum t2t_status t2t_convert_find_model(const struct t2t_checkpoint *checkpoint, const char *path,
    const struct convert_model_request *request, struct t2t_config *config);

/* wanted[i] (one a tensor of the checkpoint): whether the network of `config` has it. T2T_BAD_MODEL when one is missing
 * or of another shape or type. *unknown counts the rest. */
enum t2t_status t2t_convert_select(const struct t2t_checkpoint *checkpoint, const char *path,
    const struct t2t_config *config, bool *wanted, size_t *unknown);

#endif
