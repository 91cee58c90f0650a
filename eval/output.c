/* Writing results whole or not at all. */
#include "eval/output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "eval/interrupt.h"
#include "layers/base/new_file.h"

static enum t2t_status fail_write(const char *path)
{
    return t2t_fail(T2T_CANNOT_WRITE, "%s: cannot be written (%s)", path, strerror(errno));
}

/* A folder too, which is an error with errno later on. */
bool t2t_output_in_place(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && !S_ISREG(about.st_mode);
}

enum t2t_status t2t_output_check(const char *path)
{
    if (strcmp(path, "-") == 0) return T2T_OK;
    if (t2t_output_in_place(path)) {
        const int file = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        if (file < 0 && errno != ENXIO) return fail_write(path); /* ENXIO: a pipe whose reader is yet to come */
        if (file >= 0) close(file);
        return T2T_OK;
    }
    struct t2t_new_file file;
    const enum t2t_status status = t2t_new_file_begin(&file, path);
    if (!status) t2t_new_file_end(&file, T2T_CANNOT_WRITE); /* it was to see */
    return status;
}

enum t2t_status t2t_output_check_file(const char *path)
{
    if (strcmp(path, "-") == 0 || t2t_output_in_place(path))
        return t2t_fail(T2T_CANNOT_WRITE, "%s: is a folder, a pipe or a device, expected the name of a file", path);
    return t2t_output_check(path);
}

enum t2t_status t2t_output_check_differs(const char *output, const char *input)
{
    struct stat one, other;
    if (!output || !input || stat(output, &one) != 0 || stat(input, &other) != 0) return T2T_OK;
    if (!S_ISREG(one.st_mode) || one.st_dev != other.st_dev || one.st_ino != other.st_ino) return T2T_OK;
    return t2t_fail(T2T_CANNOT_WRITE, "%s: is read by this run, and would be replaced by its output", output);
}

static bool write_all(int file, const char *text, size_t bytes)
{
    while (bytes) {
        const ssize_t written = write(file, text, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        text += written;
        bytes -= (size_t)written;
    }
    return true;
}

static enum t2t_status write_special(const char *path, const char *text, size_t bytes)
{
    const int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return fail_write(path);
    const bool written = write_all(file, text, bytes);
    const enum t2t_status status = written ? T2T_OK : fail_write(path);
    if (close(file) != 0 && !status) return fail_write(path);
    return status;
}

static enum t2t_status write_regular(const char *path, const char *text, size_t bytes)
{
    struct t2t_new_file file;
    enum t2t_status status = t2t_new_file_begin(&file, path);
    if (status) return status;
    status = t2t_new_file_write(&file, text, bytes);
    return t2t_new_file_end(&file, status);
}

static enum t2t_status fail_standard_output(void)
{
    if (errno == EPIPE) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    return t2t_fail(
        T2T_CANNOT_WRITE, "standard output cannot be written%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
}

enum t2t_status t2t_output_write(const char *path, const char *text, size_t bytes)
{
    if (strcmp(path, "-") == 0)
        return fwrite(text, 1, bytes, stdout) == bytes ? t2t_output_flush() : fail_standard_output();
    if (t2t_output_in_place(path)) return write_special(path, text, bytes);
    t2t_interrupt_defer(); /* a second signal ends the process, but not between the temporary and its name */
    const enum t2t_status status = write_regular(path, text, bytes);
    t2t_interrupt_resume();
    return status;
}

enum t2t_status t2t_output_flush(void)
{
    errno = 0;
    return fflush(stdout) == 0 && !ferror(stdout) ? T2T_OK : fail_standard_output();
}
