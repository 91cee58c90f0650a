/* Writing safetensors: whole or not at all.
 *
 * All goes to a temporary file beside the target, is synced, and takes the target's name in one step. Signals that
 * would end the process are held back meanwhile, so that the temporary never stays behind; a file size limit then is
 * an error like a full disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "weights/safetensors.h"

enum { LENGTH_BYTES = 8, ALIGNMENT = 64, MAX_HEADER_BYTES = 100000000, MOST_AT_ONCE = 1 << 28 };

static size_t tensor_bytes(const struct t2t_tensor *tensor)
{
    size_t bytes = t2t_dtype_bytes(tensor->dtype);
    for (size_t i = 0; i < tensor->rank; i++) bytes *= tensor->shape[i];
    return bytes;
}

/* ---- the header ---- */

static json_t *describe(const struct t2t_tensor *tensor, json_int_t begin)
{
    json_t *shape = json_array();
    for (size_t i = 0; i < tensor->rank; i++) json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i]));
    if (json_array_size(shape) != tensor->rank) { /* out of memory */
        json_decref(shape);
        return NULL;
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", t2t_dtype_name(tensor->dtype), "shape", shape, "data_offsets",
        begin, begin + (json_int_t)tensor_bytes(tensor));
}

/* Adds a name that is valid UTF-8 and not there yet. */
static enum t2t_status add(const char *path, json_t *to, const char *name, json_t *value)
{
    if (json_object_get(to, name)) {
        json_decref(value);
        return t2t_fail(T2T_CANNOT_WRITE, "%s: cannot hold two entries of the name %.200s", path, name);
    }
    if (json_object_set_new(to, name, value) == 0) return T2T_OK;
    return t2t_fail(T2T_CANNOT_WRITE, "%s: entry %.200s cannot be written: not UTF-8, or out of memory", path, name);
}

static enum t2t_status make_header(const char *path, const struct t2t_tensor *tensors, size_t count,
    const struct t2t_metadata *metadata, size_t metadata_count, json_t *header)
{
    enum t2t_status status = T2T_OK;
    if (metadata_count) {
        json_t *pairs = json_object();
        status = add(path, header, "__metadata__", pairs);
        for (size_t i = 0; i < metadata_count && !status; i++)
            status = add(path, pairs, metadata[i].key, json_string(metadata[i].value));
    }
    size_t begin = 0;
    for (size_t i = 0; i < count && !status; i++) {
        status = add(path, header, tensors[i].name, describe(&tensors[i], (json_int_t)begin));
        begin += tensor_bytes(&tensors[i]);
    }
    return status;
}

/* The length and the JSON text, padded so that the data begins at a multiple of 64 bytes. NULL without memory. */
static char *header_text(const json_t *header, size_t *bytes)
{
    const size_t length = json_dumpb(header, NULL, 0, JSON_COMPACT);
    *bytes = (LENGTH_BYTES + length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    char *text = length ? malloc(*bytes) : NULL;
    if (!text) return NULL;
    memset(text, ' ', *bytes);
    const size_t stated = *bytes - LENGTH_BYTES;
    for (size_t i = 0; i < LENGTH_BYTES; i++) text[i] = (char)(unsigned char)(stated >> 8 * i);
    if (json_dumpb(header, text + LENGTH_BYTES, length, JSON_COMPACT) == length) return text;
    free(text);
    return NULL;
}

/* ---- the file ---- */

static enum t2t_status cannot(const char *path, const char *what)
{
    return t2t_fail(T2T_CANNOT_WRITE, "%s: cannot %s: %s", path, what, strerror(errno));
}

static enum t2t_status write_all(const char *path, int descriptor, const void *data, size_t bytes)
{
    for (const char *from = data; bytes;) {
        const ssize_t written = write(descriptor, from, bytes < MOST_AT_ONCE ? bytes : MOST_AT_ONCE);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return cannot(path, "be written");
        from += written;
        bytes -= (size_t)written;
    }
    return T2T_OK;
}

static enum t2t_status write_contents(const char *path, int descriptor, const char *header, size_t header_bytes,
    const struct t2t_tensor *tensors, size_t count)
{
    enum t2t_status status = write_all(path, descriptor, header, header_bytes);
    for (size_t i = 0; i < count && !status; i++)
        status = write_all(path, descriptor, tensors[i].data, tensor_bytes(&tensors[i]));
    if (status) return status;
    while (fsync(descriptor))
        if (errno != EINTR) return cannot(path, "be synced to the disk");
    return T2T_OK;
}

/* Opens a new file in the folder of `path`; its name is to be freed. */
static enum t2t_status open_beside(const char *path, char **name, int *descriptor)
{
    const char *slash = strrchr(path, '/');
    const int folder = slash ? (int)(slash - path) + 1 : 0;
    const size_t bytes = (size_t)folder + 64;
    if (!(*name = malloc(bytes))) return t2t_fail_memory("a file name", bytes);
    for (unsigned attempt = 0;; attempt++) {
        snprintf(*name, bytes, "%.*s.t2tvit-%ld-%u.tmp", folder, path, (long)getpid(), attempt);
        *descriptor = open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*descriptor >= 0) return T2T_OK;
        if ((errno == EEXIST && attempt < 1000) || errno == EINTR) continue;
        const enum t2t_status status = cannot(path, "be created");
        free(*name);
        *name = NULL;
        return status;
    }
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

static enum t2t_status replace(
    const char *path, const char *header, size_t header_bytes, const struct t2t_tensor *tensors, size_t count)
{
    struct stat there;
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode))
        return t2t_fail(T2T_CANNOT_WRITE, "%s: is a folder or device, expected the name of a file", path);
    char *temporary;
    int descriptor = -1;
    enum t2t_status status = open_beside(path, &temporary, &descriptor);
    if (status) return status;
    status = write_contents(path, descriptor, header, header_bytes, tensors, count);
    close(descriptor);
    if (!status && rename(temporary, path)) status = cannot(path, "take its name");
    if (status)
        unlink(temporary);
    else
        sync_folder(path);
    free(temporary);
    return status;
}

static enum t2t_status replace_undisturbed(
    const char *path, const char *header, size_t header_bytes, const struct t2t_tensor *tensors, size_t count)
{
    sigset_t held, before, size_limit;
    sigemptyset(&held);
    sigaddset(&held, SIGHUP);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    sigaddset(&held, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &held, &before);
    const enum t2t_status status = replace(path, header, header_bytes, tensors, count);
    if (!sigismember(&before, SIGXFSZ)) { /* it has been answered by the status */
        sigemptyset(&size_limit);
        sigaddset(&size_limit, SIGXFSZ);
        sigtimedwait(&size_limit, NULL, &(const struct timespec){0});
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

enum t2t_status t2t_tensors_write(const char *path, const struct t2t_tensor *tensors, size_t count,
    const struct t2t_metadata *metadata, size_t metadata_count)
{
    json_t *header = json_object();
    size_t bytes = 0;
    char *text = NULL;
    enum t2t_status status = header ? make_header(path, tensors, count, metadata, metadata_count, header)
                                    : t2t_fail_memory("the header", 64);
    if (!status && !(text = header_text(header, &bytes))) status = t2t_fail_memory("the header", bytes);
    if (!status && bytes > MAX_HEADER_BYTES)
        status = t2t_fail(T2T_CANNOT_WRITE, "%s: the header would have %zu bytes, the format allows %d", path, bytes,
            MAX_HEADER_BYTES);
    if (!status) status = replace_undisturbed(path, text, bytes, tensors, count);
    free(text);
    json_decref(header);
    return status;
}
