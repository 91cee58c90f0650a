/* Which weights, and how pictures are prepared for them: options that every program with a model has. */
#ifndef T2T_EVAL_MODEL_OPTIONS_H
#define T2T_EVAL_MODEL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "eval/options.h"
#include "loaders/preprocess.h"
#include "vit/t2t_vit.h"

struct model_options {
    const char *weights, *model; /* NULL: looked for, told by the file */
    size_t image_size;           /* 0: the model's */
    double crop_pct;             /* 0: the model's */
    int interpolation;           /* enum t2t_interpolation, -1: the model's */
    const char *mean, *std;      /* "R,G,B", NULL: the model's */
    bool strict;
    size_t threads;     /* 0: all that may be used */
    const char *device; /* "cpu", "cuda", "cuda:N" or "auto"; NULL: the CPU */
    bool tf32, graph;
    int dtype; /* which of the names of formats; t2t_chosen_format() */
};

/* What --dtype asks for. */
enum number_format t2t_chosen_format(const struct model_options *options);

/* The device of a session. */
struct chosen_device {
    const struct layer_ops *ops;
    struct layer_device_options options;
};

#define MODEL_OPTIONS_DEFAULT                                                                                          \
    {                                                                                                                  \
        .interpolation = -1                                                                                            \
    }

/* The rows of a tool's table that fill a struct model_options. */
#define MODEL_OPTION_ROWS(options)                                                                                     \
    {.type = OPTION_SECTION, .help = "Model:"},                                                                        \
        {OPTION_TEXT, 'w', "weights", "FILE",                                                                          \
            "safetensors; else $T2TVIT_WEIGHTS, else t2tvit/default.safetensors\n"                                     \
            "in $XDG_DATA_HOME or ~/.local/share",                                                                     \
            &(options)->weights, 0, 0},                                                                                \
        {OPTION_TEXT, 0, "model", "NAME", "t2t_vit_14 ..., where the file does not say it", &(options)->model, 0, 0},  \
        {OPTION_NUMBER, 't', "threads", "N", "threads of the network (all processors that may be used)",               \
            &(options)->threads, 1, 4096},                                                                             \
        {.type = OPTION_SECTION, .help = "Preparing pictures (as the weights file says, else timm's evaluation):"},    \
        {OPTION_NUMBER, 0, "img-size", "N", "side of the square that the network sees", &(options)->image_size, 16,    \
            4096},                                                                                                     \
        {OPTION_REAL, 0, "crop-pct", "F", "resize the shorter side to img-size / F (0.9)", &(options)->crop_pct, 0.05, \
            1},                                                                                                        \
        {OPTION_CHOICE, 0, "interpolation", "bicubic|bilinear", "both antialiased, as Pillow's",                       \
            &(options)->interpolation, 0, 0},                                                                          \
        {OPTION_TEXT, 0, "mean", "R,G,B", "subtracted from values of 0 to 1", &(options)->mean, 0, 0},                 \
        {OPTION_TEXT, 0, "std", "R,G,B", "then divided by", &(options)->std, 0, 0},                                    \
    {                                                                                                                  \
        OPTION_SWITCH, 0, "strict", NULL, "refuse pictures whose decoder warned", &(options)->strict, 0, 0             \
    }

/* The rows for programs that run the network on any device. */
#define DEVICE_OPTION_ROWS(options)                                                                                    \
    {.type = OPTION_SECTION, .help = "Device:"},                                                                       \
        {OPTION_TEXT, 'd', "device", "NAME",                                                                           \
            "cpu (default), cuda, cuda:N, or auto: the first CUDA device, else\nthe CPU", &(options)->device, 0, 0},   \
        {OPTION_CHOICE, 0, "dtype", "float32|bfloat16|float16|f32|bf16|f16|fp16|half",                                 \
            "what the factors of products are rounded to (float32), attention's\n"                                     \
            "included where the processor can; sums, norms and the residual\n"                                         \
            "stream are float32 in all. bfloat16: CPU with AVX-512, or cuda;\n"                                        \
            "float16: cuda",                                                                                           \
            &(options)->dtype, 0, 0},                                                                                  \
        {OPTION_SWITCH, 0, "tf32", NULL, "cuda: products round their factors to TF32", &(options)->tf32, 0, 0},        \
    {                                                                                                                  \
        OPTION_SWITCH, 0, "cuda-graph", NULL,                                                                          \
            "cuda: record a forward of each attention and size once, then launch\n"                                    \
            "it as a whole",                                                                                           \
            &(options)->graph, 0, 0                                                                                    \
    }

/* Finds and loads the weights. *path (to be freed) is the file. */
enum t2t_status t2t_open_model(const struct model_options *options, struct t2t_model **model, char **path);

/* Opens the module that --device needs; says why `auto` takes the CPU. */
enum t2t_status t2t_choose_device(const struct model_options *options, struct chosen_device *device);

/* Batches that are best prepared while one is in the network: a device that works on its own copies the first of them. */
size_t t2t_batches_ahead(const struct chosen_device *device);

/* --threads, or as many as may be used. */
size_t t2t_choose_threads(const struct model_options *options);

/* How pictures become the input of `model`; for NULL, timm's evaluation at 224 px. */
enum t2t_status t2t_choose_preprocess(
    const struct model_options *options, const struct t2t_model *model, struct t2t_preprocess *preprocess);

#endif
