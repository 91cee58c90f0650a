/* Looking up ImageNet's classes. Internal to loaders/; names by index are in dataset.h. */
#ifndef T2T_LOADERS_IMAGENET_CLASSES_H
#define T2T_LOADERS_IMAGENET_CLASSES_H

#include <stdint.h>

#include "loaders/dataset.h"

enum { T2T_IMAGENET_CLASSES = 1000 };

/* -1: there is none. */
int32_t t2t_imagenet_index_of_wnid(const char *wnid);
int32_t t2t_imagenet_index_of_ilsvrc_id(long id); /* 1 ... 1000, the devkit's numbering */

#endif
