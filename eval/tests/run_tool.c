/* Programs as a user runs them; see run_tool.h. */
#include "eval/tests/run_tool.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST_ARGUMENTS = 16 };

const char *run_program;
char run_folder[] = "/tmp/t2tvit_command_XXXXXX";
char run_out[64], run_in[64];
static char said[64];

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
    snprintf(said, sizeof said, "%s/said", run_folder);
    return setenv("XDG_DATA_HOME", run_folder, 1);
}

int run_remove_folder(void **state)
{
    (void)state;
    unlink(run_out);
    unlink(run_in);
    unlink(said);
    return rmdir(run_folder);
}

size_t run_files_in_folder(void)
{
    DIR *open_folder = opendir(run_folder);
    assert_non_null(open_folder);
    size_t count = 0;
    while (readdir(open_folder)) count++;
    closedir(open_folder);
    return count - 2;
}

static void read_said(char text[RUN_TEXT_BYTES])
{
    FILE *file = fopen(said, "r");
    assert_non_null(file);
    text[fread(text, 1, RUN_TEXT_BYTES - 1, file)] = '\0';
    fclose(file);
    unlink(said);
}

struct run_result run_tool(const char *const *arguments)
{
    char *all[MOST_ARGUMENTS] = {strdup(run_program)};
    for (size_t i = 0; arguments[i]; i++) {
        assert_true(i + 2 < MOST_ARGUMENTS);
        all[i + 1] = strdup(arguments[i]);
    }
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const int to = open(said, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (to < 0 || dup2(to, 1) < 0 || dup2(to, 2) < 0) _exit(125);
        close(to);
        execv(run_program, all);
        _exit(126);
    }
    int status;
    struct rusage usage;
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    clock_gettime(CLOCK_MONOTONIC, &after);
    for (size_t i = 0; i < MOST_ARGUMENTS; i++) free(all[i]);
    struct run_result result = {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
        .seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9,
        .most_bytes = (size_t)usage.ru_maxrss * 1024};
    read_said(result.text);
    return result;
}

void run_expect(const struct run_result *result, int code, const char *word)
{
    if (result->code != code || !strstr(result->text, word))
        fail_msg("exit code %d, expected %d with \"%s\":\n%s", result->code, code, word, result->text);
}
