/* Weights and pictures that follow from a name, a size and a seed, so that reference numbers need no stored weights.
 * Uniform numbers u(i) of a tensor's name (layers/tests/synthetic_numbers.h); value = offset + amplitude * u(i), each
 * step rounded to float32.
 */
#ifndef T2T_VIT_TESTS_SYNTHETIC_H
#define T2T_VIT_TESTS_SYNTHETIC_H

#include "layers/tests/synthetic_numbers.h"
#include "vit/model.h"

/* A network of two tokens-to-token layers and two blocks with heads of 12 channels, as the resnext variant has. */
enum { SYNTHETIC_SIZE = 64, SYNTHETIC_CLASSES = 7 };
extern const struct t2t_config synthetic_small;

/* One tensor of a model by its official name; pos_embed is the sinusoid table. */
void synthetic_tensor(const struct t2t_expected_tensor *tensor, uint64_t seed, float *out);

/* A normalised picture [3, size, size]: 2 u(i) of the name "input". */
void synthetic_picture(size_t size, uint64_t seed, float *out);

/* Writes a weights file for a configuration, with the metadata that describes it. */
enum t2t_status synthetic_weights_write(const char *path, const struct t2t_config *config, uint64_t seed);

/* A model of such weights, whose file is gone already. On failure *model is NULL. */
enum t2t_status synthetic_model_load(struct t2t_model **model, const struct t2t_config *config, uint64_t seed);

#endif
