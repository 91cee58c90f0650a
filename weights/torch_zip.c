/* The form torch.save writes since PyTorch 1.6: a zip archive of TOP/data.pkl, TOP/data/KEY for each storage, and
 * TOP/byteorder. libarchive unpacks and checks checksums; what it finds must be what the directory says.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weights/torch_stream.h"

enum { BLOCK_BYTES = 1 << 16, MOST_RATIO = 20 };
#define MOST_UNPACKED_BYTES (UINT64_C(4) << 30)
#define ALWAYS_UNPACKED_BYTES (UINT64_C(64) << 20)

static enum t2t_status bad(const struct torch_stream *stream, const char *what)
{
    return t2t_fail(T2T_BAD_MODEL, "%s: %s", stream->path, what);
}

static enum t2t_status archive_failed(const struct torch_stream *stream, struct archive *archive)
{
    if (archive_errno(archive) == ENOMEM) return t2t_fail_memory("unpacking a zip archive", BLOCK_BYTES);
    const char *why = archive_error_string(archive);
    return t2t_fail(T2T_BAD_MODEL, "%s: the zip archive cannot be unpacked (%s); it is damaged, fetch it again",
        stream->path, why ? why : "no reason given");
}

/* ---- one pass over the archive ---- */

/* Reads an entry to its end, where its checksum is checked; into `to`, which has room for it, unless that is NULL. */
static enum t2t_status unpack_entry(
    const struct torch_stream *stream, struct archive *archive, const struct zip_entry *entry, unsigned char *to)
{
    unsigned char block[BLOCK_BYTES];
    for (uint64_t done = 0; done < entry->size;) {
        const uint64_t left = entry->size - done;
        const size_t bytes = to || left < sizeof block ? (size_t)left : sizeof block;
        const la_ssize_t got = archive_read_data(archive, to ? to + done : block, bytes);
        if (got < 0) return archive_failed(stream, archive);
        if (got == 0) return bad(stream, "an entry of the zip archive is shorter than stated; it is damaged");
        done += (uint64_t)got;
    }
    const la_ssize_t more = archive_read_data(archive, block, 1);
    if (more < 0) return archive_failed(stream, archive);
    return more ? bad(stream, "an entry of the zip archive is longer than stated; it is damaged") : T2T_OK;
}

/* Entry i of the directory goes to to[i]; where that is NULL it is skipped, or with check_all read all the same. What
 * comes after the last that is wanted is left alone. */
static enum t2t_status unpack_entries(
    const struct torch_stream *stream, struct archive *archive, unsigned char *const *to, bool check_all)
{
    const struct zip_directory *directory = &stream->directory;
    size_t count = directory->count;
    while (!check_all && count && !to[count - 1]) count--;
    for (size_t i = 0; i < count; i++) {
        const struct zip_entry *entry = &directory->entries[i];
        struct archive_entry *found;
        if (archive_read_next_header(archive, &found) != ARCHIVE_OK) return archive_failed(stream, archive);
        const char *name = archive_entry_pathname(found);
        if (!name || strcmp(name, entry->name) != 0 || archive_entry_size(found) != (la_int64_t)entry->size)
            return bad(stream, "the zip archive and its directory name different entries; it is damaged");
        const enum t2t_status status = to[i] || check_all ? unpack_entry(stream, archive, entry, to[i]) : T2T_OK;
        if (status) return status;
    }
    return T2T_OK;
}

static enum t2t_status unpack(const struct torch_stream *stream, unsigned char *const *to, bool check_all)
{
    struct archive *archive = archive_read_new();
    if (!archive) return t2t_fail_memory("a zip archive", BLOCK_BYTES);
    /* names are compared as bytes: nothing may hinge on the user's locale */
    const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    const locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    enum t2t_status status = T2T_OK;
    if (lseek(stream->descriptor, 0, SEEK_SET) || archive_read_support_format_zip_seekable(archive) != ARCHIVE_OK ||
        archive_read_open_fd(archive, stream->descriptor, BLOCK_BYTES) != ARCHIVE_OK)
        status = archive_failed(stream, archive);
    if (!status) status = unpack_entries(stream, archive, to, check_all);
    archive_read_free(archive);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    return status;
}

/* ---- which entry is which ---- */

/* "archive" of "archive/data.pkl" and no longer name; NULL for other names. */
static const char *top_of(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash && slash != name && strcmp(slash, "/data.pkl") == 0 ? slash : NULL;
}

static bool has_folder(const struct zip_directory *directory, const char *folder)
{
    for (size_t i = 0; i < directory->count; i++) {
        const char *slash = strchr(directory->entries[i].name, '/');
        if (slash && strncmp(slash, folder, strlen(folder)) == 0) return true;
    }
    return false;
}

/* Finds the one data.pkl; the entries beside it are the checkpoint's. */
static enum t2t_status find_pickle(struct torch_stream *stream, size_t *number)
{
    const struct zip_directory *directory = &stream->directory;
    uint64_t total = 0;
    size_t found = 0;
    for (size_t i = 0; i < directory->count; i++) {
        const char *slash = top_of(directory->entries[i].name);
        if (__builtin_add_overflow(total, directory->entries[i].size, &total) || total > MOST_UNPACKED_BYTES)
            return bad(stream, "the zip archive would unpack to more than 4 GiB");
        if (!slash) continue;
        *number = i;
        stream->top_bytes = (size_t)(slash - directory->entries[i].name) + 1;
        found++;
    }
    if (total > ALWAYS_UNPACKED_BYTES && total / MOST_RATIO > stream->size)
        return bad(stream, "the zip archive would unpack to more than 20 times its size, which no weights do");
    if (has_folder(directory, "/code/") || has_folder(directory, "/constants.pkl"))
        return bad(stream, "is a TorchScript archive, a program; save the state_dict() of the module instead");
    if (found == 1) return T2T_OK;
    return bad(stream, found ? "the zip archive holds more than one data.pkl"
                             : "is a zip archive, but not one of torch.save: it holds no FOLDER/data.pkl");
}

/* Name of entry `number` without the top folder; NULL when it lies elsewhere. */
static const char *name_in_top(const struct torch_stream *stream, size_t pickle, size_t number)
{
    const struct zip_entry *entries = stream->directory.entries;
    return strncmp(entries[number].name, entries[pickle].name, stream->top_bytes) == 0
               ? entries[number].name + stream->top_bytes
               : NULL;
}

static size_t find_in_top(const struct torch_stream *stream, size_t pickle, const char *wanted)
{
    for (size_t i = 0; i < stream->directory.count; i++) {
        const char *name = name_in_top(stream, pickle, i);
        if (name && strcmp(name, wanted) == 0) return i;
    }
    return stream->directory.count;
}

/* ---- opening ---- */

static enum t2t_status check_byte_order(const struct torch_stream *stream, const unsigned char *order, size_t bytes)
{
    if (bytes == 6 && memcmp(order, "little", 6) == 0) return T2T_OK;
    if (bytes == 3 && memcmp(order, "big", 3) == 0)
        return bad(
            stream, "was written in big-endian order, which is not read; load it with PyTorch and save it again");
    return bad(stream, "states a byte order that is neither little nor big; it is damaged");
}

enum { MOST_ORDER_BYTES = 16 };

/* Unpacks the pickle and, where there is one, the byte order. */
static enum t2t_status unpack_pickle(struct torch_stream *stream, size_t pickle)
{
    const struct zip_entry *entries = stream->directory.entries;
    if (entries[pickle].size > T2T_PICKLE_MAX_BYTES) return bad(stream, "its data.pkl is larger than 16 MiB");
    const size_t order = find_in_top(stream, pickle, "byteorder"), bytes = (size_t)entries[pickle].size;
    const bool ordered = order < stream->directory.count;
    if (ordered && entries[order].size > MOST_ORDER_BYTES) return check_byte_order(stream, NULL, 0);
    unsigned char order_text[MOST_ORDER_BYTES];
    stream->bytes = malloc(bytes + 1);
    unsigned char **to = calloc(stream->directory.count, sizeof *to);
    enum t2t_status status = stream->bytes && to ? T2T_OK : t2t_fail_memory("a pickle", bytes);
    if (!status) {
        to[pickle] = stream->bytes;
        if (ordered) to[order] = order_text;
        status = unpack(stream, to, false);
    }
    free(to);
    if (!status && ordered) status = check_byte_order(stream, order_text, (size_t)entries[order].size);
    if (!status) status = t2t_pickle_read(&stream->pickle, stream->path, stream->bytes, bytes, 0);
    if (!status && stream->pickle.end != bytes)
        status = bad(stream, "its data.pkl goes on after its end; it is damaged");
    return status;
}

/* Finds every storage's entry: places[i] is its number in the directory and one more. */
static enum t2t_status place_storages(struct torch_stream *stream, size_t pickle_entry)
{
    static const char folder[] = "data/";
    const struct pickle *pickle = &stream->pickle;
    for (size_t i = 0; i < stream->directory.count; i++) {
        const char *name = name_in_top(stream, pickle_entry, i);
        if (!name || strncmp(name, folder, sizeof folder - 1) != 0) continue;
        const char *key = name + sizeof folder - 1;
        const size_t number = t2t_pickle_find_storage(pickle, key, strlen(key));
        if (number < pickle->storage_count) stream->places[number] = i + 1;
    }
    for (size_t i = 0; i < pickle->storage_count; i++) {
        const struct pickle_text key = pickle->storages[i].key;
        const char *text = (const char *)pickle->bytes + key.offset;
        if (!stream->places[i])
            return t2t_fail(T2T_BAD_MODEL,
                "%s: the zip archive holds no data/%.*s, which a tensor needs; it is damaged", stream->path,
                (int)key.bytes, text);
        const uint64_t size = stream->directory.entries[stream->places[i] - 1].size;
        if (size != t2t_storage_bytes(&pickle->storages[i]))
            return t2t_fail(T2T_BAD_MODEL, "%s: data/%.*s has %llu bytes, its tensor needs %zu; it is damaged",
                stream->path, (int)key.bytes, text, (unsigned long long)size, t2t_storage_bytes(&pickle->storages[i]));
    }
    return T2T_OK;
}

enum t2t_status t2t_torch_zip_open(struct torch_stream *stream)
{
    enum t2t_status status = t2t_zip_directory_read(&stream->directory, stream->path, stream->descriptor, stream->size);
    size_t pickle = 0;
    if (!status) status = find_pickle(stream, &pickle);
    if (!status) status = unpack_pickle(stream, pickle);
    if (!status) status = t2t_torch_stream_prepare(stream);
    if (!status) status = place_storages(stream, pickle);
    return status;
}

enum t2t_status t2t_torch_zip_load(struct torch_stream *stream, const bool *wanted)
{
    enum t2t_status status = t2t_torch_stream_reserve(stream, wanted);
    if (status) return status;
    unsigned char **to = calloc(stream->directory.count, sizeof *to);
    if (!to) return t2t_fail_memory("a list of storages", stream->directory.count * sizeof *to);
    for (size_t i = 0; i < stream->pickle.storage_count; i++)
        if (wanted[i]) to[stream->places[i] - 1] = stream->data[i];
    status = unpack(stream, to, true);
    free(to);
    return status;
}
