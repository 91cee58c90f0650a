/* From the metadata of a weights file to the configuration of a model. Internal to vit/. */
#ifndef T2T_VIT_MODEL_CONFIG_H
#define T2T_VIT_MODEL_CONFIG_H

#include "vit/t2t_vit.h"
#include "weights/safetensors.h"

/* Finds the variant (metadata `model`, or `variant`) or reads a custom network's sizes; the number of classes comes
 * from head.weight, the picture's side from metadata `image_size` or else from pos_embed. All sizes are checked
 * against limits, so that no product of them overflows. T2T_BAD_MODEL with a sentence that names the file. */
enum t2t_status t2t_read_config(const struct t2t_tensors *file, const char *variant_or_null, struct t2t_config *config);

/* crop_pct, interpolation, mean and std; timm's evaluation values where the metadata is silent. */
enum t2t_status t2t_read_input_config(const struct t2t_tensors *file, struct t2t_input_config *input);

/* Metadata `class_names`, a JSON list of num_classes strings: an array that ends with NULL, to be freed with one
 * free(); NULL when there is none. */
enum t2t_status t2t_read_class_names(const struct t2t_tensors *file, size_t num_classes, char ***names);

#endif
