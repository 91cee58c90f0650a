/* One evaluation: several attentions on the same decoded pictures, who was right, and how long everything took. */
#ifndef T2T_EVAL_EVALUATION_H
#define T2T_EVAL_EVALUATION_H

#include <stdbool.h>
#include <stddef.h>

#include "eval/attention_options.h"
#include "eval/model_options.h"
#include "eval/picture_source.h"
#include "vit/t2t_vit.h"

/* What one attention (and seed) did. */
struct run_result {
    size_t correct1, correct5;
    size_t lost, gained;            /* right only by the reference, right only by this one */
    size_t agreed;                  /* same answer as the reference, right or wrong */
    size_t drop_squares;            /* first of its seeds: sum over pictures of (lost - gained)^2 over all of them */
    double loss;                    /* summed -log softmax of the label */
    double forward_seconds;         /* summed over batches */
    double macs, layer1_macs;       /* of one picture, in the mean */
    struct attention_taken *taken;  /* [layers] where there is a target error */
    double *forward_ms, *layer1_ms; /* [batches] milliseconds a picture */
    double *layer_seconds;          /* [layers] summed, attention alone */
    float *logits;                  /* [pictures, classes] where they are to be saved, else NULL */
};

struct skipped_picture {
    char *name, *reason;
};

struct evaluation_options {
    size_t batch, warmup;
    struct chosen_device device;
    bool skip_failed;
    size_t most_skipped; /* with skip_failed: more end the run */
    bool keep_logits;
};

struct evaluation {
    const struct t2t_model *model;
    const struct attention_runs *runs;
    const struct t2t_dataset *pictures;
    struct picture_source *source;
    struct evaluation_options options;
    bool labelled;

    struct run_result *result; /* [runs->count] */
    size_t images, batches;    /* evaluated so far */
    size_t warned;             /* pictures used although their decoder warned */
    struct skipped_picture *skipped;
    size_t skipped_count;
    size_t *kept;                          /* [images] index into pictures->samples, with keep_logits */
    double decode_seconds, resize_seconds; /* summed over pictures, on their own threads */
    double wait_seconds;                   /* that the network waited for pictures */
    double wall_seconds, begin;
    char device[160]; /* what the session chose */
    int signal;       /* that ended it early, 0: none */
};

/* Called between batches' states when a signal arrived and a forward lasts too long; see interrupt.h. */
typedef void evaluation_report(const struct evaluation *evaluation);

/* Runs everything. The caller has set the first six members; the rest is zero. An interrupted run is T2T_OK with
 * `signal` set and the state of the last whole batch. */
enum t2t_status t2t_evaluate(struct evaluation *evaluation, evaluation_report *report_partial);
void t2t_evaluation_free(struct evaluation *evaluation);

#endif
