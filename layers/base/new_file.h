/* Files that appear whole or not at all: written to a temporary beside the target, synced, renamed, the folder synced. */
#ifndef T2T_LAYERS_BASE_NEW_FILE_H
#define T2T_LAYERS_BASE_NEW_FILE_H

#include <signal.h>
#include <stddef.h>

#include "layers/base/status.h"

struct t2t_new_file {
    const char *path; /* where it is to be; must outlive the file */
    char *temporary;
    int descriptor;
    sigset_t before; /* the thread's signal mask, which holds signals back meanwhile */
};

/* Makes the temporary. T2T_CANNOT_WRITE, also when something other than a file is at `path`; then nothing is to be
 * closed. From here to the end SIGHUP, SIGINT, SIGTERM and SIGXFSZ are held back, so that nothing stays behind. */
enum t2t_status t2t_new_file_begin(struct t2t_new_file *file, const char *path);

/* Appends. T2T_CANNOT_WRITE also when a signal is waiting that will end the process. */
enum t2t_status t2t_new_file_write(struct t2t_new_file *file, const void *data, size_t bytes);

/* With T2T_OK: makes the file what is at `path`, or leaves that as it was and says why. With any other status: removes
 * the temporary and returns that status. */
enum t2t_status t2t_new_file_end(struct t2t_new_file *file, enum t2t_status status);

#endif
