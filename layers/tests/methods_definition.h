/* Performer, Reformer and ScatterBrain as their formulas say (layers/methods.md), in float64, pair by pair and with
 * logarithms of every exponential, so that no input is too large for them.
 */
#ifndef T2T_LAYERS_TESTS_METHODS_DEFINITION_H
#define T2T_LAYERS_TESTS_METHODS_DEFINITION_H

#include "layers/attention.h"

/* The rows of one (image, head) of a call: out [queries, value_dim]. */
void define_method(const struct attention_call *call, size_t unit, double *out);

#endif
