/* Temporary, fsync, rename, fsync of the folder; see new_file.h.
 *
 * A signal that would end the process waits until the temporary is gone; what was being written is given up then. A file
 * size limit is an error like a full disk.
 */
#include "layers/base/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST_AT_ONCE = 1 << 24, MOST_ATTEMPTS = 1000 };

static const int ending[] = {SIGHUP, SIGINT, SIGTERM};

static enum t2t_status cannot(const char *path, const char *what)
{
    return t2t_fail(T2T_CANNOT_WRITE, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* ---- signals ---- */

static void hold_signals(sigset_t *before)
{
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGXFSZ);
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) sigaddset(&held, ending[i]);
    pthread_sigmask(SIG_BLOCK, &held, before);
}

static void release_signals(const sigset_t *before)
{
    if (!sigismember(before, SIGXFSZ)) { /* it has been answered by the status */
        sigset_t size_limit;
        sigemptyset(&size_limit);
        sigaddset(&size_limit, SIGXFSZ);
        sigtimedwait(&size_limit, NULL, &(const struct timespec){0});
    }
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* Whether one of them waits that this file holds back and nobody ignores. */
static bool is_ending(const sigset_t *before)
{
    sigset_t waiting;
    if (sigpending(&waiting)) return false;
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++) {
        struct sigaction action;
        if (sigismember(&waiting, ending[i]) && !sigismember(before, ending[i]) &&
            sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            return true;
    }
    return false;
}

/* ---- the file ---- */

/* A new file in the folder of `path`. Its name does not grow with the target's, which may be as long as names can be. */
static enum t2t_status open_beside(struct t2t_new_file *file)
{
    const char *slash = strrchr(file->path, '/');
    const int folder = slash ? (int)(slash - file->path) + 1 : 0;
    const size_t bytes = (size_t)folder + 64;
    if (!(file->temporary = malloc(bytes))) return t2t_fail_memory("a file name", bytes);
    for (unsigned attempt = 0;; attempt++) {
        snprintf(file->temporary, bytes, "%.*s.t2tvit-%ld-%u.tmp", folder, file->path, (long)getpid(), attempt);
        file->descriptor = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file->descriptor >= 0) return T2T_OK;
        if ((errno == EEXIST && attempt < MOST_ATTEMPTS) || errno == EINTR) continue;
        return cannot(file->path, "be created");
    }
}

enum t2t_status t2t_new_file_begin(struct t2t_new_file *file, const char *path)
{
    *file = (struct t2t_new_file){.path = path, .descriptor = -1};
    struct stat there;
    if (*path == '\0') return t2t_fail(T2T_CANNOT_WRITE, "the name of a file to write is empty");
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
        return t2t_fail(T2T_CANNOT_WRITE, "%s: is a folder or device, expected the name of a file", path);
    hold_signals(&file->before);
    const enum t2t_status status = open_beside(file);
    if (status) {
        free(file->temporary);
        release_signals(&file->before);
    }
    return status;
}

enum t2t_status t2t_new_file_write(struct t2t_new_file *file, const void *data, size_t bytes)
{
    for (const char *from = data; bytes;) {
        if (is_ending(&file->before)) return t2t_fail(T2T_CANNOT_WRITE, "%s: interrupted, not written", file->path);
        const ssize_t written = write(file->descriptor, from, bytes < MOST_AT_ONCE ? bytes : MOST_AT_ONCE);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && errno == EFAULT) /* of a mapping */
            return t2t_fail(
                T2T_CANNOT_WRITE, "%s: cannot be written: the file its data comes from has become shorter", file->path);
        if (written < 0) return cannot(file->path, "be written");
        from += written;
        bytes -= (size_t)written;
    }
    return T2T_OK;
}

static enum t2t_status sync_and_close(struct t2t_new_file *file)
{
    enum t2t_status status = T2T_OK;
    while (!status && fsync(file->descriptor))
        if (errno != EINTR) status = cannot(file->path, "be synced to the disk");
    if (close(file->descriptor) && errno != EINTR && !status) status = cannot(file->path, "be written");
    file->descriptor = -1;
    return status;
}

/* Makes the new name last through a power failure. Whatever this finds, the file is whole: old or new. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    const int descriptor = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (descriptor >= 0) {
        fsync(descriptor);
        close(descriptor);
    }
    free(folder);
}

enum t2t_status t2t_new_file_end(struct t2t_new_file *file, enum t2t_status status)
{
    if (!status) status = sync_and_close(file);
    if (!status && is_ending(&file->before))
        status = t2t_fail(T2T_CANNOT_WRITE, "%s: interrupted, not written", file->path);
    if (!status && rename(file->temporary, file->path)) status = cannot(file->path, "take its name");
    if (status)
        unlink(file->temporary);
    else
        sync_folder(file->path);
    if (file->descriptor >= 0) close(file->descriptor);
    free(file->temporary);
    release_signals(&file->before);
    return status;
}
