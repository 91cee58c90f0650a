/* Tables of text; see table.h. */
#include "eval/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void t2t_table_cell(struct table *table, const char *format, ...)
{
    if (table->failed) return;
    if (table->count == table->room) {
        const size_t room = table->room ? 2 * table->room : 64;
        char **grown = realloc(table->cells, room * sizeof *grown);
        table->failed = !grown;
        if (!grown) return;
        table->cells = grown;
        table->room = room;
    }
    va_list arguments;
    va_start(arguments, format);
    table->failed = vasprintf(&table->cells[table->count], format, arguments) < 0;
    va_end(arguments);
    if (!table->failed) table->count++;
}

static void print_row(
    const struct table *table, size_t row, const size_t width[TABLE_COLUMNS], FILE *out, bool markdown)
{
    for (size_t column = 0; column < table->columns; column++) {
        const char *cell = table->cells[row * table->columns + column];
        const int space = (int)(width[column] - strlen(cell));
        const bool last = column + 1 == table->columns;
        if (markdown) fputs(column ? " " : "| ", out);
        if (column == 0)
            fprintf(out, "%s%*s", cell, last && !markdown ? 0 : space, "");
        else
            fprintf(out, "%s%*s%s", markdown ? "" : "  ", space, "", cell);
        if (markdown) fputs(" |", out);
    }
    fputc('\n', out);
}

bool t2t_table_print(struct table *table, FILE *out, bool markdown)
{
    size_t width[TABLE_COLUMNS] = {0};
    for (size_t i = 0; i < table->count; i++) {
        const size_t length = strlen(table->cells[i]);
        if (length > width[i % table->columns]) width[i % table->columns] = length;
    }
    for (size_t row = 0; row < table->count / table->columns && !table->failed; row++) {
        print_row(table, row, width, out, markdown);
        if (row > 0 || !markdown) continue;
        for (size_t column = 0; column < table->columns; column++) fputs(column ? "---:|" : "|---|", out);
        fputc('\n', out);
    }
    for (size_t i = 0; i < table->count; i++) free(table->cells[i]);
    free(table->cells);
    const bool printed = !table->failed;
    *table = (struct table){.columns = table->columns};
    return printed;
}
