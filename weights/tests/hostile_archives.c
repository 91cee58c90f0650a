/* Damaged zip archives. */
#include "weights/tests/hostile_parts.h"

#define PICKLE "\x80\2}."
#define PICKLE_BYTES 4

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

static void sound_zip(struct bytes *file)
{
    torch_zip(file, &hostile_tensor, 1, (struct torch_form){0});
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
    file->data[find(file, (const char *)hostile_numbers, sizeof hostile_numbers)] ^= 1;
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

/* The end record says "see the 64-bit one", which states this. */
static void insert_end64(struct bytes *file, uint64_t count, uint64_t bytes, uint64_t begin)
{
    sound_zip(file);
    const size_t end = end_record(file), at = first_central(file);
    file->size = end;
    ADD(file, "PK\6\6\54\0\0\0\0\0\0\0\55\0\55\0\0\0\0\0\0\0\0\0");
    const uint64_t stated[] = {count, count, end - at + bytes, at + begin};
    for (size_t i = 0; i < 4; i++) bytes_number(file, stated[i], 8);
    ADD(file, "PK\6\7\0\0\0\0");
    bytes_number(file, end, 8);
    ADD(file, "\1\0\0\0PK\5\6\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
}
static void count64_too_small(struct bytes *file)
{
    insert_end64(file, 3, 0, 0);
}
static void count64_huge(struct bytes *file)
{
    insert_end64(file, UINT64_MAX, 0, 0);
}
static void bytes64_too_many(struct bytes *file)
{
    insert_end64(file, 4, 1, 0);
}
static void bytes64_huge(struct bytes *file)
{
    insert_end64(file, 4, UINT64_MAX / 2, 0);
}
static void begin64_elsewhere(struct bytes *file)
{
    insert_end64(file, 4, (uint64_t)-1, 1);
}
static void begin64_huge(struct bytes *file)
{
    insert_end64(file, 4, 0, UINT64_MAX / 2);
}
static void wide_size_without_field(struct bytes *file)
{
    sound_zip(file);
    set_both(file, 22, 0xffffffff, 4);
}
static void wide_offset_without_field(struct bytes *file)
{
    sound_zip(file);
    set(file, first_central(file) + 42, 0xffffffff, 4);
}
static void extra_field_beyond(struct bytes *file)
{
    sound_zip(file);
    set(file, first_central(file) + 30, 0xffff, 2);
}
static void local_extra_field_beyond(struct bytes *file)
{
    sound_zip(file);
    set(file, 28, 0xffff, 2);
}
static void descriptor_promised(struct bytes *file)
{
    sound_zip(file);
    set(file, 6, 8, 2); /* in one of the two headers */
}
static void entry_on_another_disk(struct bytes *file)
{
    sound_zip(file);
    set(file, first_central(file) + 34, 1, 2);
}
static void no_local_header(struct bytes *file)
{
    sound_zip(file);
    file->data[find(file, "PK\3\4", 4)] = 'Q';
}
static void directory_of_noise(struct bytes *file)
{
    sound_zip(file);
    file->data[first_central(file)] = 'Q';
}
static void bytes_before(struct bytes *file)
{
    ADD(file, "#!/bin/sh\n");
    sound_zip(file);
}
static void comment_cut(struct bytes *file)
{
    sound_zip(file);
    set(file, end_record(file) + 20, 5, 2);
}
static void backslashes(struct bytes *file)
{
    ZIP_OF({"a\\data.pkl", PICKLE, PICKLE_BYTES});
}
static void absolute_name(struct bytes *file)
{
    ZIP_OF({"/data.pkl", PICKLE, PICKLE_BYTES});
}
static void deeper_pickle(struct bytes *file)
{
    ZIP_OF({"a/b/data.pkl", PICKLE, PICKLE_BYTES});
}
static void archive_in_archive(struct bytes *file)
{
    struct bytes inner = {0};
    sound_zip(&inner);
    ZIP_OF({"a/data.pkl", inner.data, inner.size});
    bytes_free(&inner);
}

static const struct hostile_row archives[] = {
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
    {"64-bit count too small", "with a gap", count64_too_small},
    {"64-bit count huge", "states 18446744073709551615 entries", count64_huge},
    {"64-bit size too large", "does not reach", bytes64_too_many},
    {"64-bit size huge", "does not reach", bytes64_huge},
    {"64-bit place elsewhere", "with a gap", begin64_elsewhere},
    {"64-bit place huge", "does not reach", begin64_huge},
    {"wide size without a field", "with a gap", wide_size_without_field},
    {"wide place without a field", "with a gap", wide_offset_without_field},
    {"extra field beyond the end", "with a gap", extra_field_beyond},
    {"local extra field beyond the end", "outside of it", local_extra_field_beyond},
    {"descriptor promised once", "contradict each other", descriptor_promised},
    {"entry on another disk", "with a gap", entry_on_another_disk},
    {"no local header", "contradict each other", no_local_header},
    {"directory of noise", "with a gap", directory_of_noise},
    {"bytes before", "no format known here", bytes_before},
    {"comment cut off", "no end record", comment_cut},
    {"backslashes", "holds no FOLDER/data.pkl", backslashes},
    {"absolute name", "holds no FOLDER/data.pkl", absolute_name},
    {"pickle two folders down", "holds no FOLDER/data.pkl", deeper_pickle},
    {"archive in an archive", "no pickle of protocol 2 to 4", archive_in_archive},
    {"locator to nowhere", "leads nowhere", locator_to_nowhere},
    {"locator to the start", "leads nowhere", locator_to_the_start},
};

bool hostile_archive(size_t index, struct hostile *hostile)
{
    return hostile_make(archives, sizeof archives / sizeof *archives, index, hostile);
}
