/* Batches of decoded pictures, prepared by worker threads while the caller computes on the batch before.
 *
 * Batches come in the data set's order and hold the same pictures for any number of workers. A picture that cannot be
 * used is left out of its batch and reported; what that means is the caller's decision.
 */
#ifndef T2T_LOADERS_BATCH_LOADER_H
#define T2T_LOADERS_BATCH_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"
#include "loaders/dataset.h"
#include "loaders/preprocess.h"

enum { T2T_MOST_AHEAD = 2 };

struct t2t_loader_options {
    struct t2t_preprocess preprocess;
    size_t batch;
    size_t workers; /* threads that decode, at least 1 */
    size_t ahead;   /* batches prepared while the caller holds one, at most T2T_MOST_AHEAD; 0: workers rest meanwhile */
};

struct t2t_failed_picture {
    size_t sample; /* index into the data set's samples */
    enum t2t_status status;
    char reason[512];
};

struct t2t_batch {
    size_t count;                            /* pictures that loaded, 0 ... options.batch */
    const float *pixels;                     /* [count, 3, image_size, image_size] */
    const uint8_t *crops;                    /* [count, image_size, image_size, 3] */
    const uint64_t *image_index;             /* [count] t2t_sample.index */
    const size_t *sample;                    /* [count] index into the data set's samples */
    const int32_t *label;                    /* [count] */
    const struct t2t_picture_report *report; /* [count] */
    const struct t2t_failed_picture *failed;
    size_t failed_count;
    double wait_seconds; /* how long the caller waited for this batch */
};

struct t2t_loader;

enum t2t_status t2t_loader_open(
    struct t2t_loader **loader, const struct t2t_dataset *dataset, const struct t2t_loader_options *options);
/* The next batch, NULL after the last; it is valid until the next call. */
const struct t2t_batch *t2t_loader_next(struct t2t_loader *loader);
/* The batch after the one that the caller holds, where it is ready; it is the one that t2t_loader_next() gives next, and
 * both are valid until then. NULL where it is not. */
const struct t2t_batch *t2t_loader_peek(struct t2t_loader *loader);
/* Stops the workers (unfinished batches are dropped) and frees everything. NULL is allowed. */
void t2t_loader_close(struct t2t_loader *loader);

#endif
