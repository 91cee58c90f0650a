/* What tests of the programs work with: a folder of their own with a small network and drawn pictures. */
#ifndef T2T_EVAL_TESTS_WORKSHOP_H
#define T2T_EVAL_TESTS_WORKSHOP_H

#include "eval/tests/command.h"
#include "vit/t2t_vit.h"

enum { SHOP_SIZE = 64, SHOP_CLASSES = 12, SHOP_PICTURES = 24 };

/* Paths; the shell scripts of these tests find them as $D, $W, $P, and the programs as $EVAL, $CLASSIFY, $DRAW. */
extern struct workshop {
    char folder[64], weights[96], pictures[96];
    const char *eval, *classify, *draw;
} shop;

/* `programs`: the folder where they were built. */
void workshop_find(const char *programs);
/* For cmocka's groups. */
int workshop_open(void **state);
int workshop_close(void **state);

/* "FOLDER/NAME"; valid for the next fifteen calls. */
const char *in_shop(const char *name);

/* One thing that a changed copy of the network has: other metadata (value NULL: none), or a tensor times a factor. */
struct network_change {
    const char *key, *value;
    const char *tensor;
    float factor;
};

/* Writes a small network to FOLDER/NAME: that of the workshop, of another kind and size of picture, or changed. */
const char *make_network(
    const char *name, enum t2t_tokens_type type, size_t image_size, const struct network_change *change_or_null);

#define EVAL(...) command_run(shop.eval, (const char *const[]){"--weights", shop.weights, __VA_ARGS__, NULL})
#define CLASSIFY(...) command_run(shop.classify, (const char *const[]){"--weights", shop.weights, __VA_ARGS__, NULL})
#define SHELL(SCRIPT) command_run("/bin/sh", (const char *const[]){"-c", SCRIPT, NULL})

#define EXPECT_OF(RESULT, CODE, WORD)                                                                                  \
    do {                                                                                                               \
        const struct result result_ = RESULT;                                                                          \
        command_expect(&result_, CODE, WORD);                                                                          \
    } while (0)

/* The same, and all that stood on standard error is one sentence of the program: nothing on standard output. */
#define REFUSED(RESULT, CODE, WORD)                                                                                    \
    do {                                                                                                               \
        const struct result result_ = RESULT;                                                                          \
        expect_one_sentence(&result_, CODE, WORD);                                                                     \
    } while (0)
void expect_one_sentence(const struct result *result, int code, const char *word);

#endif
