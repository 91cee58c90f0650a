/* t2tvit-convert: PyTorch checkpoints of T2T-ViT to safetensors, without Python and without running what is in them. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "eval/convert_compare.h"
#include "eval/convert_file.h"
#include "eval/output.h"
#include "eval/tool.h"
#include "eval/weights_lookup.h"

static struct {
    struct common_options common;
    struct convert_settings convert;
    bool install, list, verify, force, dry_run;
    int key;
    double tolerance;
} settings;

static const struct option_row rows[] = {
    {.type = OPTION_SECTION, .help = "What to do:"},
    {OPTION_SWITCH, 0, "install", NULL, "put the result where the other programs look for weights", &settings.install,
        0, 0},
    {OPTION_SWITCH, 0, "list", NULL, "print the tensors of IN: type, shape, range, NaN and infinities", &settings.list,
        0, 0},
    {OPTION_SWITCH, 0, "verify", NULL, "compare the numbers of A and B; exit status 1 when they differ",
        &settings.verify, 0, 0},
    {OPTION_REAL, 0, "tolerance", "F", "with --verify: largest difference allowed (0)", &settings.tolerance, 0, 1e30},
    {OPTION_SWITCH, 'n', "dry-run", NULL, "read and check everything, write nothing", &settings.dry_run, 0, 0},
    {OPTION_SWITCH, 'f', "force", NULL, "replace a file that exists", &settings.force, 0, 0},
    {.type = OPTION_SECTION, .help = "Which weights:"},
    {OPTION_CHOICE, 0, "weights-key", "auto|ema|model",
        "auto: state_dict_ema, else state_dict, else model, else all of\nthe file; model: without state_dict_ema",
        &settings.key, 0, 0},
    {OPTION_TEXT, 0, "strip-prefix", "P", "take this off the names that begin with it (module.)",
        &settings.convert.checkpoint.strip_prefix, 0, 0},
    {OPTION_SWITCH, 0, "allow-unknown", NULL, "leave out tensors that are no part of the network",
        &settings.convert.allow_unknown, 0, 0},
    {OPTION_SWITCH, 0, "allow-nonfinite", NULL, "keep NaN and infinity (the other programs refuse them)",
        &settings.convert.allow_nonfinite, 0, 0},
    {.type = OPTION_SECTION, .help = "Which network (names and shapes tell all but the heads):"},
    {OPTION_TEXT, 0, "model", "NAME", "t2t_vit_14 ..., or custom", &settings.convert.model.model, 0, 0},
    {OPTION_NUMBER, 0, "num-heads", "N", "heads of the blocks of a custom network", &settings.convert.model.num_heads,
        1, 1024},
    {OPTION_NUMBER, 0, "num-classes", "N", "refuse another number of classes", &settings.convert.model.num_classes, 1,
        1000000},
    {.type = OPTION_SECTION, .help = "What to write:"},
    {OPTION_CHOICE, 0, "dtype", "keep|f32|f16|bf16", "type of the numbers (keep; float64 always becomes f32)",
        &settings.convert.dtype, 0, 0},
    {OPTION_NUMBER, 0, "resize-pos-embed", "N", "interpolate the positions for pictures of N x N pixels",
        &settings.convert.resize, 16, 4096},
    {OPTION_TEXTS, 0, "metadata", "K=V",
        "add to the file's metadata: crop_pct, interpolation, mean, std,\nclass_names ...", &settings.convert.metadata,
        0, 0},
    COMMON_OPTION_ROWS(&settings.common),
};

static const struct tool tool = {
    .name = "t2tvit-convert",
    .usage = "usage: t2tvit-convert [options] IN OUT.safetensors\n"
             "       t2tvit-convert [options] --install IN\n"
             "       t2tvit-convert --list IN | --verify A B\n"
             "\n"
             "Converts weights of a T2T-ViT to safetensors. IN is what torch.save wrote (.pth, .pth.tar: either form,\n"
             "told by content) or safetensors. The pickle inside is read as data: nothing of it is run.\n",
    .ending = "\n"
              "Examples:\n"
              "  t2tvit-convert --install 81.7_T2T_ViTt_14.pth.tar\n"
              "  t2tvit-convert --model t2t_vit_14 81.5_T2T_ViT_14.pth.tar t2t_vit_14.safetensors\n"
              "\n"
              "Exit status: 0 done, 1 --verify found a difference, 2 usage, 4 IN cannot be used, 5 out of memory,\n"
              "6 cannot write.\n",
    .rows = rows,
    .row_count = sizeof rows / sizeof *rows,
    .common = &settings.common,
};

/* ---- where to ---- */

static bool same_file(const char *one, const char *other)
{
    struct stat a, b;
    return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static enum t2t_status check_target(const char *in, const char *out)
{
    struct stat there;
    if (same_file(in, out)) return t2t_fail(T2T_CANNOT_WRITE, "%s: is the input; name another file", out);
    if (stat(out, &there) == 0 && !S_ISREG(there.st_mode))
        return t2t_fail(T2T_CANNOT_WRITE, "%s: is a folder or device, expected the name of a file", out);
    if (stat(out, &there) == 0 && !settings.force)
        return t2t_fail(T2T_CANNOT_WRITE, "%s: exists already; --force replaces it", out);
    return T2T_OK;
}

/* ---- what to do ---- */

static enum t2t_status convert(size_t operands, char **operand)
{
    const size_t needed = settings.install ? 1 : 2;
    if (operands != needed && !(settings.dry_run && operands == 1))
        return t2t_fail(T2T_BAD_USAGE, "expected %s, found %zu file names",
            settings.install ? "IN with --install" : "IN and OUT.safetensors", operands);
    if (settings.convert.resize % 16)
        return t2t_fail(T2T_BAD_USAGE, "--resize-pos-embed %zu: expected a multiple of 16", settings.convert.resize);
    enum t2t_status status = t2t_convert_check_metadata(&settings.convert.metadata);
    char *installed = NULL;
    if (!status && settings.install) status = t2t_weights_installed(&installed);
    const char *out = settings.install ? installed : operands == 2 ? operand[1] : NULL;
    if (!status && out) status = check_target(operand[0], out);
    if (!status && out && !settings.install && !settings.dry_run) status = t2t_output_check(out);
    settings.convert.make_folders = settings.install;
    if (!status) status = t2t_convert_file(operand[0], settings.dry_run ? NULL : out, &settings.convert);
    free(installed);
    return status;
}

static enum t2t_status run(size_t operands, char **operand, bool *equal)
{
    if (settings.list + settings.verify + settings.install > 1)
        return t2t_fail(T2T_BAD_USAGE, "--install, --list and --verify exclude each other");
    settings.convert.checkpoint.key = (enum t2t_weights_key)settings.key;
    if (settings.list && operands == 1) return t2t_convert_list(operand[0], &settings.convert.checkpoint);
    if (settings.list) return t2t_fail(T2T_BAD_USAGE, "--list expects one file, found %zu", operands);
    if (settings.verify && operands == 2)
        return t2t_convert_verify(operand[0], operand[1], &settings.convert.checkpoint, settings.tolerance, equal);
    if (settings.verify) return t2t_fail(T2T_BAD_USAGE, "--verify expects two files, found %zu", operands);
    return convert(operands, operand);
}

/* ---- inputs that shrink ---- */

static char shrank[T2T_MESSAGE_BYTES + 32];

/* A mapped input that another program cuts short raises a signal when it is read. */
static void input_shrank(int number)
{
    (void)number;
    (void)!write(STDERR_FILENO, shrank, strlen(shrank));
    _exit(T2T_BAD_MODEL);
}

static void answer_shrinking_inputs(size_t operands, char **operand)
{
    const bool two = settings.verify && operands == 2;
    t2t_fail(T2T_BAD_MODEL, "%s%s%s: became shorter while it was read; another program is writing to it",
        operands ? operand[0] : "", two ? " or " : "", two ? operand[1] : "");
    snprintf(shrank, sizeof shrank, "%s: %s\n", tool.name, t2t_last_error());
    sigaction(SIGBUS, &(const struct sigaction){.sa_handler = input_shrank}, NULL);
}

int main(int argc, char **argv)
{
    size_t operands;
    enum t2t_status status;
    bool equal = true;
    if (t2t_tool_begin(&tool, argc, argv, &operands, &status)) {
        answer_shrinking_inputs((size_t)argc - operands, argv + operands);
        status = run((size_t)argc - operands, argv + operands, &equal);
    }
    const int code = t2t_tool_finish(&tool, status);
    return code ? code : equal ? 0 : T2T_CHECK_FAILED;
}
