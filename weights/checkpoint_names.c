/* Names of tensors; see checkpoint_names.h. */
#include "weights/checkpoint_names.h"

#include <stdlib.h>
#include <string.h>

#include "weights/utf8.h"

enum t2t_status t2t_check_name(const char *path, const char *name, size_t bytes)
{
    if (bytes == 0 || bytes > T2T_MOST_NAME_BYTES)
        return t2t_fail(
            T2T_BAD_MODEL, "%s: a tensor's name has %zu bytes, expected 1 to %d", path, bytes, T2T_MOST_NAME_BYTES);
    if (!t2t_is_plain_utf8(name, bytes) || (bytes == 12 && memcmp(name, "__metadata__", 12) == 0))
        return t2t_fail(
            T2T_BAD_MODEL, "%s: a tensor's name of %zu bytes is no plain text; the file is damaged", path, bytes);
    return T2T_OK;
}

static int by_name(const void *left, const void *right)
{
    const char *const *a = left, *const *b = right;
    return strcmp(*a, *b);
}

enum t2t_status t2t_check_unique(const char *path, const struct t2t_tensor *tensors, size_t count, bool rewritten)
{
    const char **sorted = malloc((count + 1) * sizeof *sorted);
    if (!sorted) return t2t_fail_memory("a list of names", count * sizeof *sorted);
    for (size_t i = 0; i < count; i++) sorted[i] = tensors[i].name;
    qsort(sorted, count, sizeof *sorted, by_name);
    enum t2t_status status = T2T_OK;
    for (size_t i = 1; i < count && !status; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            status = t2t_fail(T2T_BAD_MODEL, "%s: two tensors are called %.200s%s", path, sorted[i],
                rewritten ? " once prefixes are taken off and names rewritten" : "");
    free(sorted);
    return status;
}

/* ---- rewriting ---- */

/* Where `row` finds its text in a name: at the beginning, or anywhere when it begins with a dot. NULL: nowhere, or
 * nothing would be left. */
static char *find_from(char *name, const struct t2t_renaming *row)
{
    const size_t bytes = strlen(row->from);
    char *at = row->from[0] == '.' ? strstr(name, row->from) : strncmp(name, row->from, bytes) == 0 ? name : NULL;
    return at && bytes && (*row->to || at != name || at[bytes]) ? at : NULL;
}

/* The name, with room for it to grow by one text a row. */
static bool rewrite(char *name, const struct t2t_renaming *rows, size_t row_count)
{
    bool changed = false;
    for (size_t i = 0; i < row_count; i++) {
        char *at = find_from(name, &rows[i]);
        if (!at) continue;
        const size_t from = strlen(rows[i].from), to = strlen(rows[i].to);
        memmove(at + to, at + from, strlen(at + from) + 1);
        memcpy(at, rows[i].to, to);
        changed = true;
    }
    return changed;
}

enum t2t_status t2t_rename(struct t2t_tensor *tensors, size_t count, const struct t2t_renaming *rows, size_t row_count,
    char **names, bool *changed)
{
    size_t growth = 1, bytes = 1;
    for (size_t i = 0; i < row_count; i++) growth += strlen(rows[i].to);
    for (size_t i = 0; i < count; i++) bytes += strlen(tensors[i].name) + growth;
    char *memory = malloc(bytes), *at = memory;
    if (!memory) return t2t_fail_memory("a list of names", bytes);
    *changed = false;
    for (size_t i = 0; i < count; i++) {
        strcpy(at, tensors[i].name);
        *changed = rewrite(at, rows, row_count) || *changed;
        tensors[i].name = at;
        at += strlen(at) + 1;
    }
    free(*names);
    *names = memory;
    return T2T_OK;
}
