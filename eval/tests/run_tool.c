/* The folder of t2tvit-convert's tests; see run_tool.h. */
#include "eval/tests/run_tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *run_program;
char run_folder[] = "/tmp/t2tvit_command_XXXXXX";
char run_out[64], run_in[64];

void run_tool_begin(const char *program)
{
    run_program = program;
}

int run_make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(run_folder)) return -1;
    snprintf(run_out, sizeof run_out, "%s/out.safetensors", run_folder);
    snprintf(run_in, sizeof run_in, "%s/in.pth", run_folder);
    return setenv("XDG_DATA_HOME", run_folder, 1);
}

int run_remove_folder(void **state)
{
    (void)state;
    return remove_all(run_folder);
}

size_t run_files_in_folder(void)
{
    return files_in(run_folder);
}
