/* The header of a safetensors file: its length in 8 bytes, and so many bytes of JSON. It is read in blocks, so that what it
 * costs follows from what it holds and not from the length it states.
 *
 * Bounds: 100,000,000 bytes (the format's own limit), 200,000 JSON values, 1 MiB of text or space in one stretch.
 */
#include "weights/safetensors_header.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "weights/input_file.h"

enum {
    LENGTH_BYTES = 8,
    MAX_HEADER_BYTES = 100000000,
    MAX_HEADER_VALUES = 200000,
    MAX_RUN_BYTES = 1 << 20,
    BLOCK_BYTES = 1 << 16
};

static enum t2t_status refuse_kind(const char *path, int descriptor, uint64_t size)
{
    const enum t2t_file_kind kind = t2t_input_kind(path, descriptor, size);
    if (kind == T2T_FILE_ZIP || kind == T2T_FILE_TORCH_LEGACY || kind == T2T_FILE_PICKLE)
        return t2t_fail(T2T_BAD_MODEL,
            "%s: is a PyTorch checkpoint (%s); convert it: t2tvit-convert IN OUT.safetensors", path,
            t2t_file_kind_text(kind));
    if (kind == T2T_FILE_HTML || kind == T2T_FILE_LFS_POINTER)
        return t2t_fail(T2T_BAD_MODEL, "%s: is %s, not weights; the download went wrong, fetch the file itself", path,
            t2t_file_kind_text(kind));
    if (kind != T2T_FILE_UNKNOWN && kind != T2T_FILE_SAFETENSORS)
        return t2t_fail(T2T_BAD_MODEL, "%s: is %s, expected a safetensors file", path, t2t_file_kind_text(kind));
    return T2T_OK;
}

/* Length of the header; afterwards it is known to lie in the file and to begin with '{'. */
static enum t2t_status read_length(const char *path, int descriptor, uint64_t size, size_t *length)
{
    const enum t2t_status kind = refuse_kind(path, descriptor, size);
    if (kind) return kind;
    if (size < LENGTH_BYTES + 2)
        return t2t_fail(T2T_BAD_MODEL, "%s: has %llu bytes, too few for a safetensors file, which has at least %d",
            path, (unsigned long long)size, LENGTH_BYTES + 2);
    unsigned char beginning[LENGTH_BYTES + 1];
    const enum t2t_status status = t2t_input_read(path, descriptor, 0, beginning, sizeof beginning);
    if (status) return status;
    const uint64_t stated = t2t_little_endian(beginning, LENGTH_BYTES);
    if (stated < 2 || stated > MAX_HEADER_BYTES)
        return t2t_fail(T2T_BAD_MODEL,
            "%s: states a header length of %llu bytes, expected 2 to %d; this is no safetensors file", path,
            (unsigned long long)stated, MAX_HEADER_BYTES);
    if (stated > size - LENGTH_BYTES)
        return t2t_fail(T2T_BAD_MODEL,
            "%s: states a header length of %llu bytes but has only %llu in all; it is incomplete, fetch it again", path,
            (unsigned long long)stated, (unsigned long long)size);
    if (beginning[LENGTH_BYTES] != '{')
        return t2t_fail(T2T_BAD_MODEL, "%s: the header begins with byte 0x%02x, expected '{'; no safetensors file",
            path, beginning[LENGTH_BYTES]);
    *length = (size_t)stated;
    return T2T_OK;
}

/* What a JSON text will cost, found while it passes by: a bound of its values, the longest stretch within or between
 * them, and where it ends (padding may follow). */
struct extent {
    size_t seen, end, values, run, longest_run;
    bool in_string, escaped;
};

static void measure(struct extent *extent, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        const char c = text[i];
        extent->seen++;
        extent->run++;
        if (c == ' ' && !extent->escaped) continue;
        extent->end = extent->seen;
        if (extent->run > extent->longest_run) extent->longest_run = extent->run;
        if (extent->in_string) {
            extent->in_string = extent->escaped || c != '"';
            extent->escaped = !extent->escaped && c == '\\';
            continue;
        }
        const bool opens = c == ',' || c == '[' || c == '{';
        extent->values += opens;
        extent->in_string = c == '"';
        if (opens || c == '"') extent->run = 0;
    }
}

/* *end: of the JSON text within the header's `length` bytes. */
static enum t2t_status check_extent(const char *path, int descriptor, size_t length, size_t *end)
{
    struct extent extent = {0};
    char block[BLOCK_BYTES];
    for (size_t done = 0; done < length;) {
        const size_t bytes = length - done < sizeof block ? length - done : sizeof block;
        const enum t2t_status status = t2t_input_read(path, descriptor, LENGTH_BYTES + done, block, bytes);
        if (status) return status;
        measure(&extent, block, bytes);
        done += bytes;
    }
    *end = extent.end;
    if (extent.values > MAX_HEADER_VALUES)
        return t2t_fail(
            T2T_BAD_MODEL, "%s: the header has more than %d values, which no weights need", path, MAX_HEADER_VALUES);
    if (extent.longest_run > MAX_RUN_BYTES)
        return t2t_fail(T2T_BAD_MODEL,
            "%s: the header has a stretch of more than 1 MiB without a value, which no weights need", path);
    return T2T_OK;
}

struct reader {
    const char *path;
    int descriptor;
    size_t at, end; /* in the file */
    enum t2t_status status;
};

static size_t read_block(void *buffer, size_t room, void *data)
{
    struct reader *reader = data;
    const size_t bytes = reader->end - reader->at < room ? reader->end - reader->at : room;
    reader->status = t2t_input_read(reader->path, reader->descriptor, reader->at, buffer, bytes);
    reader->at += bytes;
    return reader->status ? (size_t)-1 : bytes;
}

enum t2t_status t2t_safetensors_header(
    json_t **header, size_t *data_begins, const char *path, int descriptor, uint64_t size)
{
    *header = NULL;
    size_t length = 0, end = 0;
    enum t2t_status status = read_length(path, descriptor, size, &length);
    if (!status) status = check_extent(path, descriptor, length, &end);
    if (status) return status;
    *data_begins = LENGTH_BYTES + length;
    struct reader reader = {.path = path, .descriptor = descriptor, .at = LENGTH_BYTES, .end = LENGTH_BYTES + end};
    json_error_t error;
    errno = 0;
    *header = json_load_callback(read_block, &reader, JSON_REJECT_DUPLICATES, &error);
    if (*header) return T2T_OK;
    if (reader.status) return reader.status;
    if (errno == ENOMEM) return t2t_fail_memory("the header", length);
    const bool duplicate = json_error_code(&error) == json_error_duplicate_key;
    return t2t_fail(T2T_BAD_MODEL, "%s: the header is not valid JSON at byte %d: %.200s%s", path, error.position,
        error.text, duplicate ? " (a name may occur only once)" : "");
}
