/* Damaged legacy streams, and files that are something else. */
#include "weights/tests/hostile_parts.h"

enum { MAGIC_BYTES = 15, VERSION_BYTES = 6 };

static void sound_legacy(struct bytes *file)
{
    torch_legacy(file, &hostile_tensor, 1, (struct torch_form){0});
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
    bytes_add(file, hostile_numbers, sizeof hostile_numbers);
    bytes_number(file, 4, 8);
    bytes_add(file, hostile_numbers, sizeof hostile_numbers);
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

static const struct hostile_row others[] = {
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

bool hostile_legacy(size_t index, struct hostile *hostile)
{
    return hostile_make(others, sizeof others / sizeof *others, index, hostile);
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
