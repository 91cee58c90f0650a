/* Files that would cost much more than they are: each must be refused within the bounds of a second and 64 MB. */
#include <stdlib.h>
#include <string.h>

#include "weights/tests/hostile.h"

#define MAGIC "\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3."
#define STORAGE                                                                                                        \
    "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"                                                                 \
    "0X\3\0\0\0cpuK\4t"

struct row {
    const char *name, *begin;
    size_t begin_bytes;
    const char *repeated;
    size_t repeated_bytes, times;
    const char *word;
};
#define ROW(NAME, BEGIN, REPEATED, TIMES, WORD)                                                                        \
    {                                                                                                                  \
        NAME, BEGIN, sizeof(BEGIN) - 1, REPEATED, sizeof(REPEATED) - 1, TIMES, WORD                                    \
    }

/* Pickles of zip archives, but for the last rows. */
static const struct row rows[] = {
    ROW("values", "\x80\2", "N", 2000000, "more values than any checkpoint"),
    ROW("marks", "\x80\2", "(", 2000000, "more values than any checkpoint"),
    ROW("tuples in tuples", "\x80\2N", "\x85", 2000000, "more values than any checkpoint"),
    ROW("a list of itself", "\x80\2]q1", "h1a", 2000000, "more values than any checkpoint"),
    ROW("lists in lists", "\x80\2", "]", 2000000, "more values than any checkpoint"),
    ROW("numbers in memory", "\x80\2Nr\x1f\xa1\7\0", "K\1q\0000", 2000000, "more values than any checkpoint"),
    ROW("storages", "\x80\2" STORAGE "q\1", "h\1Q0", 600000, "more values than any checkpoint"),
    ROW("tensors", "\x80\2ctorch._utils\n_rebuild_tensor_v2\nq\2(" STORAGE "QK\0K\4\x85K\1\x85\x89}tq\3", "h\2h\3R0",
        600000, "more values than any checkpoint"),
    ROW("long work for nothing", "\x80\2N", "q1", 3000000, "ends early"),
    ROW("long work with marks", "\x80\2N", "(1", 3000000, "ends early"),
    ROW("a long pickle", "\x80\2", "N0", 9000000, "larger than 16 MiB"),
    ROW("a long legacy pickle", MAGIC "\x80\2}X\15\0\0\0little_endian\x88s.\x80\2N", "q1", 10000000, "ends early"),
    ROW("a long safetensors header", "\2\55\61\1\0\0\0\0{\"", "xxxxxxxxxx", 2000000, "without a value"),
};
enum { ZIPPED = 11 };

/* An entry that no tensor needs and whose checksum would be checked all the same. */
static void deflated_zeros(struct bytes *file)
{
    const size_t bytes = (size_t)100 << 20;
    unsigned char *zeros = calloc(bytes, 1);
    if (!zeros) abort();
    const struct zip_part parts[] = {{"a/data.pkl", "\x80\2}.", 4}, {"a/data/0", zeros, bytes}};
    zip_deflated_stream(file, parts, 2);
    free(zeros);
}

bool hostile_bomb(size_t index, struct hostile *hostile)
{
    if (index == sizeof rows / sizeof *rows) {
        *hostile = (struct hostile){.name = "deflated zeros", .word = "more than 20 times its size"};
        deflated_zeros(&hostile->file);
        return true;
    }
    if (index > sizeof rows / sizeof *rows) return false;
    const struct row *row = &rows[index];
    *hostile = (struct hostile){.word = row->word};
    strcpy(hostile->name, row->name);
    struct bytes all = {0};
    bytes_add(&all, row->begin, row->begin_bytes);
    for (size_t i = 0; i < row->times; i++) bytes_add(&all, row->repeated, row->repeated_bytes);
    if (index >= ZIPPED) {
        hostile->file = all;
        return true;
    }
    zip_archive(&hostile->file, &(const struct zip_part){"a/data.pkl", all.data, all.size}, 1);
    bytes_free(&all);
    return true;
}
