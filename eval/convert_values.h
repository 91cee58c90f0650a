/* Numbers of weights on their way from one file to another: types, finiteness, position tables. */
#ifndef T2T_EVAL_CONVERT_VALUES_H
#define T2T_EVAL_CONVERT_VALUES_H

#include <stdbool.h>

#include "weights/safetensors.h"

/* out[count] = the tensor's elements from `first` on, of any type, as doubles. */
void t2t_values_read(const struct t2t_tensor *tensor, size_t first, size_t count, double *out);

/* Makes `tensor` hold `dtype` (F32, F16 or BF16). Its data then points to *memory, to be freed, or stays where it was
 * (*memory NULL) when the type is right already. Unless `allow`, NaN and infinity, also such as come to be because a
 * number does not fit the type, are T2T_BAD_MODEL with the tensor's name and the element's index. */
enum t2t_status t2t_values_convert(
    struct t2t_tensor *tensor, enum t2t_dtype dtype, bool allow, const char *path, void **memory);

/* Largest difference of pos_embed [1, 1 + tokens, embed_dim] from the sinusoid table of the official code; NaN where
 * there is one. */
double t2t_values_sinusoid_difference(const struct t2t_tensor *positions);

/* positions [1, 1 + from * from, embed_dim] -> [1, 1 + to * to, embed_dim] in float32 at *memory: the class token's row
 * stays, the grid is interpolated as torch's bicubic does (a = -0.75, half-pixel centres, borders repeated), which is
 * what the official resize_pos_embed asks for. */
enum t2t_status t2t_values_resize_positions(struct t2t_tensor *positions, size_t from, size_t to, void **memory);

#endif
