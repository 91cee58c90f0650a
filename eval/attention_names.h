/* Methods and layers by the names that a command line uses. */
#ifndef T2T_EVAL_ATTENTION_NAMES_H
#define T2T_EVAL_ATTENTION_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "vit/t2t_vit.h"

/* T2T_BAD_USAGE with a sentence that begins with --OPTION and lists the methods. */
enum t2t_status t2t_find_method(const char *option, const char *name, const struct attention_method **method);

/* The layers first ... last of a network of `layers` that a word means: t2t, blocks, all, a name (t2t.1), a number, or a
 * range of those. */
bool t2t_find_layers(const char *word, size_t layers, size_t *first, size_t *last);

#endif
