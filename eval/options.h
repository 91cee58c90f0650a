/* Command-line options as one table a tool: its rows give the parser, --help, and the suggestion for a misspelt name.
 *
 * GNU manners: --name=value or --name value, options anywhere, `--` ends them, unambiguous beginnings of names do.
 */
#ifndef T2T_EVAL_OPTIONS_H
#define T2T_EVAL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "layers/base/status.h"

enum option_type {
    OPTION_SECTION, /* a heading of --help; only `help` is used */
    OPTION_SWITCH,  /* bool: set to true */
    OPTION_COUNT,   /* size_t: one more each time */
    OPTION_NUMBER,  /* size_t in minimum ... maximum */
    OPTION_REAL,    /* double in minimum ... maximum */
    OPTION_SECONDS, /* double, as "200ms" or "3s" */
    OPTION_TEXT,    /* const char * */
    OPTION_TEXTS,   /* struct option_texts: may be given again */
    OPTION_CHOICE   /* int: which of the words of `argument`, "bar|lines|none" */
};

struct option_row {
    enum option_type type;
    char letter;          /* 0: none */
    const char *name;     /* without the dashes */
    const char *argument; /* what --help calls the value; NULL for switches and counts */
    const char *help;     /* may have several lines */
    void *target;
    double minimum, maximum; /* numbers only */
};

enum { OPTIONS_MOST = 96, OPTION_TEXTS_MOST = 16 };

struct option_texts {
    const char *text[OPTION_TEXTS_MOST];
    size_t count;
};

/* Parses argv by the table and stores what is given; defaults are what the targets hold before. argv is permuted:
 * *operands is the index of the first argument that is no option. A value given twice, out of range or unknown is
 * T2T_BAD_USAGE. */
enum t2t_status t2t_options_parse(const struct option_row *rows, size_t count, int argc, char **argv, size_t *operands);

/* The rows as --help shows them. */
void t2t_options_print(FILE *out, const struct option_row *rows, size_t count);

/* Whether a row's option was given in the parse before. (Rows are compared by their target.) */
bool t2t_option_given(const void *target);

/* Parsers of values for callers with formats of their own: the whole of `text` must be a number in the range. */
bool t2t_parse_number(const char *text, double minimum, double maximum, size_t *number);
bool t2t_parse_real(const char *text, double minimum, double maximum, double *number);
/* A number with "s" or "ms" behind it, in seconds. */
bool t2t_parse_seconds(const char *text, double minimum, double maximum, double *seconds);

/* Number of insertions, deletions, replacements and swaps of neighbours that turn one word into the other. */
size_t t2t_edit_distance(const char *one, const char *other);

/* The word nearest to `text`, of two as near the one that begins more alike; NULL when none is near. */
const char *t2t_nearest_word(const char *text, const char *const *words, size_t count);

#endif
