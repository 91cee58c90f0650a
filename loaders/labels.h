/* Label lists of flat folders. Internal to loaders/. */
#ifndef T2T_LOADERS_LABELS_H
#define T2T_LOADERS_LABELS_H

#include <stdbool.h>

#include "loaders/dataset.h"
#include "loaders/file_list.h"

/* label[i] = class of pictures->names[i]. The list says "NAME LABEL" a line (blank, tab or comma between; a header line
 * "ImageId,..." is skipped; names may lack folder and extension), or one label a line in the pictures' order.
 * *kind: "index", "ilsvrc-id", "wnid" or "name", found where options->label_kind is "auto". T2T_BAD_DATA. */
enum t2t_status t2t_labels_read(
    const struct t2t_dataset_options *options, const struct file_list *pictures, int32_t *label, const char **kind);

/* Index of a class name, -1: there is none. */
int32_t t2t_class_index(const struct t2t_dataset_options *options, const char *name);

/* Whether more than one class has this name (ImageNet has two of "crane"): it then says nothing. */
bool t2t_class_is_ambiguous(const struct t2t_dataset_options *options, const char *name);

#endif
