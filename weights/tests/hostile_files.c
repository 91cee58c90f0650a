/* Damaged archives, damaged legacy streams, and files that are something else. */
#include <stdlib.h>
#include <string.h>

#include "weights/tests/hostile.h"

static const float numbers[4] = {1, 2, 3, 4};
static const struct t2t_tensor sound = {
    .name = "w", .dtype = T2T_F32, .rank = 1, .shape = {4}, .elements = 4, .data = numbers};

#define PICKLE "\x80\2}."
#define PICKLE_BYTES 4

typedef void damage(struct bytes *file);

#define ADD(FILE, LITERAL) bytes_add(FILE, LITERAL, sizeof(LITERAL) - 1)

/* The last place of some bytes. */
static size_t find(const struct bytes *file, const char *text, size_t bytes)
{
    for (size_t at = file->size - bytes + 1; at-- > 0;)
        if (memcmp(file->data + at, text, bytes) == 0) return at;
    abort();
}

static void set(struct bytes *file, size_t at, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) file->data[at + i] = (unsigned char)(number >> 8 * i);
}

static size_t end_record(const struct bytes *file)
{
    return file->size - 22;
}

/* Headers of the archive's first entry, data.pkl. */
static size_t first_central(const struct bytes *file)
{
    const unsigned char *end = file->data + end_record(file) + 16;
    return (size_t)end[0] | (size_t)end[1] << 8 | (size_t)end[2] << 16;
}

/* In both headers of the first entry, whose fields lie two bytes apart. */
static void set_both(struct bytes *file, size_t local, uint64_t number, size_t bytes)
{
    set(file, local, number, bytes);
    set(file, first_central(file) + 2 + local, number, bytes);
}

/* ---- zip ---- */

static void sound_zip(struct bytes *file)
{
    torch_zip(file, &sound, 1, (struct torch_form){0});
}

#define ZIP_OF(...)                                                                                                    \
    const struct zip_part parts[] = {__VA_ARGS__};                                                                     \
    zip_archive(file, parts, sizeof parts / sizeof *parts)

static void no_pickle(struct bytes *file)
{
    ZIP_OF({"a/b.pkl", PICKLE, PICKLE_BYTES}, {"word/document.xml", "", 0});
}
static void pickle_without_folder(struct bytes *file)
{
    ZIP_OF({"data.pkl", PICKLE, PICKLE_BYTES});
}
static void two_pickles(struct bytes *file)
{
    ZIP_OF({"a/data.pkl", PICKLE, PICKLE_BYTES}, {"b/data.pkl", PICKLE, PICKLE_BYTES});
}
static void torch_script(struct bytes *file)
{
    ZIP_OF({"a/data.pkl", PICKLE, PICKLE_BYTES}, {"a/code/__torch__.py", "def", 3}, {"a/constants.pkl", PICKLE, 4});
}
static void big_endian(struct bytes *file)
{
    ZIP_OF({"a/data.pkl", PICKLE, PICKLE_BYTES}, {"a/byteorder", "big", 3});
}
static void odd_byte_order(struct bytes *file)
{
    ZIP_OF({"a/data.pkl", PICKLE, PICKLE_BYTES}, {"a/byteorder", "littlelittlelittle", 18});
}
static void name_twice(struct bytes *file)
{
    ZIP_OF({"a/data.pkl", PICKLE, PICKLE_BYTES}, {"a/data/0", "1", 1}, {"a/data/0", "2", 1});
}
static void empty_archive(struct bytes *file)
{
    zip_archive(file, NULL, 0);
}
static void cut_short(struct bytes *file)
{
    sound_zip(file);
    file->size -= 30;
}
static void cut_to_header(struct bytes *file)
{
    sound_zip(file);
    file->size = 10;
}
static void bytes_behind(struct bytes *file)
{
    sound_zip(file);
    ADD(file, "more");
}
static void data_changed(struct bytes *file)
{
    sound_zip(file);
    file->data[find(file, (const char *)numbers, sizeof numbers)] ^= 1;
}
static void unused_data_changed(struct bytes *file)
{
    sound_zip(file);
    file->data[find(file, "3\n", 2)] ^= 1;
}
static void pickle_changed(struct bytes *file)
{
    sound_zip(file);
    file->data[find(file, "_rebuild_tensor_v2", 18)] ^= 1;
}
static void checksum_changed(struct bytes *file)
{
    sound_zip(file);
    set_both(file, 14, 0x12345678, 4);
}
static void checksum_of_two_kinds(struct bytes *file)
{
    sound_zip(file);
    set(file, 14, 0x12345678, 4);
}
static void size_of_two_kinds(struct bytes *file)
{
    sound_zip(file);
    set(file, 22, 3, 4);
}
static void name_of_two_kinds(struct bytes *file)
{
    sound_zip(file);
    file->data[30] = 'b';
}
static void method_of_two_kinds(struct bytes *file)
{
    sound_zip(file);
    set(file, 8, 8, 2);
}
static void flags_of_two_kinds(struct bytes *file)
{
    sound_zip(file);
    set(file, 6, 1, 2);
}
static void encrypted(struct bytes *file)
{
    sound_zip(file);
    set_both(file, 6, 1, 2);
}
static void packed_by_lzma(struct bytes *file)
{
    sound_zip(file);
    set_both(file, 8, 14, 2);
}
static void deflate_of_noise(struct bytes *file)
{
    sound_zip(file);
    set_both(file, 8, 8, 2);
}
static void size_of_a_bomb(struct bytes *file)
{
    sound_zip(file);
    set_both(file, 8, 8, 2);
    set_both(file, 22, 0x7fffffff, 4);
}
static void large_pickle(struct bytes *file)
{
    sound_zip(file);
    set_both(file, 8, 8, 2);
    set_both(file, 22, 300 * 480, 4); /* 300 times what there is */
}
static void packed_beyond(struct bytes *file)
{
    sound_zip(file);
    set_both(file, 18, 0x7ffffff0, 4);
    set_both(file, 22, 0x7ffffff0, 4);
}
static void header_beyond(struct bytes *file)
{
    sound_zip(file);
    set(file, first_central(file) + 42, 0x7ffffff0, 4);
}
static void header_of_another(struct bytes *file)
{
    sound_zip(file);
    set(file, first_central(file) + 42, 1, 4);
}
static void entries_overlap(struct bytes *file)
{
    sound_zip(file);
    const size_t second = find(file, "PK\3\4", 4); /* the last one; data.pkl grows over all between */
    set_both(file, 18, second, 4);
    set_both(file, 22, second, 4);
}
static void name_with_zero(struct bytes *file)
{
    sound_zip(file);
    file->data[32] = '\0';
    file->data[first_central(file) + 48] = '\0';
}
static void long_name(struct bytes *file)
{
    sound_zip(file);
    set_both(file, 26, 0xfff0, 2);
}
static void count_too_large(struct bytes *file)
{
    sound_zip(file);
    set(file, end_record(file) + 8, 5, 2);
    set(file, end_record(file) + 10, 5, 2);
}
static void count_too_small(struct bytes *file)
{
    sound_zip(file);
    set(file, end_record(file) + 8, 2, 2);
    set(file, end_record(file) + 10, 2, 2);
}
static void two_disks(struct bytes *file)
{
    sound_zip(file);
    set(file, end_record(file) + 4, 1, 2);
}
static void directory_elsewhere(struct bytes *file)
{
    sound_zip(file);
    set(file, end_record(file) + 16, 0, 4);
}
static void directory_beyond(struct bytes *file)
{
    sound_zip(file);
    set(file, end_record(file) + 16, 0x7fffffff, 4);
}
static void insert_locator(struct bytes *file, uint64_t at)
{
    sound_zip(file);
    unsigned char end[22];
    memcpy(end, file->data + end_record(file), sizeof end);
    file->size -= sizeof end;
    ADD(file, "PK\6\7\0\0\0\0");
    bytes_number(file, at, 8);
    bytes_number(file, 1, 4);
    bytes_add(file, end, sizeof end);
}
static void locator_to_nowhere(struct bytes *file)
{
    insert_locator(file, UINT64_MAX - 5);
}
static void locator_to_the_start(struct bytes *file)
{
    insert_locator(file, 0);
}

struct row {
    const char *name, *word;
    damage *make;
};

static const struct row archives[] = {
    {"zip without data.pkl", "holds no FOLDER/data.pkl", no_pickle},
    {"data.pkl without folder", "holds no FOLDER/data.pkl", pickle_without_folder},
    {"two data.pkl", "more than one data.pkl", two_pickles},
    {"TorchScript", "TorchScript archive", torch_script},
    {"big-endian", "big-endian", big_endian},
    {"odd byte order", "neither little nor big", odd_byte_order},
    {"entry twice", "two entries of the name a/data/0", name_twice},
    {"empty archive", "is empty", empty_archive},
    {"cut short", "no end record", cut_short},
    {"cut to ten bytes", "no end record", cut_to_header},
    {"bytes behind", "no end record", bytes_behind},
    {"changed number", "cannot be unpacked", data_changed},
    {"changed entry that is not used", "cannot be unpacked", unused_data_changed},
    {"changed pickle", "cannot be unpacked", pickle_changed},
    {"wrong checksum", "cannot be unpacked", checksum_changed},
    {"two checksums", "contradict each other", checksum_of_two_kinds},
    {"two sizes", "contradict each other", size_of_two_kinds},
    {"two names", "contradict each other", name_of_two_kinds},
    {"two methods", "contradict each other", method_of_two_kinds},
    {"two flags", "contradict each other", flags_of_two_kinds},
    {"encrypted", "is encrypted", encrypted},
    {"LZMA", "method 14", packed_by_lzma},
    {"noise as deflate", "cannot be unpacked", deflate_of_noise},
    {"bomb", "no packing can reach", size_of_a_bomb},
    {"larger pickle stated", "cannot be unpacked", large_pickle},
    {"entry beyond the end", "outside of it", packed_beyond},
    {"header beyond the end", "outside of it", header_beyond},
    {"header elsewhere", "contradict each other", header_of_another},
    {"overlap", "overlap", entries_overlap},
    {"name with a zero", "a name that none has", name_with_zero},
    {"long name", "with a gap", long_name},
    {"too many entries stated", "with a gap", count_too_large},
    {"too few entries stated", "with a gap", count_too_small},
    {"two disks", "several disks", two_disks},
    {"directory elsewhere", "does not reach", directory_elsewhere},
    {"directory beyond the end", "does not reach", directory_beyond},
    {"locator to nowhere", "leads nowhere", locator_to_nowhere},
    {"locator to the start", "leads nowhere", locator_to_the_start},
};

/* ---- legacy ---- */

enum { MAGIC_BYTES = 15, VERSION_BYTES = 6 };

static void sound_legacy(struct bytes *file)
{
    torch_legacy(file, &sound, 1, (struct torch_form){0});
}
static void other_magic(struct bytes *file)
{
    sound_legacy(file);
    file->data[5] ^= 1;
}
static void other_version(struct bytes *file)
{
    sound_legacy(file);
    file->data[MAGIC_BYTES + 3] ^= 1;
}
static void legacy_big_endian(struct bytes *file)
{
    sound_legacy(file);
    file->data[find(file, "little_endian", 13) + 13] = 0x89;
}
static void no_byte_order(struct bytes *file)
{
    sound_legacy(file);
    file->data[find(file, "little_endian", 13)] = 'L';
}
static void legacy_cut(struct bytes *file)
{
    sound_legacy(file);
    file->size -= 1;
}
static void legacy_cut_in_pickle(struct bytes *file)
{
    sound_legacy(file);
    file->size = 200;
}
static void legacy_cut_before_numbers(struct bytes *file)
{
    sound_legacy(file);
    file->size -= 20;
}
static void legacy_behind(struct bytes *file)
{
    sound_legacy(file);
    ADD(file, "x");
}
static void other_count(struct bytes *file)
{
    sound_legacy(file);
    set(file, file->size - 24, 5, 8);
}
static void huge_count(struct bytes *file)
{
    sound_legacy(file);
    set(file, file->size - 24, UINT64_MAX, 8);
}
static void other_key(struct bytes *file)
{
    sound_legacy(file);
    file->data[file->size - 27] = '9';
}
/* The list of keys and all behind it anew. */
static void with_keys(struct bytes *file, const char *keys, size_t bytes)
{
    sound_legacy(file);
    file->size = find(file, "\x80\2](", 4);
    bytes_add(file, keys, bytes);
}
#define WITH_KEYS(FILE, LITERAL) with_keys(FILE, LITERAL, sizeof(LITERAL) - 1)

static void key_twice(struct bytes *file)
{
    WITH_KEYS(file, "\x80\2](X\1\0\0\0"
                    "0X\1\0\0\0"
                    "0e.");
    bytes_number(file, 4, 8);
    bytes_add(file, numbers, sizeof numbers);
    bytes_number(file, 4, 8);
    bytes_add(file, numbers, sizeof numbers);
}
static void no_keys(struct bytes *file)
{
    WITH_KEYS(file, "\x80\2].");
}
static void keys_in_a_dictionary(struct bytes *file)
{
    WITH_KEYS(file, "\x80\2}.");
}
static void number_as_key(struct bytes *file)
{
    WITH_KEYS(file, "\x80\2](K\0e.");
}
static void legacy_code(struct bytes *file)
{
    ADD(file, "\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.\x80\2cos\nsystem\n)R.");
}
static void bare_code(struct bytes *file)
{
    ADD(file, "\x80\4\x95\x12\0\0\0\0\0\0\0\x8c\5posix\x94\x8c\6system\x93.");
}
static void bare_pickle(struct bytes *file)
{
    ADD(file, "\x80\2}X\1\0\0\0aK\1s.");
}
static void text_pickle(struct bytes *file)
{
    ADD(file, "cos\nsystem\n(S'id'\ntR.");
}
static void web_page(struct bytes *file)
{
    ADD(file, "<!DOCTYPE html><title>Sign in</title>");
}
static void lfs_pointer(struct bytes *file)
{
    ADD(file, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
}
static void tar(struct bytes *file)
{
    unsigned char block[1024] = "sys_info";
    memcpy(block + 257, "ustar", 5);
    bytes_add(file, block, sizeof block);
}
static void gzip(struct bytes *file)
{
    ADD(file, "\x1f\x8b\10\0\0\0\0\0\0\3\3\0\0\0\0\0\0\0\0\0");
}
static void picture(struct bytes *file)
{
    ADD(file, "\xff\xd8\xff\xe0\0\20JFIF\0");
}
static void noise(struct bytes *file)
{
    for (uint32_t i = 0, x = 1; i < 5000; i++) bytes_number(file, (x = x * 1664525 + 1013904223) >> 24, 1);
}
static void nothing(struct bytes *file)
{
    (void)file;
}
static void one_byte(struct bytes *file)
{
    ADD(file, "\x80");
}

static const struct row others[] = {
    {"other magic number", "not one that torch.save wrote", other_magic},
    {"other version", "another version", other_version},
    {"legacy big-endian", "big-endian", legacy_big_endian},
    {"no byte order", "byte order", no_byte_order},
    {"legacy cut in the numbers", "incomplete", legacy_cut},
    {"legacy cut in the pickle", "ends early", legacy_cut_in_pickle},
    {"legacy cut before the numbers", "incomplete", legacy_cut_before_numbers},
    {"legacy with bytes behind", "trailing bytes", legacy_behind},
    {"other number of elements", "has 5 elements, expected 4", other_count},
    {"huge number of elements", "elements, expected 4", huge_count},
    {"key of no tensor", "one that no tensor has", other_key},
    {"key twice", "lists a storage twice", key_twice},
    {"no keys", "lists 0 storages", no_keys},
    {"keys in a dictionary", "lacks the list", keys_in_a_dictionary},
    {"number as key", "one that no tensor has", number_as_key},
    {"legacy code", "global os.system", legacy_code},
    {"bare code", "global posix.system", bare_code},
    {"bare pickle", "not one that torch.save wrote", bare_pickle},
    {"text pickle", "no format known here", text_pickle},
    {"web page", "a web page", web_page},
    {"LFS pointer", "Git LFS", lfs_pointer},
    {"tar", "a tar archive", tar},
    {"gzip", "a compressed file", gzip},
    {"picture", "a picture", picture},
    {"noise", "no format known here", noise},
    {"nothing", "is empty", nothing},
    {"one byte", "no format known here", one_byte},
};

static bool make(const struct row *row, struct hostile *hostile)
{
    *hostile = (struct hostile){.word = row->word};
    strcpy(hostile->name, row->name);
    row->make(&hostile->file);
    return true;
}

bool hostile_archive(size_t index, struct hostile *hostile)
{
    return index < sizeof archives / sizeof *archives && make(&archives[index], hostile);
}

bool hostile_legacy(size_t index, struct hostile *hostile)
{
    return index < sizeof others / sizeof *others && make(&others[index], hostile);
}

bool hostile_case(size_t index, struct hostile *hostile)
{
    bool (*const kinds[])(size_t, struct hostile *) = {
        hostile_pickle, hostile_archive, hostile_legacy, hostile_global, hostile_instruction, hostile_bomb};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i](index, hostile)) return true;
        size_t count = 0;
        struct hostile skipped;
        while (kinds[i](count, &skipped)) {
            bytes_free(&skipped.file);
            count++;
        }
        index -= count;
    }
    return false;
}
