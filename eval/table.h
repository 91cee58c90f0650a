/* Rows of text for people: aligned columns, or a Markdown table. */
#ifndef T2T_EVAL_TABLE_H
#define T2T_EVAL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS = 16 };

struct table {
    size_t columns;
    char **cells; /* [count], row by row; the first row is the heading */
    size_t count, room;
    bool failed; /* memory was short */
};

/* Appends the next cell, printf-style. */
void t2t_table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints and frees the cells: the first column to the left, the others to the right. False: memory was short. */
bool t2t_table_print(struct table *table, FILE *out, bool markdown);

#endif
