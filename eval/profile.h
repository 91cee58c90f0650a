/* Where the time of a network goes, layer by layer, for several attentions that take turns on the same pictures.
 *
 * A round decodes the pictures (where there are any) and lets every attention run twice: once with nothing but a clock
 * around the forward, and once with the clocks of layers and of KDEformer's steps. All times are milliseconds a
 * picture.
 */
#ifndef T2T_EVAL_PROFILE_H
#define T2T_EVAL_PROFILE_H

#include <stdbool.h>

#include "eval/attention_options.h"
#include "eval/metrics.h"
#include "eval/model_options.h"
#include "loaders/dataset.h"
#include "loaders/preprocess.h"

/* One number a round. */
struct samples {
    double *value; /* [rounds] */
    size_t count;
};

enum profile_part {
    PART_LAYER,        /* a whole layer: products and attention */
    PART_ATTENTION,    /* its attention alone, with random draws */
    PART_STEP,         /* a step of that attention, a share of its time as large as its share of all threads' time */
    PART_SUM,          /* of all layers */
    PART_UNATTRIBUTED, /* the forward less that sum: last soft split, projection, head */
    PART_FORWARD,      /* with the clocks inside */
    PART_PLAIN,        /* without */
    PART_DECODE,       /* reading, decoding and resizing */
    PART_END_TO_END    /* decoding, then the forward without clocks inside */
};

/* A row: one part under one attention. */
struct profile_row {
    enum profile_part part;
    size_t run;                   /* index of the attention */
    size_t layer;                 /* of layers and what is in them */
    char name[T2T_NAME_BYTES];    /* "t2t.1", "attention", "hash", "forward" */
    size_t tokens;                /* 0: none of its own */
    double macs;                  /* 0: not counted */
    struct attention_taken taken; /* of attention with a target error */
    struct samples ms;
    double share;             /* of the forward's time with clocks; NaN where it is no part of it */
    struct quartiles speedup; /* over the same part under the reference, of the rounds' own ratios; NaN: none */
};

struct profile_options {
    size_t threads; /* that prepare pictures, at most */
    struct chosen_device device;
    double warmup_seconds; /* of forwards of each attention, uncounted */
    double min_seconds;    /* rounds go on for at least as long ... */
    size_t min_rounds;     /* ... and as many */
};

/* A profile at one batch size. */
struct profile {
    const struct t2t_model *model;
    const struct attention_runs *runs;
    const struct t2t_dataset *pictures; /* NULL: random pixels */
    const struct t2t_preprocess *preprocess;
    struct profile_options options;
    size_t batch;

    struct profile_row *rows; /* an attention after the other; of each, layers with what is in them, then the whole */
    size_t count;
    size_t rounds; /* done */
    char device[160];
    int signal; /* that ended it early, 0: none */
};

/* What to do when a signal arrives while a forward lasts too long. */
typedef void profile_report(void *context);

/* Measures; the caller holds interrupts (interrupt.h) and has set the first six members, the rest is zero. An
 * interrupted profile is T2T_OK with `signal` set and the rows of the rounds that were whole. */
enum t2t_status t2t_profile_run(struct profile *profile, profile_report *report_partial, void *context);
void t2t_profile_free(struct profile *profile);

/* Fills share and speedup from the times so far. */
void t2t_profile_summarise(struct profile *profile);

/* The row of a part under an attention; `layer` counts for layers and their attention alone. NULL: there is none. */
const struct profile_row *t2t_profile_find(
    const struct profile *profile, size_t run, enum profile_part part, size_t layer);

#endif
