/* t2tvit-profile: where the time of a T2T-ViT goes, layer by layer, and what another attention changes of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/attention_options.h"
#include "eval/interrupt.h"
#include "eval/model_options.h"
#include "eval/option_lists.h"
#include "eval/picture_list.h"
#include "eval/predict.h"
#include "eval/profile_report.h"
#include "eval/progress.h"
#include "eval/tool.h"

enum { MOST_BATCHES = 16, LARGEST_BATCH = 4096 };

static struct {
    struct common_options common;
    struct model_options model;
    struct attention_options attention;
    struct report_request report;
    bool random_weights;
    const char *val_dir, *batches, *predict;
    double warmup, min_time;
    size_t min_runs;
    int detail;
} settings = {
    .model = MODEL_OPTIONS_DEFAULT,
    .attention = ATTENTION_OPTIONS_DEFAULT,
    .report = {.writers = t2t_profile_writers},
    .batches = "1,8",
    .warmup = 0.2,
    .min_time = 3,
    .min_runs = 10,
};

static const struct option_row rows[] = {
    {.type = OPTION_SECTION, .help = "Input:"},
    {OPTION_TEXT, 0, "val-dir", "DIR", "folder of pictures, the first of them; else random pixels", &settings.val_dir,
        0, 0},
    {OPTION_TEXT, 'b', "batch-size", "LIST", "pictures in a forward (1,8)", &settings.batches, 0, 0},
    {OPTION_SWITCH, 0, "random-weights", NULL, "with --model NAME: shapes and times, without a weights file",
        &settings.random_weights, 0, 0},
    MODEL_OPTION_ROWS(&settings.model),
    DEVICE_OPTION_ROWS(&settings.model),
    ATTENTION_OPTION_ROWS(&settings.attention),
    SWEEP_OPTION_ROW(&settings.attention),
    {.type = OPTION_SECTION, .help = "Measuring:"},
    {OPTION_SECONDS, 0, "warmup", "TIME", "uncounted forwards of each attention first, as 200ms or 3s (200ms)",
        &settings.warmup, 0, 3600},
    {OPTION_SECONDS, 0, "min-time", "TIME", "rounds go on for at least so long (3s) ...", &settings.min_time, 0, 86400},
    {OPTION_NUMBER, 0, "min-runs", "N", "... and so many (10)", &settings.min_runs, 1, 10000},
    {OPTION_TEXT, 0, "predict", "GPU",
        "measure nothing: what the attentions should take at best on a GPU\n(h100), by a roofline; text on standard "
        "output: no --format, -o",
        &settings.predict, 0, 0},
    {.type = OPTION_SECTION, .help = "Results:"},
    {OPTION_CHOICE, 0, "detail", "step|attention|layer", "rows of a table: with steps of kdeformer (step), without",
        &settings.detail, 0, 0},
    REPORT_OPTION_ROWS(&settings.report, ".json .csv .md .txt"),
    COMMON_OPTION_ROWS(&settings.common),
};

static const struct tool tool = {
    .name = "t2tvit-profile",
    .usage = "usage: t2tvit-profile [options]\n"
             "\n"
             "Times of every layer of a T2T-ViT and of its attention, for several attentions that take turns; their\n"
             "speed-ups in the layer, in the whole forward, and with the decoding of pictures.\n",
    .ending = "\n"
              "Examples:\n"
              "  t2tvit-profile --attention exact,kdeformer --val-dir pictures\n"
              "  t2tvit-profile --random-weights --model t2t_vit_t_24 --attention exact,kdeformer,performer\n"
              "  t2tvit-profile --random-weights --model t2t_vit_t_14 --predict h100\n"
              "  t2tvit-profile --attention exact,kdeformer --sweep samples=24,98,392 --batch-size 8 -o profile.json\n"
              "\n"
              "Exit status: 0 done, 2 usage, 3 pictures, 4 weights or model, 5 out of memory or no such processor,\n"
              "6 cannot write, 7 NaN or infinity in the network, 130 interrupted (143 terminated): whole rounds are\n"
              "reported and marked as partial.\n",
    .rows = rows,
    .row_count = sizeof rows / sizeof *rows,
    .common = &settings.common,
};

static enum t2t_status open_model(struct t2t_model **model, char **weights)
{
    if (!settings.random_weights) return t2t_open_model(&settings.model, model, weights);
    const struct t2t_config *config = settings.model.model ? t2t_variant_named(settings.model.model) : NULL;
    if (settings.model.weights)
        return t2t_fail(T2T_BAD_USAGE, "--weights and --random-weights: only one of them is meant");
    if (!config)
        return t2t_fail(T2T_BAD_USAGE,
            "--random-weights needs --model with the name of a variant, as in t2t_vit_t_14%s%s",
            settings.model.model ? "; there is no " : "", settings.model.model ? settings.model.model : "");
    return t2t_model_random(model, config, 1);
}

/* ---- pictures ---- */

/* The first `batch` pictures of the list, from its start again where it is shorter. */
static enum t2t_status repeat_pictures(struct t2t_dataset *pictures, const struct t2t_dataset *list, size_t batch)
{
    *pictures = *list;
    pictures->count = pictures->total = batch;
    pictures->samples = calloc(batch, sizeof *pictures->samples);
    if (!pictures->samples) return t2t_fail_memory("a list of pictures", batch * sizeof *pictures->samples);
    for (size_t i = 0; i < batch; i++) pictures->samples[i] = list->samples[i % list->count];
    return T2T_OK;
}

/* ---- profiles ---- */

static void report_partial(void *context)
{
    const struct profile_results *results = context;
    if (!results->profiles[0].rounds)
        t2t_error("interrupted before the first round was done");
    else if (t2t_report_write(&settings.report, results))
        t2t_error("%s", t2t_last_error());
}

static enum t2t_status profile_batches(struct profile_results *results, const struct profile *common,
    const struct t2t_dataset *list, const size_t *batches, size_t count, int *signal)
{
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < count && !status && !*signal; i++) {
        struct profile *profile = &results->profiles[i];
        struct t2t_dataset pictures = {.count = 0};
        *profile = *common;
        profile->batch = batches[i];
        results->count = i + 1;
        if (list->count) {
            status = repeat_pictures(&pictures, list, batches[i]);
            profile->pictures = &pictures;
        }
        t2t_note("batch %zu", batches[i]);
        if (!status) status = t2t_profile_run(profile, report_partial, results);
        *signal = profile->signal;
        free(pictures.samples);
    }
    return status;
}

static enum t2t_status profile(const struct t2t_model *model, const char *weights, const struct t2t_dataset *pictures,
    const size_t *batches, size_t count, int *signal)
{
    struct attention_runs runs;
    struct t2t_preprocess preprocess;
    struct profile profiles[MOST_BATCHES] = {{.batch = 0}};
    enum t2t_status status = t2t_attention_runs(&runs, &settings.attention, model);
    if (!status) status = t2t_choose_preprocess(&settings.model, model, &preprocess);
    struct chosen_device device = {.ops = NULL};
    if (!status) status = t2t_choose_device(&settings.model, &device);
    const struct profile common = {.model = model,
        .runs = &runs,
        .preprocess = &preprocess,
        .options = {.threads = t2t_choose_threads(&settings.model),
            .device = device,
            .warmup_seconds = settings.warmup,
            .min_seconds = settings.min_time,
            .min_rounds = settings.min_runs}};
    struct profile_results results = {.profiles = profiles,
        .weights = weights,
        .data = settings.val_dir,
        .files = pictures->count,
        .detail = (enum profile_detail)settings.detail};
    t2t_tool_warn_load();
    t2t_interrupt_hold();
    if (!status) status = profile_batches(&results, &common, pictures, batches, count, signal);
    if (!status && profiles[0].rounds) status = t2t_report_write(&settings.report, &results);
    for (size_t i = 0; i < results.count; i++) t2t_profile_free(&profiles[i]);
    t2t_attention_runs_free(&runs);
    return status;
}

/* Without any forward: what the plans' sizes say. */
static enum t2t_status predict(const struct t2t_model *model, const size_t *batches, size_t count)
{
    struct attention_runs runs;
    struct t2t_preprocess preprocess; /* its check of --img-size alone is wanted: sizes are the model's */
    enum t2t_status status = t2t_choose_preprocess(&settings.model, model, &preprocess);
    if (!status) status = t2t_attention_runs(&runs, &settings.attention, model);
    if (status) return status;
    status = t2t_predict_print(t2t_gpu_named(settings.predict), model, &runs, batches, count, stdout);
    t2t_attention_runs_free(&runs);
    return status;
}

static enum t2t_status check_predict(void)
{
    if (!settings.predict) return T2T_OK;
    if (!t2t_gpu_named(settings.predict))
        return t2t_fail(T2T_BAD_USAGE, "--predict \"%s\": the only GPU known is h100", settings.predict);
    if (settings.val_dir) return t2t_fail(T2T_BAD_USAGE, "--predict and --val-dir: a prediction sees no pictures");
    if (settings.report.outputs.count || t2t_option_given(&settings.report.format))
        return t2t_fail(T2T_BAD_USAGE, "--predict: a prediction is text on standard output alone");
    return T2T_OK;
}

static enum t2t_status run(size_t operands, char **operand, int *signal)
{
    size_t batches[MOST_BATCHES], count;
    struct picture_list list;
    struct t2t_model *model = NULL;
    char *weights = NULL;
    t2t_list_init(&list);
    if (operands) return t2t_fail(T2T_BAD_USAGE, "\"%s\": an option is missing before it", operand[0]);
    enum t2t_status status =
        t2t_read_numbers("batch-size", settings.batches, 1, LARGEST_BATCH, MOST_BATCHES, batches, &count);
    if (!status) status = check_predict();
    if (!status) status = t2t_report_check(&settings.report);
    if (!status) status = t2t_interrupt_arm();
    if (!status && settings.val_dir) status = t2t_list_operand(&list, settings.val_dir, true);
    if (!status) status = open_model(&model, &weights);
    if (!status && settings.predict)
        status = predict(model, batches, count);
    else if (!status)
        status = profile(model, weights, &list.pictures, batches, count, signal);
    t2t_list_close(&list);
    t2t_model_free(model);
    free(weights);
    return status;
}

int main(int argc, char **argv)
{
    size_t operands;
    enum t2t_status status;
    int signal = 0;
    settings.attention.attention = "exact,kdeformer";
    if (t2t_tool_begin(&tool, argc, argv, &operands, &status))
        status = run((size_t)argc - operands, argv + operands, &signal);
    const int code = t2t_tool_finish(&tool, status);
    return code ? code : signal ? 128 + signal : 0;
}
