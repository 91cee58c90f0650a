/* Checkpoints that must be refused: what each is, and a word that its sentence must hold. Made, not stored. */
#ifndef T2T_WEIGHTS_TESTS_HOSTILE_H
#define T2T_WEIGHTS_TESTS_HOSTILE_H

#include "weights/tests/torch_writer.h"

struct hostile {
    char name[64];
    const char *word; /* may be `name` */
    struct bytes file;
};

/* Case number `index`; false after the last. The caller frees `file`. */
bool hostile_pickle(size_t index, struct hostile *hostile);      /* a pickle in an otherwise sound zip archive */
bool hostile_archive(size_t index, struct hostile *hostile);     /* a damaged zip archive */
bool hostile_legacy(size_t index, struct hostile *hostile);      /* a damaged legacy stream, or no checkpoint at all */
bool hostile_global(size_t index, struct hostile *hostile);      /* a call of what no checkpoint needs */
bool hostile_instruction(size_t index, struct hostile *hostile); /* an instruction that no checkpoint needs */
bool hostile_bomb(size_t index, struct hostile *hostile);        /* costs more than it is */

/* All of them, one after another. */
bool hostile_case(size_t index, struct hostile *hostile);

#endif
