/* Where a run's pictures come from, batch by batch: decoded files, or a tensor that is already normalised. */
#ifndef T2T_EVAL_PICTURE_SOURCE_H
#define T2T_EVAL_PICTURE_SOURCE_H

#include "loaders/batch_loader.h"
#include "weights/safetensors.h"

struct picture_source {
    const struct t2t_dataset *pictures;
    size_t batch;
    struct t2t_loader *loader;   /* of files, or: */
    struct t2t_tensors *tensors; /* the file with the tensor `input` */
    const struct t2t_tensor *input;
    size_t next; /* first picture of the next batch of a tensor */
    float *pixels;
    uint64_t *image_index;
    size_t *sample;
    int32_t *label;
    struct t2t_picture_report *report;
    struct t2t_batch current;
};

/* Pictures of a data set, decoded by worker threads. */
enum t2t_status t2t_source_open_files(
    struct picture_source *source, const struct t2t_dataset *pictures, const struct t2t_loader_options *options);

/* Opens the tensor `input` [N, 3, S, S] of a safetensors file and describes it as a data set: names "FILE[i]", labels
 * from an integer tensor `label` [N] where there is one, else -1. Only `limit` pictures where it is not 0, spread as
 * those of a folder. *pictures and *tensors belong to the caller. T2T_BAD_DATA. */
enum t2t_status t2t_raw_input_open(struct t2t_tensors **tensors, struct t2t_dataset *pictures, const char *path,
    size_t image_size, size_t num_classes, size_t limit);
void t2t_raw_input_close(struct t2t_tensors *tensors, struct t2t_dataset *pictures);

/* Pictures of such a tensor. `tensors` and `pictures` must outlive the source. */
enum t2t_status t2t_source_open_raw(struct picture_source *source, struct t2t_tensors *tensors,
    const struct t2t_dataset *pictures, size_t image_size, size_t batch);

/* *batch: the next one, NULL after the last; valid until the next call. */
enum t2t_status t2t_source_next(struct picture_source *source, const struct t2t_batch **batch);
/* The batch after the one held, where it is ready beforehand; valid as long as t2t_source_next() gives it. NULL: it is not,
 * as those of a tensor never are. */
const struct t2t_batch *t2t_source_peek(struct picture_source *source);
void t2t_source_close(struct picture_source *source);

#endif
