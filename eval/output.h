/* Where results go: files that appear whole or not at all, and standard output. */
#ifndef T2T_EVAL_OUTPUT_H
#define T2T_EVAL_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "layers/base/status.h"

/* Whether there is something at `path` that is written in place: a pipe, a device. */
bool t2t_output_in_place(const char *path);

/* Whether `path` could be written now ("-", standard output: always), so that a long run does not find out at its end.
 * Leaves nothing behind. T2T_CANNOT_WRITE with a sentence. */
enum t2t_status t2t_output_check(const char *path);

/* The same for a file that cannot be a pipe, a device or standard output. */
enum t2t_status t2t_output_check_file(const char *path);

/* T2T_CANNOT_WRITE where `output` is the file that is read as `input` (either may be NULL). */
enum t2t_status t2t_output_check_differs(const char *output, const char *input);

/* Writes all of `text` to a file through a temporary beside it (fsync, rename), or to standard output for "-". What is
 * there and no regular file (a pipe, a device) is written in place. */
enum t2t_status t2t_output_write(const char *path, const char *text, size_t bytes);

/* Flushes standard output. A reader that has gone away ends the program quietly, as SIGPIPE does. */
enum t2t_status t2t_output_flush(void);

#endif
