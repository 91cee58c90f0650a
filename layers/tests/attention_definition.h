/* Attention methods as layers/kdeformer.md and layers/attention.h define them, slowly and in float64. */
#ifndef T2T_LAYERS_TESTS_ATTENTION_DEFINITION_H
#define T2T_LAYERS_TESTS_ATTENTION_DEFINITION_H

#include "layers/attention.h"
#include "layers/cpu/kernels.h"

/* out [batch * queries, heads * value_dim]. KDEformer needs draws.sample_key and draws.sample_probability; its hash bits
 * are those of `kernels`, since a product next to zero may have either sign. */
void define_attention(const struct attention_call *call, const struct attention_kernels *kernels, double *out);

#endif
