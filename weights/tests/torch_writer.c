/* Checkpoints for tests; see torch_writer.h. */
#include "weights/tests/torch_writer.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bytes_add(struct bytes *bytes, const void *data, size_t size)
{
    if (bytes->size + size > bytes->room) {
        bytes->room = (bytes->size + size) * 5 / 4 + 256;
        bytes->data = realloc(bytes->data, bytes->room);
        if (!bytes->data) abort();
    }
    if (size) memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

void bytes_number(struct bytes *bytes, uint64_t number, size_t size)
{
    for (size_t i = 0; i < size; i++) bytes_add(bytes, &(unsigned char){(unsigned char)(number >> 8 * i)}, 1);
}

void bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

void bytes_save(const struct bytes *bytes, const char *path)
{
    FILE *file = fopen(path, "wb");
    const bool written = file && (bytes->size == 0 || fwrite(bytes->data, 1, bytes->size, file) == bytes->size);
    if (!written || fclose(file) != 0) abort();
}

/* ---- zip ---- */

uint32_t zip_crc32(const void *data, size_t size)
{
    static uint32_t table[256];
    for (uint32_t i = 0; i < 256 && !table[255]; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? UINT32_C(0xedb88320) : 0);
        table[i] = value;
    }
    const unsigned char *at = data;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i++) crc = crc >> 8 ^ table[(crc ^ at[i]) & 255];
    return ~crc;
}

/* What the local header and the directory have in common, from the version on. */
static void zip_common(struct bytes *out, const struct zip_part *part, uint32_t crc)
{
    bytes_number(out, 20, 2);
    bytes_number(out, 0, 8); /* flags, method, time, date */
    bytes_number(out, crc, 4);
    bytes_number(out, part->size, 4);
    bytes_number(out, part->size, 4);
    bytes_number(out, strlen(part->name), 2);
    bytes_number(out, 0, 2);
}

void zip_archive(struct bytes *out, const struct zip_part *parts, size_t count)
{
    struct bytes directory = {0};
    for (size_t i = 0; i < count; i++) {
        const size_t at = out->size;
        const uint32_t crc = zip_crc32(parts[i].data, parts[i].size);
        bytes_add(out, "PK\3\4", 4);
        zip_common(out, &parts[i], crc);
        bytes_add(out, parts[i].name, strlen(parts[i].name));
        bytes_add(out, parts[i].data, parts[i].size);
        bytes_add(&directory, "PK\1\2\24", 6);
        zip_common(&directory, &parts[i], crc);
        bytes_number(&directory, 0, 2 + 2 + 2); /* comment, disk, attributes */
        bytes_number(&directory, 0, 4);
        bytes_number(&directory, at, 4);
        bytes_add(&directory, parts[i].name, strlen(parts[i].name));
    }
    const size_t begin = out->size;
    bytes_add(out, directory.data, directory.size);
    bytes_add(out, "PK\5\6\0\0\0\0", 8);
    bytes_number(out, count, 2);
    bytes_number(out, count, 2);
    bytes_number(out, directory.size, 4);
    bytes_number(out, begin, 4);
    bytes_number(out, 0, 2);
    bytes_free(&directory);
}

static la_ssize_t add_block(struct archive *archive, void *out, const void *data, size_t size)
{
    (void)archive;
    bytes_add(out, data, size);
    return (la_ssize_t)size;
}

static void zip_stream(struct bytes *out, const struct zip_part *parts, size_t count, bool deflated)
{
    struct archive *archive = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    if (!archive || !entry || archive_write_set_format_zip(archive) != ARCHIVE_OK ||
        (deflated ? archive_write_zip_set_compression_deflate(archive)
                  : archive_write_zip_set_compression_store(archive)) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(archive, 1) != ARCHIVE_OK ||
        archive_write_open(archive, out, NULL, add_block, NULL) != ARCHIVE_OK)
        abort();
    for (size_t i = 0; i < count; i++) {
        archive_entry_clear(entry);
        archive_entry_set_pathname(entry, parts[i].name);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        if (archive_write_header(archive, entry) != ARCHIVE_OK ||
            archive_write_data(archive, parts[i].data, parts[i].size) != (la_ssize_t)parts[i].size)
            abort();
    }
    if (archive_write_close(archive) != ARCHIVE_OK) abort();
    archive_entry_free(entry);
    archive_write_free(archive);
}

void zip_stored_stream(struct bytes *out, const struct zip_part *parts, size_t count)
{
    zip_stream(out, parts, count, false);
}

void zip_deflated_stream(struct bytes *out, const struct zip_part *parts, size_t count)
{
    zip_stream(out, parts, count, true);
}

/* ---- pickle ---- */

static void text(struct bytes *out, const char *prefix, const char *rest)
{
    bytes_add(out, "X", 1);
    bytes_number(out, strlen(prefix) + strlen(rest), 4);
    bytes_add(out, prefix, strlen(prefix));
    bytes_add(out, rest, strlen(rest));
}

static void integer(struct bytes *out, size_t number)
{
    bytes_add(out, "J", 1);
    bytes_number(out, number, 4);
}

static void global(struct bytes *out, const char *module, const char *name)
{
    bytes_add(out, "c", 1);
    bytes_add(out, module, strlen(module));
    bytes_add(out, "\n", 1);
    bytes_add(out, name, strlen(name));
    bytes_add(out, "\n", 1);
}

static void key_of(size_t number, char key[24])
{
    snprintf(key, 24, "%zu", number);
}

static void tensor(struct bytes *out, const struct t2t_tensor *from, size_t number, bool legacy)
{
    static const char *const storages[] = {"FloatStorage", "HalfStorage", "BFloat16Storage", "DoubleStorage",
        "LongStorage", "IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage"};
    char key[24];
    key_of(number, key);
    global(out, "torch._utils", "_rebuild_tensor_v2");
    bytes_add(out, "((", 2);
    text(out, "", "storage");
    global(out, "torch", storages[from->dtype]);
    text(out, "", key);
    text(out, "", "cpu");
    integer(out, from->elements);
    bytes_add(out, legacy ? "NtQK\0(" : "tQK\0(", legacy ? 6 : 5);
    for (size_t i = 0; i < from->rank; i++) integer(out, from->shape[i]);
    bytes_add(out, "t(", 2);
    for (size_t i = 0; i < from->rank; i++) {
        size_t stride = 1;
        for (size_t j = i + 1; j < from->rank; j++) stride *= from->shape[j];
        integer(out, stride);
    }
    bytes_add(out, "t\x89", 2);
    global(out, "collections", "OrderedDict");
    bytes_add(out, ")RtR", 4);
}

static void dictionary(
    struct bytes *out, const struct t2t_tensor *tensors, size_t count, struct torch_form form, bool legacy)
{
    bytes_add(out, "\x80\2", 2);
    if (form.key) {
        bytes_add(out, "}(", 2);
        if (form.arch) {
            text(out, "", "arch");
            text(out, "", form.arch);
        }
        text(out, "", form.key);
    }
    global(out, "collections", "OrderedDict");
    bytes_add(out, ")R(", 3);
    for (size_t i = 0; i < count; i++) {
        text(out, form.prefix ? form.prefix : "", tensors[i].name);
        tensor(out, &tensors[i], i, legacy);
    }
    bytes_add(out, form.key ? "uu." : "u.", form.key ? 3 : 2);
}

static size_t data_bytes(const struct t2t_tensor *from)
{
    return from->elements * t2t_dtype_bytes(from->dtype);
}

void torch_zip(struct bytes *out, const struct t2t_tensor *tensors, size_t count, struct torch_form form)
{
    torch_zip_by(zip_archive, "archive", out, tensors, count, form);
}

void torch_zip_by(zip_writer *writer, const char *top, struct bytes *out, const struct t2t_tensor *tensors,
    size_t count, struct torch_form form)
{
    struct bytes pickle = {0};
    dictionary(&pickle, tensors, count, form, false);
    struct zip_part *parts = calloc(count + 3, sizeof *parts);
    char(*names)[64] = calloc(count + 3, sizeof *names);
    if (!parts || !names) abort();
    snprintf(names[0], sizeof names[0], "%s/data.pkl", top);
    snprintf(names[1], sizeof names[1], "%s/byteorder", top);
    snprintf(names[2 + count], sizeof names[2 + count], "%s/version", top);
    parts[0] = (struct zip_part){names[0], pickle.data, pickle.size};
    parts[1] = (struct zip_part){names[1], "little", 6};
    for (size_t i = 0; i < count; i++) {
        snprintf(names[2 + i], sizeof names[2 + i], "%s/data/%zu", top, i);
        parts[2 + i] = (struct zip_part){names[2 + i], tensors[i].data, data_bytes(&tensors[i])};
    }
    parts[2 + count] = (struct zip_part){names[2 + count], "3\n", 2};
    writer(out, parts, count + 3);
    free(parts);
    free(names);
    bytes_free(&pickle);
}

void torch_legacy(struct bytes *out, const struct t2t_tensor *tensors, size_t count, struct torch_form form)
{
    bytes_add(out, "\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
    bytes_add(out, "\x80\2M\xe9\3.", 6);
    bytes_add(out, "\x80\2}(", 4);
    text(out, "", "protocol_version");
    integer(out, 1001);
    text(out, "", "little_endian");
    bytes_add(out, "\x88u.", 3);
    dictionary(out, tensors, count, form, true);
    bytes_add(out, "\x80\2](", 4);
    char key[24];
    for (size_t i = 0; i < count; i++) {
        key_of(i, key);
        text(out, "", key);
    }
    bytes_add(out, "e.", 2);
    for (size_t i = 0; i < count; i++) {
        bytes_number(out, tensors[i].elements, 8);
        bytes_add(out, tensors[i].data, data_bytes(&tensors[i]));
    }
}
