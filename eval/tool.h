/* What every program of this folder does alike: --help, --version, the last sentence and the exit code. */
#ifndef T2T_EVAL_TOOL_H
#define T2T_EVAL_TOOL_H

#include <stdbool.h>
#include <stddef.h>

#include "eval/options.h"
#include "layers/base/status.h"

enum {
    T2T_CHECK_FAILED = 1
}; /* exit code: it ran, but a check that was asked for failed; the others: enum t2t_status */

struct common_options {
    bool help, version, quiet;
    size_t verbose;
    int color, progress; /* index of the chosen word */
};

/* The last rows of every tool's table. */
#define COMMON_OPTION_ROWS(common)                                                                                     \
    {.type = OPTION_SECTION, .help = "Messages (on standard error; standard output holds results only):"},             \
        {OPTION_SWITCH, 'q', "quiet", NULL, "errors only", &(common)->quiet, 0, 0},                                    \
        {OPTION_COUNT, 'v', "verbose", NULL, "also say what was chosen and how long it took", &(common)->verbose, 0,   \
            0},                                                                                                        \
        {OPTION_CHOICE, 0, "color", "auto|always|never", "colours in messages", &(common)->color, 0, 0},               \
        {OPTION_CHOICE, 0, "progress", "auto|bar|lines|none", "bar on a terminal, else a few lines",                   \
            &(common)->progress, 0, 0},                                                                                \
        {OPTION_SWITCH, 'h', "help", NULL, "this text", &(common)->help, 0, 0},                                        \
    {                                                                                                                  \
        OPTION_SWITCH, 'V', "version", NULL, "version, compiler, instruction set", &(common)->version, 0, 0            \
    }

struct tool {
    const char *name;
    const char *usage;  /* "usage: ..." and what the tool does, before the options */
    const char *ending; /* after the options: examples, exit codes */
    const struct option_row *rows;
    size_t row_count;
    struct common_options *common;
};

/* Prepares the process, parses, and answers --help and --version. Returns true when there is work to do; otherwise
 * *status is what to finish with. */
bool t2t_tool_begin(const struct tool *tool, int argc, char **argv, size_t *operands, enum t2t_status *status);

/* The command line as it was given (parsing permutes argv), ended by NULL. */
char *const *t2t_tool_arguments(void);

/* Prints the last sentence where status is a failure, flushes standard output, and gives main()'s return value. */
int t2t_tool_finish(const struct tool *tool, enum t2t_status status);

/* "gcc 12.2.0". */
const char *t2t_compiler(void);

#endif
