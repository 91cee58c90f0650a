/* What the makers of damaged files share: a sound checkpoint of one tensor, and places in it to change. */
#ifndef T2T_WEIGHTS_TESTS_HOSTILE_PARTS_H
#define T2T_WEIGHTS_TESTS_HOSTILE_PARTS_H

#include <stdlib.h>
#include <string.h>

#include "weights/tests/hostile.h"

typedef void damage(struct bytes *file);

struct hostile_row {
    const char *name, *word;
    damage *make;
};

#define ADD(FILE, LITERAL) bytes_add(FILE, LITERAL, sizeof(LITERAL) - 1)

static const float hostile_numbers[4] = {1, 2, 3, 4};
static const struct t2t_tensor hostile_tensor = {
    .name = "w", .dtype = T2T_F32, .rank = 1, .shape = {4}, .elements = 4, .data = hostile_numbers};

/* The last place of some bytes. */
static inline size_t find(const struct bytes *file, const char *text, size_t bytes)
{
    for (size_t at = file->size - bytes + 1; at-- > 0;)
        if (memcmp(file->data + at, text, bytes) == 0) return at;
    abort();
}

static inline void set(struct bytes *file, size_t at, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) file->data[at + i] = (unsigned char)(number >> 8 * i);
}

static inline bool hostile_make(const struct hostile_row *rows, size_t count, size_t index, struct hostile *hostile)
{
    if (index >= count) return false;
    *hostile = (struct hostile){.word = rows[index].word};
    strcpy(hostile->name, rows[index].name);
    rows[index].make(&hostile->file);
    return true;
}

#endif
