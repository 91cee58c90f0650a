/* Running programs; see command.h. */
#include "eval/tests/command.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST_ARGUMENTS = 64, MOST_TEXT = 1 << 22, MOST_OPEN = 16 };

static char out_text[MOST_TEXT], error_text[MOST_TEXT], all_text[2 * MOST_TEXT];

/* ---- programs ---- */

static _Noreturn void become(const char *program, char **arguments, const struct command *command)
{
    const int nothing = open("/dev/null", O_RDONLY);
    if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(command->out, 1) < 0 || dup2(command->error, 2) < 0) _exit(125);
    close(nothing);
    execv(program, arguments);
    _exit(126);
}

struct command command_start(const char *program, const char *const *arguments)
{
    char *all[MOST_ARGUMENTS] = {(char *)(uintptr_t)program};
    for (size_t i = 0; arguments[i]; i++) {
        assert_true(i + 2 < MOST_ARGUMENTS);
        all[i + 1] = (char *)(uintptr_t)arguments[i];
    }
    struct command command = {.out = memfd_create("out", MFD_CLOEXEC), .error = memfd_create("error", MFD_CLOEXEC)};
    assert_true(command.out >= 0 && command.error >= 0);
    clock_gettime(CLOCK_MONOTONIC, &command.begin);
    command.process = fork();
    assert_true(command.process >= 0);
    if (command.process == 0) become(program, all, &command);
    return command;
}

static void read_text(int file, char text[MOST_TEXT])
{
    size_t bytes = 0;
    for (ssize_t got; bytes < MOST_TEXT - 1; bytes += (size_t)got)
        if ((got = pread(file, text + bytes, MOST_TEXT - 1 - bytes, (off_t)bytes)) <= 0) break;
    text[bytes] = '\0';
}

const char *command_said(const struct command *command)
{
    read_text(command->error, error_text);
    return error_text;
}

struct result command_finish(struct command *command)
{
    int status;
    struct rusage usage;
    struct timespec end;
    assert_int_equal(wait4(command->process, &status, 0, &usage), command->process);
    clock_gettime(CLOCK_MONOTONIC, &end);
    read_text(command->out, out_text);
    read_text(command->error, error_text);
    close(command->out);
    close(command->error);
    snprintf(all_text, sizeof all_text, "%s%s", out_text, error_text);
    return (struct result){.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
        .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
        .seconds = (double)(end.tv_sec - command->begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - command->begin.tv_nsec),
        .most_bytes = (size_t)usage.ru_maxrss * 1024,
        .out = out_text,
        .error = error_text,
        .text = all_text};
}

struct result command_run(const char *program, const char *const *arguments)
{
    struct command command = command_start(program, arguments);
    return command_finish(&command);
}

void command_expect(const struct result *result, int code, const char *word)
{
    if (result->code != code || !strstr(result->text, word))
        fail_msg("exit code %d, expected %d with \"%s\":\n%s", result->code, code, word, result->text);
}

/* ---- files ---- */

size_t files_in(const char *path)
{
    DIR *folder = opendir(path);
    assert_non_null(folder);
    size_t count = 0;
    while (readdir(folder)) count++;
    closedir(folder);
    return count - 2;
}

static int remove_entry(const char *path, const struct stat *about, int type, struct FTW *place)
{
    (void)about;
    (void)type;
    (void)place;
    return remove(path);
}

int remove_all(const char *path)
{
    return nftw(path, remove_entry, MOST_OPEN, FTW_DEPTH | FTW_PHYS);
}

char *file_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("%s: cannot be opened", path);
    char *text = malloc(MOST_TEXT);
    assert_non_null(text);
    text[fread(text, 1, MOST_TEXT - 1, file)] = '\0';
    fclose(file);
    return text;
}

void write_file(const char *path, const char *text, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file) fail_msg("%s: cannot be written", path);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}
