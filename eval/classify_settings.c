/* Options of t2tvit-classify. */
#include "eval/classify_settings.h"

#include <string.h>

#include "eval/answers.h"
#include "eval/output.h"

struct classify_settings settings = {
    .model = MODEL_OPTIONS_DEFAULT,
    .attention = ATTENTION_OPTIONS_DEFAULT,
    .top = 5,
};

static const struct option_row rows[] = {
    {.type = OPTION_SECTION, .help = "Pictures:"},
    {OPTION_SWITCH, 'r', "recursive", NULL, "of a folder, also the pictures of its folders", &settings.recursive, 0, 0},
    {OPTION_TEXTS, 0, "files-from", "FILE", "names of pictures, one a line (- for standard input)",
        &settings.files_from, 0, 0},
    {OPTION_SWITCH, '0', "null", NULL, "the names of --files-from end with NUL bytes", &settings.nul, 0, 0},
    {OPTION_TEXT, 0, "raw-input", "FILE",
        "instead of pictures: tensor `input` [N,3,S,S] of a safetensors file,\nalready normalised", &settings.raw_input,
        0, 0},
    MODEL_OPTION_ROWS(&settings.model),
    DEVICE_OPTION_ROWS(&settings.model),
    ATTENTION_OPTION_ROWS(&settings.attention),
    {.type = OPTION_SECTION, .help = "Answers:"},
    {OPTION_NUMBER, 'k', "topk", "N", "how many classes (5)", &settings.top, 1, ANSWER_MOST},
    {OPTION_CHOICE, 0, "names", "short|full|wnid", "how classes are called (short)", &settings.names, 0, 0},
    {OPTION_TEXT, 0, "labels", "FILE", "names of the classes, one a line", &settings.labels, 0, 0},
    {OPTION_CHOICE, 0, "output-type", "prob|logit|both", "prob: softmax over all classes", &settings.value, 0, 0},
    {OPTION_CHOICE, 0, "format", "table|jsonl|csv", "a record a picture", &settings.format, 0, 0},
    {OPTION_TEXT, 'o', "output", "FILE", "write the answers here instead of standard output", &settings.output, 0, 0},
    {OPTION_TEXT, 0, "save-logits", "FILE", "safetensors: logits [pictures, classes], names in the metadata",
        &settings.save_logits, 0, 0},
    {OPTION_SWITCH, 0, "tensor-digest", NULL,
        "print the SHA-256 of each picture's crop (height x width x 3 bytes)\ninstead, as sha256sum does; needs no "
        "weights",
        &settings.digest, 0, 0},
    {OPTION_NUMBER, 'b', "batch-size", "N", "pictures in a forward (one for each thread)", &settings.batch, 1, 4096},
    COMMON_OPTION_ROWS(&settings.common),
};

const struct tool t2t_classify_tool = {
    .name = "t2tvit-classify",
    .usage = "usage: t2tvit-classify [options] FILE... | DIR... | -\n"
             "\n"
             "Says what a T2T-ViT sees on pictures, by one attention or by several side by side.\n",
    .ending = "\n"
              "Examples:\n"
              "  t2tvit-classify photo.jpg\n"
              "  t2tvit-classify --attention exact,kdeformer --format jsonl photos/ >answers.jsonl\n"
              "  t2tvit-classify --tensor-digest --img-size 224 photo.jpg\n"
              "\n"
              "Exit status: 0 done, 2 usage, 3 some pictures could not be used (the others were), 4 weights or model,\n"
              "5 out of memory or no such processor, 6 cannot write, 7 NaN or infinity in the network,\n"
              "130 interrupted (143 terminated).\n",
    .rows = rows,
    .row_count = sizeof rows / sizeof *rows,
    .common = &settings.common,
};

enum t2t_status t2t_classify_check(size_t operands)
{
    if (settings.raw_input && (operands || settings.files_from.count || settings.digest))
        return t2t_fail(T2T_BAD_USAGE, "--raw-input stands alone: it takes the place of pictures");
    if (settings.digest && settings.save_logits)
        return t2t_fail(T2T_BAD_USAGE, "--save-logits: --tensor-digest runs no network");
    if (settings.output && settings.save_logits && strcmp(settings.output, settings.save_logits) == 0)
        return t2t_fail(T2T_BAD_USAGE, "\"%s\" is named for two outputs", settings.output);
    if (settings.output && strcmp(settings.output, "-") == 0) settings.output = NULL;
    enum t2t_status status = settings.output ? t2t_output_check(settings.output) : T2T_OK;
    if (!status && settings.save_logits) status = t2t_output_check_file(settings.save_logits);
    return status;
}

static enum t2t_status check_input(const char *input)
{
    const enum t2t_status status = t2t_output_check_differs(settings.output, input);
    return status ? status : t2t_output_check_differs(settings.save_logits, input);
}

enum t2t_status t2t_classify_check_inputs(const struct t2t_dataset *pictures, const char *weights_or_null)
{
    enum t2t_status status = check_input(weights_or_null);
    if (!status) status = check_input(settings.raw_input);
    if (!status) status = check_input(settings.labels);
    for (size_t i = 0; i < settings.files_from.count && !status; i++) status = check_input(settings.files_from.text[i]);
    for (size_t i = 0; i < pictures->count && !status; i++) status = check_input(pictures->samples[i].path);
    return status;
}
