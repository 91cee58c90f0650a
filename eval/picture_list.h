/* The pictures that a user names one by one: files, folders, lists of names, standard input. */
#ifndef T2T_EVAL_PICTURE_LIST_H
#define T2T_EVAL_PICTURE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "layers/base/status.h"
#include "loaders/dataset.h"

struct picture_list {
    struct t2t_dataset pictures; /* labels -1; every image index 0, so that draws do not depend on the neighbours */
    char **paths, **names;       /* [pictures.count] */
    size_t room;
    int standard_input; /* descriptor of its copy, -1: none */
};

/* Adds an operand: a file as it is, a folder's pictures in the order of their names (with `recursive` those of its
 * folders too, each folder once however many links lead to it), "-" for a picture on standard input. T2T_BAD_DATA where
 * a folder cannot be read or holds none. Files are not opened yet. */
enum t2t_status t2t_list_operand(struct picture_list *list, const char *operand, bool recursive);

/* Adds the names in a file ("-": standard input), one a line or ended by NUL. */
enum t2t_status t2t_list_from_file(struct picture_list *list, const char *path, bool nul, bool recursive);

void t2t_list_init(struct picture_list *list);
void t2t_list_close(struct picture_list *list);

#endif
