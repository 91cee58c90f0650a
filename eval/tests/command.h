/* Running a program as a user does: what it said on which stream, how it ended, what it took. */
#ifndef T2T_EVAL_TESTS_COMMAND_H
#define T2T_EVAL_TESTS_COMMAND_H

#include <stddef.h>
#include <sys/types.h>
#include <time.h>

/* The texts belong to command.c and live until the next result. */
struct result {
    int code;   /* -1: ended by a signal */
    int signal; /* that one, else 0 */
    double seconds;
    size_t most_bytes;       /* resident */
    const char *out, *error; /* standard output, standard error */
    const char *text;        /* one after the other */
};

/* A program that runs. Its standard input is empty. */
struct command {
    pid_t process;
    int out, error;
    struct timespec begin;
};

/* Starts a program with arguments that end with NULL. */
struct command command_start(const char *program, const char *const *arguments);
/* What it has said on standard error until now. */
const char *command_said(const struct command *command);
/* Waits until it ends. */
struct result command_finish(struct command *command);
/* Start and finish. */
struct result command_run(const char *program, const char *const *arguments);

/* Fails the test unless the program ended with this code and said `word` somewhere. */
void command_expect(const struct result *result, int code, const char *word);

/* ---- files ---- */

/* Entries of a folder, "." and ".." left out. */
size_t files_in(const char *path);
/* Removes a folder with everything in it, following no links. */
int remove_all(const char *path);
/* The whole file, to be freed. */
char *file_text(const char *path);
void write_file(const char *path, const char *text, size_t bytes);

#endif
