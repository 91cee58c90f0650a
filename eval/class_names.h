/* What the classes of a model are called. */
#ifndef T2T_EVAL_CLASS_NAMES_H
#define T2T_EVAL_CLASS_NAMES_H

#include <stddef.h>

#include "vit/t2t_vit.h"

/* Index of the words of --names. */
enum class_name_style { CLASS_NAME_SHORT, CLASS_NAME_FULL, CLASS_NAME_WNID };

struct class_names {
    char **names; /* [count], of --labels or of the weights; NULL: ImageNet's, or numbers */
    size_t count; /* of the model */
};

enum { CLASS_NAME_BYTES = 256 };

/* From a file with a name a line, else from the weights. T2T_BAD_DATA where their number is not the model's. */
enum t2t_status t2t_class_names_open(
    struct class_names *names, const char *file_or_null, const struct t2t_model *model);
void t2t_class_names_close(struct class_names *names);

/* The name of class `index`; "short" ends at the first comma. */
const char *t2t_class_name(
    const struct class_names *names, size_t index, enum class_name_style style, char text[CLASS_NAME_BYTES]);

#endif
