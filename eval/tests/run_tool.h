/* Runs a program as a user does and looks at what it says, what it leaves behind and what it costs. */
#ifndef T2T_EVAL_TESTS_RUN_TOOL_H
#define T2T_EVAL_TESTS_RUN_TOOL_H

#include <stddef.h>
#include <sys/types.h>

enum { RUN_TEXT_BYTES = 16384 };

struct run_result {
    int code; /* -1: ended by a signal */
    double seconds;
    size_t most_bytes;         /* resident */
    char text[RUN_TEXT_BYTES]; /* standard output and error */
};

/* Set by run_tool_begin(). */
extern const char *run_program;
extern char run_folder[];            /* of this test alone */
extern char run_out[64], run_in[64]; /* names within it for an output and an input */

/* The program under test; cmocka's group fixtures around it make and remove the folder. */
void run_tool_begin(const char *program);
int run_make_folder(void **state);
int run_remove_folder(void **state);
size_t run_files_in_folder(void);

/* With arguments that end with NULL. */
struct run_result run_tool(const char *const *arguments);

/* Fails the test unless the code is this and the text holds the word. */
void run_expect(const struct run_result *result, int code, const char *word);

#define RUN(...) run_tool((const char *const[]){__VA_ARGS__, NULL})
#define EXPECT(CODE, WORD, ...)                                                                                        \
    do {                                                                                                               \
        const struct run_result result_ = RUN(__VA_ARGS__);                                                            \
        run_expect(&result_, CODE, WORD);                                                                              \
    } while (0)

#endif
