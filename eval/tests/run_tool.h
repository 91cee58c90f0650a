/* Tests of t2tvit-convert: the program, a folder with names for an input and an output, and what a run must say. */
#ifndef T2T_EVAL_TESTS_RUN_TOOL_H
#define T2T_EVAL_TESTS_RUN_TOOL_H

#include "eval/tests/command.h"

/* Set by run_tool_begin(). */
extern const char *run_program;
extern char run_folder[];            /* of this test alone */
extern char run_out[64], run_in[64]; /* names within it for an output and an input */

/* The program under test; cmocka's group fixtures around it make and remove the folder. */
void run_tool_begin(const char *program);
int run_make_folder(void **state);
int run_remove_folder(void **state);
size_t run_files_in_folder(void);

#define RUN(...) command_run(run_program, (const char *const[]){__VA_ARGS__, NULL})
#define EXPECT(CODE, WORD, ...)                                                                                        \
    do {                                                                                                               \
        const struct result result_ = RUN(__VA_ARGS__);                                                                \
        command_expect(&result_, CODE, WORD);                                                                          \
    } while (0)

#endif
