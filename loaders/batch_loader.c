/* A window of batches that move from "being decoded" to "in the caller's hands"; see batch_loader.h.
 *
 * Pictures are numbered in the data set's order. A worker takes the next number as long as its batch is within the
 * window, which reaches `ahead` batches beyond the one that the caller waits for or holds.
 */
#include "loaders/batch_loader.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "layers/base/clock.h"

struct slot {
    float *pixels;
    uint8_t *crops;
    uint64_t *image_index;
    size_t *sample;
    int32_t *label;
    struct t2t_picture_report *report;
    struct t2t_failed_picture *failed;
    enum t2t_status *status; /* of each picture in the batch */
    size_t done;             /* pictures decoded or failed */
    bool finished;           /* `batch` says what came of them */
    struct t2t_batch batch;
};

struct t2t_loader {
    const struct t2t_dataset *dataset;
    struct t2t_loader_options options;
    struct slot slot[T2T_MOST_AHEAD + 1];
    size_t slots; /* of them, in use */
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t *threads;
    size_t thread_count;
    size_t next_picture;  /* to be taken by a worker */
    size_t next_batch;    /* to be given to the caller */
    size_t allowed_batch; /* workers may work on batches below this */
    bool stop;
};

static size_t crop_bytes(const struct t2t_loader *loader)
{
    return loader->options.preprocess.image_size * loader->options.preprocess.image_size * 3;
}

/* Decodes picture `index` of the data set into its place. */
static void load_picture(struct t2t_loader *loader, size_t index)
{
    const size_t place = index % loader->options.batch, bytes = crop_bytes(loader);
    struct slot *slot = &loader->slot[index / loader->options.batch % loader->slots];
    const struct t2t_sample *sample = &loader->dataset->samples[index];
    uint8_t *crop = slot->crops + place * bytes;
    slot->sample[place] = index;
    slot->image_index[place] = sample->index;
    slot->label[place] = sample->label;
    slot->status[place] = t2t_picture_crop(sample->path, &loader->options.preprocess, crop, &slot->report[place]);
    if (slot->status[place]) {
        struct t2t_failed_picture *failed = &slot->failed[place];
        *failed = (struct t2t_failed_picture){.sample = index, .status = slot->status[place]};
        const char *reason = t2t_last_error();
        memcpy(failed->reason, reason, strnlen(reason, sizeof failed->reason - 1));
    } else {
        t2t_picture_normalise(crop, &loader->options.preprocess, slot->pixels + place * bytes);
    }
}

static void *work(void *argument)
{
    struct t2t_loader *loader = argument;
    pthread_mutex_lock(&loader->lock);
    while (!loader->stop) {
        const size_t index = loader->next_picture;
        if (index >= loader->dataset->count) break;
        if (index / loader->options.batch >= loader->allowed_batch) {
            pthread_cond_wait(&loader->work, &loader->lock);
            continue;
        }
        loader->next_picture++;
        pthread_mutex_unlock(&loader->lock);
        load_picture(loader, index);
        pthread_mutex_lock(&loader->lock);
        loader->slot[index / loader->options.batch % loader->slots].done++;
        pthread_cond_signal(&loader->done);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

static enum t2t_status allocate_slot(struct slot *slot, size_t batch, size_t bytes)
{
    slot->pixels = malloc(batch * bytes * sizeof *slot->pixels);
    slot->crops = malloc(batch * bytes);
    slot->image_index = malloc(batch * sizeof *slot->image_index);
    slot->sample = malloc(batch * sizeof *slot->sample);
    slot->label = malloc(batch * sizeof *slot->label);
    slot->report = calloc(batch, sizeof *slot->report);
    slot->failed = calloc(batch, sizeof *slot->failed);
    slot->status = malloc(batch * sizeof *slot->status);
    const bool all = slot->pixels && slot->crops && slot->image_index && slot->sample && slot->label && slot->report &&
                     slot->failed && slot->status;
    return all ? T2T_OK : t2t_fail_memory("a batch of pictures", batch * bytes * (1 + sizeof *slot->pixels));
}

static enum t2t_status start_workers(struct t2t_loader *loader)
{
    loader->threads = calloc(loader->options.workers, sizeof *loader->threads);
    if (!loader->threads) return t2t_fail_memory("threads", loader->options.workers * sizeof *loader->threads);
    while (loader->thread_count < loader->options.workers) {
        if (pthread_create(&loader->threads[loader->thread_count], NULL, work, loader)) break;
        loader->thread_count++;
    }
    if (!loader->thread_count) return t2t_fail(T2T_NO_RESOURCE, "no thread could be started to decode pictures");
    return T2T_OK;
}

enum t2t_status t2t_loader_open(
    struct t2t_loader **loader, const struct t2t_dataset *dataset, const struct t2t_loader_options *options)
{
    *loader = NULL;
    if (!options->batch || !options->workers || options->ahead > T2T_MOST_AHEAD)
        return t2t_fail(T2T_BAD_USAGE,
            "a loader needs a batch and workers of at least 1 and works at most %d batches ahead", T2T_MOST_AHEAD);
    struct t2t_loader *made = calloc(1, sizeof *made);
    if (!made) return t2t_fail_memory("the loader", sizeof *made);
    made->dataset = dataset;
    made->options = *options;
    made->slots = options->ahead + 1;
    made->allowed_batch = options->ahead ? made->slots : 0;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->work, NULL);
    pthread_cond_init(&made->done, NULL);
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < made->slots && !status; i++)
        status = allocate_slot(&made->slot[i], options->batch, crop_bytes(made));
    if (!status) status = start_workers(made);
    if (status) {
        t2t_loader_close(made);
        return status;
    }
    *loader = made;
    return T2T_OK;
}

/* Closes the gaps that failed pictures left. */
static void finish_batch(const struct t2t_loader *loader, struct slot *slot, size_t size)
{
    const size_t bytes = crop_bytes(loader);
    size_t kept = 0, failed = 0;
    if (slot->finished) return;
    slot->finished = true;
    for (size_t i = 0; i < size; i++) {
        if (slot->status[i]) {
            slot->failed[failed++] = slot->failed[i];
            continue;
        }
        if (kept != i) {
            memcpy(slot->pixels + kept * bytes, slot->pixels + i * bytes, bytes * sizeof *slot->pixels);
            memcpy(slot->crops + kept * bytes, slot->crops + i * bytes, bytes);
            slot->image_index[kept] = slot->image_index[i];
            slot->sample[kept] = slot->sample[i];
            slot->label[kept] = slot->label[i];
            slot->report[kept] = slot->report[i];
        }
        kept++;
    }
    slot->batch = (struct t2t_batch){.count = kept,
        .pixels = slot->pixels,
        .crops = slot->crops,
        .image_index = slot->image_index,
        .sample = slot->sample,
        .label = slot->label,
        .report = slot->report,
        .failed = slot->failed,
        .failed_count = failed};
}

/* Pictures of the batch to come, 0 after the last. */
static size_t next_size(const struct t2t_loader *loader)
{
    const size_t batch = loader->options.batch, first = loader->next_batch * batch, all = loader->dataset->count;
    return first >= all ? 0 : all - first < batch ? all - first : batch;
}

const struct t2t_batch *t2t_loader_peek(struct t2t_loader *loader)
{
    const size_t size = next_size(loader);
    struct slot *slot = &loader->slot[loader->next_batch % loader->slots];
    pthread_mutex_lock(&loader->lock);
    const bool ready = size && loader->next_batch < loader->allowed_batch && slot->done == size;
    pthread_mutex_unlock(&loader->lock);
    if (!ready) return NULL;
    finish_batch(loader, slot, size);
    return &slot->batch;
}

const struct t2t_batch *t2t_loader_next(struct t2t_loader *loader)
{
    const size_t size = next_size(loader);
    if (!size) return NULL;
    struct slot *slot = &loader->slot[loader->next_batch % loader->slots];
    const double begin = t2t_now();
    pthread_mutex_lock(&loader->lock);
    /* The caller gives the batch before back by asking for this one: its slot may be filled again. */
    if (loader->next_batch > 0) {
        struct slot *before = &loader->slot[(loader->next_batch - 1) % loader->slots];
        before->done = 0;
        before->finished = false;
    }
    loader->allowed_batch = loader->next_batch + loader->slots;
    pthread_cond_broadcast(&loader->work);
    while (slot->done < size) pthread_cond_wait(&loader->done, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
    loader->next_batch++;
    finish_batch(loader, slot, size);
    slot->batch.wait_seconds = t2t_now() - begin;
    return &slot->batch;
}

void t2t_loader_close(struct t2t_loader *loader)
{
    if (!loader) return;
    pthread_mutex_lock(&loader->lock);
    loader->stop = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (size_t i = 0; i < loader->thread_count; i++) pthread_join(loader->threads[i], NULL);
    free(loader->threads);
    for (size_t i = 0; i < loader->slots; i++) {
        struct slot *slot = &loader->slot[i];
        free(slot->pixels);
        free(slot->crops);
        free(slot->image_index);
        free(slot->sample);
        free(slot->label);
        free(slot->report);
        free(slot->failed);
        free(slot->status);
    }
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->done);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}
