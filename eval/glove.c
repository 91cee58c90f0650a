/* Reading word vectors, every field checked. */
#include "eval/glove.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_DIM = 2, MOST_DIM = 4096, LINE_BYTES = 1 << 18 };

/* A file of word vectors while it is read. */
struct reader {
    const char *path;
    FILE *file;
    char *line;    /* [LINE_BYTES] */
    size_t number; /* of the line, from 1 */
    size_t dim;
};

static enum t2t_status next_line(struct reader *reader, size_t rows)
{
    errno = 0;
    if (!fgets(reader->line, LINE_BYTES, reader->file)) {
        if (ferror(reader->file))
            return t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", reader->path, strerror(errno));
        return t2t_fail(T2T_BAD_DATA, "%s: ends after %zu line%s, %zu word vectors are needed; --rows takes fewer",
            reader->path, reader->number, reader->number == 1 ? "" : "s", rows);
    }
    reader->number++;
    size_t length = strlen(reader->line);
    if ((!length || reader->line[length - 1] != '\n') && !feof(reader->file))
        return t2t_fail(T2T_BAD_DATA, "%s: line %zu holds a zero byte or is longer than %d: no text of word vectors",
            reader->path, reader->number, LINE_BYTES);
    while (length && strchr("\r\n ", reader->line[length - 1])) reader->line[--length] = '\0';
    return T2T_OK;
}

static size_t count_spaces(const char *text)
{
    size_t count = 0;
    for (; *text; text++) count += *text == ' ';
    return count;
}

/* The last `dim` fields of the line; NULL where it has fewer. The word before them may be empty. */
static char *numbers_of(char *line, size_t dim)
{
    char *at = line + strlen(line);
    for (size_t fields = 0; at > line;)
        if (*--at == ' ' && ++fields == dim) return at + 1;
    return NULL;
}

static enum t2t_status read_numbers(const struct reader *reader, float *vector)
{
    char *rest = numbers_of(reader->line, reader->dim);
    if (!rest)
        return t2t_fail(T2T_BAD_DATA, "%s: line %zu has %zu number%s, the first vector has %zu", reader->path,
            reader->number, count_spaces(reader->line), count_spaces(reader->line) == 1 ? "" : "s", reader->dim);
    for (size_t i = 0; i < reader->dim; i++) {
        const char *field = strsep(&rest, " ");
        char *end;
        vector[i] = strtof(field, &end);
        if (end == field || *end || !isfinite(vector[i]) || isspace((unsigned char)*field))
            return t2t_fail(T2T_BAD_DATA, "%s: line %zu, number %zu is \"%.32s\", expected a finite number",
                reader->path, reader->number, i + 1, field);
    }
    return T2T_OK;
}

/* Files of word2vec begin with how many vectors there are and how long they are: two whole numbers alone. No vector has
 * as few numbers as one, so that this line means nothing else. */
static bool is_header(const char *line)
{
    const size_t count = strspn(line, "0123456789");
    if (!count || line[count] != ' ') return false;
    const char *length = line + count + 1;
    return *length && !length[strspn(length, "0123456789")];
}

static enum t2t_status read_vectors(struct reader *reader, size_t rows, float **vectors)
{
    enum t2t_status status = next_line(reader, rows);
    if (!status && is_header(reader->line)) status = next_line(reader, rows);
    if (status) return status;
    reader->dim = count_spaces(reader->line);
    if (reader->dim < LEAST_DIM || reader->dim > MOST_DIM)
        return t2t_fail(T2T_BAD_DATA, "%s: line %zu has a word and %zu number%s, expected %d to %d", reader->path,
            reader->number, reader->dim, reader->dim == 1 ? "" : "s", LEAST_DIM, MOST_DIM);
    *vectors = malloc(rows * reader->dim * sizeof **vectors);
    if (!*vectors) return t2t_fail_memory("word vectors", rows * reader->dim * sizeof **vectors);
    for (size_t row = 0; row < rows && !status; row++) {
        if (row) status = next_line(reader, rows);
        if (!status) status = read_numbers(reader, *vectors + row * reader->dim);
    }
    return status;
}

enum t2t_status t2t_glove_read(const char *path, size_t rows, float **vectors, size_t *dim)
{
    struct reader reader = {.path = path, .file = fopen(path, "r")};
    *vectors = NULL;
    if (!reader.file) return t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    reader.line = malloc(LINE_BYTES);
    const enum t2t_status status =
        reader.line ? read_vectors(&reader, rows, vectors) : t2t_fail_memory("a line of text", LINE_BYTES);
    *dim = reader.dim;
    free(reader.line);
    fclose(reader.file);
    if (status) {
        free(*vectors);
        *vectors = NULL;
    }
    return status;
}
