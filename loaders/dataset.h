/* A labelled folder of pictures as a list: layouts and label sources are rows of a table (dataset.c).
 *
 * wnid folders     imagenet/val/n01440764/NAME.JPEG: index in the sorted list of the 1000 wnids, whichever are present
 * class folders    any other folder names: index in the class names of the weights
 * flat folder      pictures in one folder and a list of labels (index, ILSVRC2012 id, wnid or class name)
 */
#ifndef T2T_LOADERS_DATASET_H
#define T2T_LOADERS_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

struct t2t_dataset_options {
    const char *path;
    const char *layout;             /* "auto", "wnid", "classes", "flat" */
    const char *labels;             /* label list for a flat folder, or NULL */
    const char *label_kind;         /* "auto", "index", "ilsvrc-id", "wnid", "name" */
    const char *const *class_names; /* of the weights, [num_classes], or NULL */
    size_t num_classes;
    size_t limit; /* 0: all; else the first `limit` pictures, spread evenly over the sorted list */
};

struct t2t_sample {
    const char *path; /* as it can be opened */
    const char *name; /* relative to the data set's folder */
    int32_t label;    /* index of the class */
    uint64_t index;   /* place in the sorted data set before any limit */
};

struct t2t_dataset {
    struct t2t_sample *samples;
    size_t count;
    size_t total; /* before the limit */
    size_t classes_present;
    size_t smallest_class, largest_class; /* pictures in the least and most frequent class present */
    const char *layout;                   /* what was found: a row's name */
    const char *label_kind;
    size_t ignored; /* files that are no pictures by name, with the first of them: */
    char first_ignored[256];
    void *storage; /* owns the strings */
};

/* Lists a data set. Samples are sorted by the bytes of their name; file names are matched by extension
 * (.jpeg .jpg .jpe .png, any case). On failure *dataset is empty and the status T2T_BAD_DATA. */
enum t2t_status t2t_dataset_open(struct t2t_dataset *dataset, const struct t2t_dataset_options *options);
void t2t_dataset_close(struct t2t_dataset *dataset);

/* The 1000 ImageNet classes in index order. */
const char *t2t_imagenet_wnid(size_t index);
const char *t2t_imagenet_name(size_t index);

#endif
