/* PKWARE's APPNOTE, sections 4.3 and 4.5: end record, its 64-bit form, central directory, local headers. Names, methods,
 * sizes and checksums must agree between the two places that state them.
 */
#include "weights/zip_directory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "weights/input_file.h"

enum {
    MAX_ENTRIES = 25000,
    MAX_NAME = 512,
    MAX_DIRECTORY_BYTES = 8 << 20,
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    STORED = 0,
    DEFLATED = 8,
    MAX_RATIO = 1040 /* of deflate */
};
enum { FLAG_ENCRYPTED = 1, FLAG_DESCRIPTOR = 8, FLAG_STRONG = 64, FLAG_MASKED = 8192 };

struct reader {
    const char *path;
    int descriptor;
    uint64_t file_size;
    uint64_t begin, bytes, count; /* of the central directory */
};

struct header {
    unsigned flags, method, name_bytes, extra_bytes;
    uint32_t crc;
    uint64_t packed, size, offset;
};

static bool is(const unsigned char *at, const char *signature)
{
    return memcmp(at, signature, 4) == 0;
}

static enum t2t_status bad(const struct reader *reader, const char *what)
{
    return t2t_fail(
        T2T_BAD_MODEL, "%s: this zip archive %s; it is incomplete or damaged, fetch it again", reader->path, what);
}

/* ---- the end ---- */

/* The 64-bit end record, where a locator says that there is one: it replaces what the short one had no room for. */
static enum t2t_status read_end64(struct reader *reader, uint64_t end, uint64_t *directory_end)
{
    unsigned char locator[LOCATOR_BYTES], record[END64_BYTES];
    if (end < LOCATOR_BYTES) return T2T_OK;
    enum t2t_status status =
        t2t_input_read(reader->path, reader->descriptor, end - LOCATOR_BYTES, locator, sizeof locator);
    if (status || !is(locator, "PK\6\7")) return status;
    const uint64_t at = t2t_little_endian(locator + 8, 8);
    if (at > end - LOCATOR_BYTES || end - LOCATOR_BYTES - at < END64_BYTES)
        return bad(reader, "has a locator that leads nowhere");
    status = t2t_input_read(reader->path, reader->descriptor, at, record, sizeof record);
    if (status) return status;
    if (!is(record, "PK\6\6") || t2t_little_endian(record + 4, 8) != end - LOCATOR_BYTES - at - 12)
        return bad(reader, "has a locator that leads nowhere");
    const uint64_t count = t2t_little_endian(record + 32, 8), bytes = t2t_little_endian(record + 40, 8),
                   begin = t2t_little_endian(record + 48, 8);
    if ((reader->count != 0xffff && reader->count != count) ||
        (reader->bytes != 0xffffffff && reader->bytes != bytes) ||
        (reader->begin != 0xffffffff && reader->begin != begin) || t2t_little_endian(record + 24, 8) != count ||
        t2t_little_endian(record + 16, 8) != 0)
        return bad(reader, "has two end records that contradict each other");
    reader->count = count;
    reader->bytes = bytes;
    reader->begin = begin;
    *directory_end = at;
    return T2T_OK;
}

static enum t2t_status read_end(struct reader *reader)
{
    unsigned char tail[END_BYTES + 65535];
    const size_t bytes = reader->file_size < sizeof tail ? (size_t)reader->file_size : sizeof tail;
    const enum t2t_status status =
        t2t_input_read(reader->path, reader->descriptor, reader->file_size - bytes, tail, bytes);
    if (status) return status;
    size_t at = bytes < END_BYTES ? 0 : bytes - END_BYTES + 1;
    while (at-- > 0) {
        const unsigned char *record = tail + at;
        if (!is(record, "PK\5\6") || t2t_little_endian(record + 20, 2) != bytes - at - END_BYTES) continue;
        if (t2t_little_endian(record + 4, 4) || t2t_little_endian(record + 8, 2) != t2t_little_endian(record + 10, 2))
            return bad(reader, "is split over several disks");
        reader->count = t2t_little_endian(record + 10, 2);
        reader->bytes = t2t_little_endian(record + 12, 4);
        reader->begin = t2t_little_endian(record + 16, 4);
        const uint64_t end = reader->file_size - bytes + at;
        uint64_t directory_end = end;
        const enum t2t_status status64 = read_end64(reader, end, &directory_end);
        if (status64) return status64;
        if (reader->begin > directory_end || reader->bytes != directory_end - reader->begin)
            return bad(reader, "has a directory that does not reach to its end record");
        return T2T_OK;
    }
    return bad(reader, "has no end record");
}

/* ---- entries ---- */

/* Sizes and offset that do not fit 32 bits stand in an extra field, in this order, each only where it is needed. */
static bool widen(struct header *header, const unsigned char *extra)
{
    uint64_t *const wide[] = {&header->size, &header->packed, &header->offset};
    size_t at = 0;
    for (size_t bytes; header->extra_bytes - at >= 4; at += 4 + bytes) {
        bytes = (size_t)t2t_little_endian(extra + at + 2, 2);
        if (bytes > header->extra_bytes - at - 4) return false;
        if (t2t_little_endian(extra + at, 2) != 1) continue;
        size_t used = 0;
        for (size_t i = 0; i < 3; i++) {
            if (*wide[i] != 0xffffffff) continue;
            if (bytes - used < 8) return false;
            *wide[i] = t2t_little_endian(extra + at + 4 + used, 8);
            used += 8;
        }
        return true;
    }
    return header->size != 0xffffffff && header->packed != 0xffffffff && header->offset != 0xffffffff;
}

static enum t2t_status check_header(const struct reader *reader, const struct header *header)
{
    if (header->flags & (FLAG_ENCRYPTED | FLAG_STRONG | FLAG_MASKED))
        return t2t_fail(T2T_BAD_MODEL, "%s: this zip archive is encrypted; unpack and save it without", reader->path);
    if (header->method != STORED && header->method != DEFLATED)
        return t2t_fail(T2T_BAD_MODEL, "%s: this zip archive is packed by method %u, expected stored or deflated",
            reader->path, header->method);
    if (header->name_bytes == 0 || header->name_bytes > MAX_NAME) return bad(reader, "has a name that none has");
    if (header->method == STORED && header->size != header->packed)
        return bad(reader, "states two sizes for an entry that is not packed");
    if (header->size / MAX_RATIO > header->packed) return bad(reader, "states a size that no packing can reach");
    return T2T_OK;
}

/* The local header must say what the directory says; sizes may stand behind the data instead. */
static enum t2t_status check_local(const struct reader *reader, const struct header *central, struct zip_entry *entry)
{
    unsigned char local[LOCAL_BYTES + MAX_NAME];
    const size_t bytes = LOCAL_BYTES + central->name_bytes;
    if (entry->header > reader->begin || reader->begin - entry->header < bytes)
        return bad(reader, "has an entry that lies outside of it");
    const enum t2t_status status = t2t_input_read(reader->path, reader->descriptor, entry->header, local, bytes);
    if (status) return status;
    if (!is(local, "PK\3\4") || t2t_little_endian(local + 26, 2) != central->name_bytes ||
        memcmp(local + LOCAL_BYTES, entry->name, central->name_bytes) != 0 ||
        t2t_little_endian(local + 8, 2) != central->method || t2t_little_endian(local + 6, 2) != central->flags)
        return bad(reader, "names or packs an entry in two ways that contradict each other");
    const uint64_t crc = t2t_little_endian(local + 14, 4), packed = t2t_little_endian(local + 18, 4),
                   size = t2t_little_endian(local + 22, 4);
    /* 0xffffffff: in a field of 64 bits, which the library that unpacks compares */
    const bool no_packed = packed == 0xffffffff, no_size = size == 0xffffffff;
    const bool later =
        central->flags & FLAG_DESCRIPTOR && crc == 0 && (packed == 0 || no_packed) && (size == 0 || no_size);
    if (!later &&
        (crc != central->crc || (packed != central->packed && !no_packed) || (size != central->size && !no_size)))
        return bad(reader, "states sizes or checksums of an entry that contradict each other");
    entry->data = entry->header + bytes + t2t_little_endian(local + 28, 2);
    if (entry->data > reader->begin || central->packed > reader->begin - entry->data)
        return bad(reader, "has an entry that lies outside of it");
    entry->end = entry->data + central->packed;
    return T2T_OK;
}

static enum t2t_status read_entry(const struct reader *reader, const unsigned char *central, size_t *at, size_t bytes,
    struct zip_entry *entry, char **names)
{
    const unsigned char *from = central + *at;
    if (bytes - *at < CENTRAL_BYTES || !is(from, "PK\1\2")) return bad(reader, "has a directory with a gap");
    struct header header = {.flags = (unsigned)t2t_little_endian(from + 8, 2),
        .method = (unsigned)t2t_little_endian(from + 10, 2),
        .crc = (uint32_t)t2t_little_endian(from + 16, 4),
        .packed = t2t_little_endian(from + 20, 4),
        .size = t2t_little_endian(from + 24, 4),
        .name_bytes = (unsigned)t2t_little_endian(from + 28, 2),
        .extra_bytes = (unsigned)t2t_little_endian(from + 30, 2),
        .offset = t2t_little_endian(from + 42, 4)};
    const size_t whole =
        CENTRAL_BYTES + header.name_bytes + header.extra_bytes + (size_t)t2t_little_endian(from + 32, 2);
    if (bytes - *at < whole || t2t_little_endian(from + 34, 2) ||
        !widen(&header, from + CENTRAL_BYTES + header.name_bytes))
        return bad(reader, "has a directory with a gap");
    const enum t2t_status status = check_header(reader, &header);
    if (status) return status;
    if (memchr(from + CENTRAL_BYTES, '\0', header.name_bytes)) return bad(reader, "has a name that none has");
    *entry = (struct zip_entry){.name = *names, .header = header.offset, .packed = header.packed, .size = header.size};
    memcpy(*names, from + CENTRAL_BYTES, header.name_bytes);
    (*names)[header.name_bytes] = '\0';
    *names += header.name_bytes + 1;
    *at += whole;
    return check_local(reader, &header, entry);
}

static int by_header(const void *left, const void *right)
{
    const struct zip_entry *a = left, *b = right;
    return a->header < b->header ? -1 : a->header > b->header;
}

static int by_name(const void *left, const void *right)
{
    const struct zip_entry *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static enum t2t_status check_together(const struct reader *reader, struct zip_directory *directory)
{
    struct zip_entry *entries = directory->entries;
    qsort(entries, directory->count, sizeof *entries, by_name);
    for (size_t i = 1; i < directory->count; i++)
        if (by_name(&entries[i - 1], &entries[i]) == 0)
            return t2t_fail(T2T_BAD_MODEL, "%s: this zip archive holds two entries of the name %.200s", reader->path,
                entries[i].name);
    qsort(entries, directory->count, sizeof *entries, by_header);
    for (size_t i = 1; i < directory->count; i++)
        if (entries[i].header < entries[i - 1].end) return bad(reader, "has entries that overlap");
    return T2T_OK;
}

static enum t2t_status read_entries(const struct reader *reader, struct zip_directory *directory)
{
    const size_t bytes = (size_t)reader->bytes, count = (size_t)reader->count;
    unsigned char *central = malloc(bytes);
    directory->names = malloc(bytes); /* shorter than the headers around them */
    directory->entries = calloc(count, sizeof *directory->entries);
    enum t2t_status status = central && directory->names && directory->entries
                                 ? t2t_input_read(reader->path, reader->descriptor, reader->begin, central, bytes)
                                 : t2t_fail_memory("the directory of a zip archive", bytes);
    char *names = directory->names;
    size_t at = 0;
    while (!status && directory->count < count) {
        status = read_entry(reader, central, &at, bytes, &directory->entries[directory->count], &names);
        if (!status) directory->count++;
    }
    if (!status && at != bytes) status = bad(reader, "has a directory with a gap");
    free(central);
    return status ? status : check_together(reader, directory);
}

enum t2t_status t2t_zip_directory_read(
    struct zip_directory *directory, const char *path, int descriptor, uint64_t file_size)
{
    *directory = (struct zip_directory){0};
    struct reader reader = {.path = path, .descriptor = descriptor, .file_size = file_size};
    const enum t2t_status status = read_end(&reader);
    if (status) return status;
    if (reader.count == 0) return t2t_fail(T2T_BAD_MODEL, "%s: this zip archive is empty", path);
    if (reader.count > MAX_ENTRIES || reader.bytes > MAX_DIRECTORY_BYTES || reader.bytes / CENTRAL_BYTES < reader.count)
        return t2t_fail(T2T_BAD_MODEL, "%s: this zip archive states %llu entries, more than a checkpoint has", path,
            (unsigned long long)reader.count);
    return read_entries(&reader, directory);
}

void t2t_zip_directory_free(struct zip_directory *directory)
{
    free(directory->entries);
    free(directory->names);
    *directory = (struct zip_directory){0};
}
