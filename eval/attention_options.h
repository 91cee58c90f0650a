/* From --attention, --layers, --seeds and the methods' own options to the plans that a session runs. */
#ifndef T2T_EVAL_ATTENTION_OPTIONS_H
#define T2T_EVAL_ATTENTION_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "eval/options.h"
#include "vit/t2t_vit.h"

struct attention_options {
    const char *attention; /* "exact,kdeformer" */
    const char *reference; /* name of one of them, or NULL: exact where listed, else the first */
    const char *layers;    /* "t2t", "blocks", "all", or a list of layers */
    const char *seeds;     /* "3" for 1 to 3, or a list "3,7"; NULL: `seed` alone */
    size_t seed;
    const char *kde_samples, *kde_bucket, *kde_projections; /* lists, or NULL for those of the preset */
    const char *kde_pilot, *kde_sample_groups;              /* the same */
    double kde_error;                                       /* 0: none */
    int kde_preset, kde_sampling, kde_probability;          /* places in the words below; the last two where given */
    struct option_texts attn_opt;                           /* METHOD[.LAYER].KEY=VALUE each */
    struct option_texts sweep;                              /* [METHOD[.LAYER].]KEY=VALUE,VALUE,... each */
};

/* Words of --kde-preset; those of --kde-sampling and --kde-probability are in the order of their enums. */
enum { KDE_PRESET_DEFAULT, KDE_PRESET_PUBLISHED };

#define ATTENTION_OPTIONS_DEFAULT                                                                                      \
    {                                                                                                                  \
        .attention = "exact", .layers = "t2t", .seed = 1                                                               \
    }

/* The rows of a tool's table that fill a struct attention_options. */
#define ATTENTION_OPTION_ROWS(options)                                                                                 \
    {.type = OPTION_SECTION, .help = "Attention:"},                                                                    \
        {OPTION_TEXT, 'a', "attention", "LIST", T2T_ATTENTION_HELP, &(options)->attention, 0, 0},                      \
        {OPTION_TEXT, 0, "reference", "NAME",                                                                          \
            "which of them the others are compared with\n(exact where listed, else the first)", &(options)->reference, \
            0, 0},                                                                                                     \
        {OPTION_TEXT, 0, "layers", "LIST",                                                                             \
            "layers whose attention is replaced: t2t (the two tokens-to-token\n"                                       \
            "layers, default), blocks, all, names (t2t.1,block.0), ranges\n"                                           \
            "(block.0-block.5) or numbers (0 is t2t.1, 2 is block.0)",                                                 \
            &(options)->layers, 0, 0},                                                                                 \
        {OPTION_NUMBER, 's', "seed", "N", "seed of random methods (1)", &(options)->seed, 0, 9007199254740992.0},      \
        {OPTION_TEXT, 0, "seeds", "N|LIST", "several seeds: 3 for 1 to 3, or a list 3,7", &(options)->seeds, 0, 0},    \
        {OPTION_TEXT, 0, "kde-samples", "LIST",                                                                        \
            "kdeformer: sampled keys (96,28 and 26 in blocks; published\n"                                             \
            "98,24). One value for all replaced layers; two for t2t.1,t2t.2;\n"                                        \
            "three: the last for blocks",                                                                              \
            &(options)->kde_samples, 0, 0},                                                                            \
        {OPTION_TEXT, 0, "kde-bucket", "LIST", "kdeformer: keys in a bucket (16; published 32,32)",                    \
            &(options)->kde_bucket, 0, 0},                                                                             \
        {OPTION_TEXT, 0, "kde-projections", "LIST", "kdeformer: bits of the hash (7,7 and 4 in blocks)",               \
            &(options)->kde_projections, 0, 0},                                                                        \
        {OPTION_CHOICE, 0, "kde-preset", "default|published",                                                          \
            "kdeformer: samples as measured best at the published cost, or as\n"                                       \
            "published (98,24; multinomial, value)",                                                                   \
            &(options)->kde_preset, 0, 0},                                                                             \
        {OPTION_CHOICE, 0, "kde-sampling", "multinomial|systematic",                                                   \
            "kdeformer: samples are independent, or equally spaced along the\nbucket order (systematic)",              \
            &(options)->kde_sampling, 0, 0},                                                                           \
        {OPTION_CHOICE, 0, "kde-probability", "value|pilot|uniform|column-norm",                                       \
            "kdeformer: what keys are sampled by (pilot): value norms, the\n"                                          \
            "softmax of a few queries, nothing, or that of all (for study)",                                           \
            &(options)->kde_probability, 0, 0},                                                                        \
        {OPTION_TEXT, 0, "kde-pilot", "LIST", "kdeformer: queries of the pilot (32,16 and 16 in blocks)",              \
            &(options)->kde_pilot, 0, 0},                                                                              \
        {OPTION_TEXT, 0, "kde-sample-groups", "LIST",                                                                  \
            "kdeformer: runs of buckets with samples of their own: 1, 2 or 4 (4;\npublished 1)",                       \
            &(options)->kde_sample_groups, 0, 0},                                                                      \
        {OPTION_REAL, 0, "kde-error", "ERROR",                                                                         \
            "kdeformer: relative error of the output that the pilot is to\nforetell; takes as many samples as that "   \
            "needs (--kde-samples is a\nlimit), and the best of --kde-bucket, 2 and 4 times that (0: no target)",      \
            &(options)->kde_error, 0, 1},                                                                              \
    {                                                                                                                  \
        OPTION_TEXTS, 0, "attn-opt", "SETTING",                                                                        \
            "METHOD.KEY=VALUE or METHOD.LAYER.KEY=VALUE, again for more, as in\n"                                      \
            "performer.features=64 or reformer.t2t.1.bucket=98; defaults (in blocks):\n"                               \
            "performer.features 49, reformer.bucket 49 (16), reformer.rounds 2,\n"                                     \
            "scatterbrain.window 49 (17), scatterbrain.features 48 (24)",                                              \
            &(options)->attn_opt, 0, 0                                                                                 \
    }

/* One more row, for tools where a run for each value makes sense. */
#define SWEEP_OPTION_ROW(options)                                                                                      \
    {                                                                                                                  \
        OPTION_TEXTS, 0, "sweep", "KEY=LIST",                                                                          \
            "a run for each value, KEY or METHOD.KEY or METHOD.LAYER.KEY, as in\nsamples=24,49,98,196; again for "     \
            "another curve",                                                                                           \
            &(options)->sweep, 0, 0                                                                                    \
    }

#define T2T_ATTENTION_HELP                                                                                             \
    "methods to run, separated by commas (exact; profile: exact,kdeformer):\n"                                         \
    "exact         as the model was trained\n"                                                                         \
    "kdeformer     hashing and a sampled remainder (ICML 2023, Algorithm 3);\n"                                        \
    "              kdeformer:published with the options of the paper\n"                                                \
    "performer     positive orthogonal random features, FAVOR+ (ICLR 2021)\n"                                          \
    "reformer      rounds of hashing, queries as keys, k unused (ICLR 2020)\n"                                         \
    "scatterbrain  a local window exactly, low rank elsewhere (NeurIPS 2021);\n"                                       \
    "              also called sblocal\n"                                                                              \
    "kde-theory    Algorithm 1 of the same paper: density estimates, then\n"                                           \
    "              samples alone; for study\n"                                                                         \
    "mean          the mean of v: a control, what attention is worth"

enum { ATTENTION_NAME_BYTES = 96 };

/* One method, at one point of a sweep where there is one, with one seed. */
struct attention_run {
    const struct attention_method *method;
    uint64_t seed;
    size_t variant;                   /* runs that differ in their seed alone have the same */
    char curve[32];                   /* "exact", "kdeformer:published": what points of one sweep share */
    char swept[24];                   /* the value at a point of a sweep, else "" */
    char label[ATTENTION_NAME_BYTES]; /* that, "kdeformer.samples=98" at a point */
    char name[ATTENTION_NAME_BYTES];  /* the same; "kdeformer.seed3" where there are several seeds */
};

struct attention_runs {
    struct attention_run *run;
    struct t2t_plan *plan; /* [count], for a session */
    size_t count;
    size_t reference;
    char layers[256]; /* the replaced layers, as in "t2t.1, t2t.2" */
};

/* Builds every plan, methods in the order given, points of sweeps within, seeds within those. A method without
 * randomness runs once. */
enum t2t_status t2t_attention_runs(
    struct attention_runs *runs, const struct attention_options *options, const struct t2t_model *model);
void t2t_attention_runs_free(struct attention_runs *runs);

#endif
