/* t2tvit-attention: how far each attention is from the exact one, against what it costs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/attention_names.h"
#include "eval/interrupt.h"
#include "eval/model_options.h"
#include "eval/picture_list.h"
#include "eval/progress.h"
#include "eval/study_report.h"
#include "eval/tool.h"
#include "layers/base/cpu_features.h"

enum { MOST_FEATURES = 32, GLOVE_ROWS = 8192, CLUSTER_DIM = 64, PICTURES = 4 };

static struct {
    struct common_options common;
    struct model_options model;
    struct report_request report;
    const char *glove, *pictures, *layer;
    size_t rows, dim, limit;
    const char *attention, *features, *seeds;
    size_t seed, runs;
    struct option_texts attn_opt;
} settings = {
    .model = MODEL_OPTIONS_DEFAULT,
    .report = {.writers = t2t_study_writers},
    .layer = "t2t.1",
    .rows = GLOVE_ROWS,
    .dim = CLUSTER_DIM,
    .attention = "kdeformer,kdeformer:published,performer,reformer,scatterbrain",
    .features = "64,128,256,512,1024,2048,4096",
    .seed = 1,
    .runs = 5,
};

static const struct option_row rows[] = {
    {.type = OPTION_SECTION, .help = "Queries, keys and values (synthetic clusters where neither is given):"},
    {OPTION_TEXT, 0, "glove", "FILE",
        "word vectors as text, a word and its numbers a line: q = k = rows /\n10^0.25, v the rows after them",
        &settings.glove, 0, 0},
    {OPTION_TEXT, 0, "pictures", "DIR", "what a layer of the model sees on the pictures of a folder (or a file)",
        &settings.pictures, 0, 0},
    {OPTION_TEXT, 0, "layer", "NAME", "with --pictures: t2t.1 (default), t2t.2, block.0 ... or a number",
        &settings.layer, 0, 0},
    {OPTION_NUMBER, 0, "rows", "N", "without --pictures: queries and keys (8192)", &settings.rows, 2, 1048576},
    {OPTION_NUMBER, 0, "dim", "N", "of synthetic clusters (64)", &settings.dim, 1, 1024},
    {OPTION_NUMBER, 'n', "limit", "N", "pictures (4), or independent sets of rows (1)", &settings.limit, 1, 65536},
    {.type = OPTION_SECTION, .help = "Attention:"},
    {OPTION_TEXT, 'a', "attention", "LIST",
        "methods beside exact (kdeformer,kdeformer:published,performer,\nreformer,scatterbrain); kde-theory for study, "
        "mean as a control",
        &settings.attention, 0, 0},
    {OPTION_TEXT, 0, "features", "LIST",
        "feature sizes m (64,128,...,4096): kdeformer and kde-theory take m\nsamples and buckets of m/2, performer m "
        "features, reformer buckets of\nm/2, scatterbrain m features and a window of m/2",
        &settings.features, 0, 0},
    {OPTION_TEXTS, 0, "attn-opt", "SETTING", "METHOD.KEY=VALUE for every size, as in kdeformer.bucket=32",
        &settings.attn_opt, 0, 0},
    {OPTION_NUMBER, 's', "seed", "N", "seed of random methods (1)", &settings.seed, 0, 9007199254740992.0},
    {OPTION_TEXT, 0, "seeds", "N|LIST", "several seeds: 3 for 1 to 3, or a list 3,7; mean and deviation",
        &settings.seeds, 0, 0},
    {OPTION_NUMBER, 0, "runs", "N", "timed runs of each method and size (5)", &settings.runs, 1, 10000},
    MODEL_OPTION_ROWS(&settings.model),
    {.type = OPTION_SECTION, .help = "Results:"},
    REPORT_OPTION_ROWS(&settings.report, ".json .csv .md .txt .svg"),
    COMMON_OPTION_ROWS(&settings.common),
};

static const struct tool tool = {
    .name = "t2tvit-attention",
    .usage = "usage: t2tvit-attention [options]\n"
             "\n"
             "How far approximations of attention are from the exact one, against time and multiply-accumulates, over\n"
             "a sweep of feature sizes.\n",
    .ending =
        "\n"
        "Examples:\n"
        "  t2tvit-attention -o error.svg\n"
        "  t2tvit-attention --glove glove.twitter.27B.100d.txt --seeds 3 -o glove.svg -o glove.json\n"
        "  t2tvit-attention --weights t2t.safetensors --pictures photos --layer t2t.2 --features 16,32,64\n"
        "\n"
        "Exit status: 0 done, 2 usage, 3 word vectors or pictures, 4 weights or model, 5 out of memory or no such\n"
        "processor, 6 cannot write, 7 NaN or infinity in an output, 130 interrupted (143 terminated): what\n"
        "there was is reported and marked as partial.\n",
    .rows = rows,
    .row_count = sizeof rows / sizeof *rows,
    .common = &settings.common,
};

/* ---- the input ---- */

static enum t2t_status open_captured(
    struct attention_input *input, const struct t2t_model *model, struct picture_source *source, size_t units)
{
    const size_t layers = t2t_model_config(model)->depth + T2T_TOKEN_LAYERS;
    size_t layer, last;
    if (!t2t_find_layers(settings.layer, layers, &layer, &last) || layer != last)
        return t2t_fail(T2T_BAD_USAGE, "--layer \"%s\": this model's layers are t2t.1, t2t.2, block.0 ... block.%zu",
            settings.layer, layers - 3);
    return t2t_input_captured(input, model, layer, source, units, settings.model.threads);
}

static enum t2t_status capture_pictures(struct attention_input *input)
{
    struct picture_list list;
    struct t2t_dataset pictures = {.count = 0}; /* the first of the list, which owns them */
    struct picture_source source = {.batch = 0};
    struct t2t_preprocess preprocess;
    struct t2t_model *model = NULL;
    char *weights = NULL;
    t2t_list_init(&list);
    enum t2t_status status = t2t_list_operand(&list, settings.pictures, true);
    if (!status) status = t2t_open_model(&settings.model, &model, &weights);
    if (!status) status = t2t_choose_preprocess(&settings.model, model, &preprocess);
    if (!status) {
        const size_t most = settings.limit ? settings.limit : PICTURES, threads = t2t_cpu_allowed();
        pictures = list.pictures;
        if (pictures.count > most) pictures.count = most;
        for (size_t i = 0; i < pictures.count; i++) pictures.samples[i].index = i;
        const struct t2t_loader_options options = {
            .preprocess = preprocess, .batch = threads < pictures.count ? threads : pictures.count, .workers = threads};
        status = t2t_source_open_files(&source, &pictures, &options);
    }
    if (!status) status = open_captured(input, model, &source, pictures.count);
    t2t_source_close(&source);
    t2t_list_close(&list);
    t2t_model_free(model);
    free(weights);
    return status;
}

static enum t2t_status open_input(struct attention_input *input)
{
    const size_t units = settings.limit ? settings.limit : 1;
    if (settings.pictures) return capture_pictures(input);
    if (settings.glove) return t2t_input_glove(input, settings.glove, settings.rows, units);
    return t2t_input_clusters(input, settings.rows, settings.dim, units);
}

/* ---- the study ---- */

static void report_partial(const struct study *study)
{
    if (!study->cases[0].errors)
        t2t_error("interrupted before the first run was done");
    else if (t2t_report_write(&settings.report, study))
        t2t_error("%s", t2t_last_error());
}

static bool model_option_given(void)
{
    const struct model_options *model = &settings.model;
    return t2t_option_given(&model->weights) || t2t_option_given(&model->model) ||
           t2t_option_given(&model->image_size) || t2t_option_given(&model->crop_pct) ||
           t2t_option_given(&model->interpolation) || t2t_option_given(&model->mean) || t2t_option_given(&model->std) ||
           t2t_option_given(&model->strict);
}

static enum t2t_status check_options(size_t operands, char **operand)
{
    if (operands) return t2t_fail(T2T_BAD_USAGE, "\"%s\": an option is missing before it", operand[0]);
    if (settings.glove && settings.pictures)
        return t2t_fail(T2T_BAD_USAGE, "--glove and --pictures: only one of them is meant");
    if (settings.pictures && t2t_option_given(&settings.rows))
        return t2t_fail(T2T_BAD_USAGE, "--rows: the layer of --pictures has its own number of tokens");
    if (t2t_option_given(&settings.layer) && !settings.pictures)
        return t2t_fail(T2T_BAD_USAGE, "--layer needs --pictures");
    if (!settings.pictures && model_option_given())
        return t2t_fail(T2T_BAD_USAGE, "options of the model and of its pictures need --pictures");
    if (t2t_option_given(&settings.dim) && (settings.pictures || settings.glove))
        return t2t_fail(T2T_BAD_USAGE, "--dim: only synthetic clusters can have any");
    return t2t_report_check(&settings.report);
}

/* What the options say before any input is there. */
struct wishes {
    struct method_list methods;
    size_t features[MOST_FEATURES], feature_count;
    struct attention_settings settings;
};

static enum t2t_status read_wishes(struct wishes *wishes, struct study *study)
{
    study->seed[0] = settings.seed;
    study->seeds = 1;
    if (settings.seeds && t2t_option_given(&settings.seed))
        return t2t_fail(T2T_BAD_USAGE, "--seed and --seeds: only one of them is meant");
    enum t2t_status status = t2t_read_methods("attention", settings.attention, &wishes->methods);
    if (!status)
        status = t2t_read_numbers(
            "features", settings.features, 2, 65536, MOST_FEATURES, wishes->features, &wishes->feature_count);
    if (!status && settings.seeds) status = t2t_read_seeds(settings.seeds, study->seed, &study->seeds);
    if (!status) status = t2t_read_attention_settings(&wishes->settings, &settings.attn_opt, T2T_MAX_LAYERS);
    return status;
}

static enum t2t_status run(size_t operands, char **operand, int *signal)
{
    struct attention_input input = {.units = 0};
    struct study study = {.input = &input, .runs = settings.runs, .threads = settings.model.threads};
    struct wishes wishes;
    enum t2t_status status = check_options(operands, operand);
    if (!status) status = read_wishes(&wishes, &study);
    if (!status) status = t2t_interrupt_arm();
    if (!status) status = open_input(&input);
    if (!status) {
        bool measured[T2T_MAX_LAYERS] = {false};
        measured[input.layer] = true;
        status = t2t_check_attention_settings(
            &wishes.settings, wishes.methods.method, wishes.methods.count, measured, "the study is of another layer");
    }
    if (!status)
        status = t2t_study_plan(&study, &wishes.methods, wishes.features, wishes.feature_count, &wishes.settings);
    if (!status) {
        t2t_tool_warn_load();
        t2t_note(
            "%s; %zu case%s of a method and its size", input.description, study.count, study.count == 1 ? "" : "s");
        if (study.left_out == wishes.feature_count && wishes.feature_count && study.count == 1)
            t2t_warn("exact alone is measured: every size of --features is larger than the %zu keys", input.shape.keys);
        t2t_interrupt_hold();
        status = t2t_study_run(&study, report_partial);
        *signal = study.signal;
    }
    if (!status && study.cases[0].errors)
        status = t2t_report_write(&settings.report, &study);
    else if (!status)
        report_partial(&study);
    t2t_study_free(&study);
    t2t_input_free(&input);
    return status;
}

int main(int argc, char **argv)
{
    size_t operands;
    enum t2t_status status;
    int signal = 0;
    if (t2t_tool_begin(&tool, argc, argv, &operands, &status))
        status = run((size_t)argc - operands, argv + operands, &signal);
    const int code = t2t_tool_finish(&tool, status);
    return code ? code : signal ? 128 + signal : 0;
}
