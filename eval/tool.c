/* The frame of a program: options in, exit code out. */
#include "eval/tool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "eval/output.h"
#include "eval/progress.h"
#include "layers/layers.h"

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *t2t_compiler(void)
{
#ifdef __clang__
    return "clang " TEXT(__clang_major__) "." TEXT(__clang_minor__) "." TEXT(__clang_patchlevel__);
#else
    return "gcc " TEXT(__GNUC__) "." TEXT(__GNUC_MINOR__) "." TEXT(__GNUC_PATCHLEVEL__);
#endif
}

/* Fails where T2TVIT_CPU asks for an instruction set that is not there. */
static enum t2t_status print_version(const struct tool *tool)
{
    struct layer_device *device;
    const enum t2t_status status = t2t_cpu_ops.open(&device, &(struct layer_device_options){.threads = 0});
    if (status) return status;
    printf("%s %s (%s; %s)\n", tool->name, T2T_VERSION, t2t_compiler(), t2t_cpu_ops.describe(device));
    t2t_cpu_ops.close(device);
    return T2T_OK;
}

static void print_help(const struct tool *tool)
{
    fputs(tool->usage, stdout);
    t2t_options_print(stdout, tool->rows, tool->row_count);
    fputs(tool->ending, stdout);
}

static char **arguments; /* until the process ends */

char *const *t2t_tool_arguments(void)
{
    static char *none[] = {NULL};
    return arguments ? arguments : none;
}

static void keep_arguments(int argc, char **argv)
{
    arguments = calloc((size_t)argc + 1, sizeof *arguments);
    for (int i = 0; i < argc && arguments; i++) arguments[i] = argv[i];
}

/* A standard stream that is closed would be the next file that is opened; this way reading or writing it fails. */
static void fill_closed_streams(void)
{
    for (int stream = 0; stream <= STDERR_FILENO; stream++)
        if (fcntl(stream, F_GETFD) < 0 && errno == EBADF) {
            const int same = open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
            assert(same < 0 || same == stream);
        }
}

bool t2t_tool_begin(const struct tool *tool, int argc, char **argv, size_t *operands, enum t2t_status *status)
{
    fill_closed_streams();
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is then a write error with a sentence */
    setlocale(LC_CTYPE, "");  /* only to know whether the terminal takes UTF-8; numbers keep their point */
    keep_arguments(argc, argv);
    *status = t2t_options_parse(tool->rows, tool->row_count, argc, argv, operands);
    struct common_options *common = tool->common;
    t2t_console_open(tool->name, common->quiet ? 0 : 1 + common->verbose, (enum console_color)common->color,
        (enum progress_style)common->progress);
    if (*status) return false;
    if (common->help)
        print_help(tool);
    else if (common->version)
        *status = print_version(tool);
    return !common->help && !common->version;
}

void t2t_tool_warn_load(void)
{
    static const double quiet = 0.5; /* what this program itself and the shell may have added */
    double busy;
    if (getloadavg(&busy, 1) == 1 && busy > quiet)
        t2t_warn("other programs keep %.1f processors busy: times are then too long and their ratios unlike those of a "
                 "machine at rest",
            busy);
}

int t2t_tool_finish(const struct tool *tool, enum t2t_status status)
{
    t2t_progress_end();
    const bool failed = status != T2T_OK;
    if (failed) t2t_error("%s", t2t_last_error()); /* before flushing finds another */
    const enum t2t_status written = t2t_output_flush();
    if (!failed) status = written;
    if (status == T2T_OK) return 0;
    if (!failed) t2t_error("%s", t2t_last_error());
    if (status == T2T_BAD_USAGE) t2t_error("%s --help lists the options", tool->name);
    return (int)status;
}
