/* Lists in options, separated by commas: words, numbers, methods, seeds. */
#ifndef T2T_EVAL_OPTION_LISTS_H
#define T2T_EVAL_OPTION_LISTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/attention.h"

enum { LIST_BYTES = 4096, MOST_SEEDS = 1000 };

/* A copy that can be taken apart. T2T_BAD_USAGE where it is longer than LIST_BYTES. */
enum t2t_status t2t_copy_list(const char *option, const char *text, char copy[LIST_BYTES]);
/* The next word of such a copy, NULL after the last; *rest begins at the copy. */
char *t2t_next_word(char **rest);

/* Whole numbers in a range, at most `most` of them, each once. */
enum t2t_status t2t_read_numbers(
    const char *option, const char *text, double minimum, double maximum, size_t most, size_t *numbers, size_t *count);

enum { METHODS_MOST = ATTENTION_KINDS + 1 };

/* What --attention lists. */
struct method_list {
    const struct attention_method *method[METHODS_MOST];
    bool published[METHODS_MOST]; /* "kdeformer:published": its published options, where the others are measured ones */
    size_t count;
};

/* Methods, each at most once. */
enum t2t_status t2t_read_methods(const char *option, const char *text, struct method_list *list);
/* "kdeformer:published" */
void t2t_method_label(const struct method_list *list, size_t index, char *label, size_t bytes);

/* "3" for seeds 1 to 3, or a list "3,7". */
enum t2t_status t2t_read_seeds(const char *text, uint64_t seeds[MOST_SEEDS], size_t *count);

#endif
