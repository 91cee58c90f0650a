/* Label lists; see labels.h. Every picture must get exactly one label that means something, or nothing is used. */
#include "loaders/labels.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/imagenet_classes.h"

/* One line: a picture's name ("" where the list has none) and what it is called. */
struct line {
    char *name, *label;
    size_t number;
};

struct lines {
    char *text;
    struct line *line;
    size_t count;
};

enum { MOST_BYTES = 64 << 20 };

static enum t2t_status read_text(const char *path, char **text)
{
    FILE *file = fopen(path, "re");
    if (!file) return t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    *text = malloc(MOST_BYTES + 1);
    const size_t size = *text ? fread(*text, 1, MOST_BYTES + 1, file) : 0;
    enum t2t_status status = *text ? T2T_OK : t2t_fail_memory("a label list", MOST_BYTES);
    if (!status && ferror(file)) status = t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    if (!status && size > MOST_BYTES)
        status = t2t_fail(T2T_BAD_DATA, "%s: has more than %d bytes, which no label list needs", path, MOST_BYTES);
    if (!status && memchr(*text, '\0', size)) status = t2t_fail(T2T_BAD_DATA, "%s: is no text", path);
    fclose(file);
    if (!status) {
        (*text)[size] = '\0';
        return T2T_OK;
    }
    free(*text);
    *text = NULL;
    return status;
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text)) text++;
    size_t length = strlen(text);
    while (length && isspace((unsigned char)text[length - 1])) text[--length] = '\0';
    return text;
}

/* "NAME,LABEL ..." keeps the first word of the label (boxes follow it); elsewhere a label may hold blanks. */
static void split_line(char *text, struct line *line)
{
    char *separator = strpbrk(text, ",\t");
    if (!separator) { /* a blank separates only after something that looks like a file */
        char *blank = strchr(text, ' ');
        if (blank) {
            *blank = '\0';
            const bool file = t2t_is_picture_name(text) || strncmp(text, "ILSVRC2012_", 11) == 0;
            *blank = ' ';
            if (file) separator = blank;
        }
    }
    line->name = separator ? text : NULL;
    line->label = text;
    if (!separator) return;
    const bool comma = *separator == ',';
    *separator = '\0';
    line->name = trim(text);
    line->label = trim(separator + 1);
    if (comma) line->label[strcspn(line->label, " ")] = '\0';
}

static enum t2t_status split_lines(const char *path, struct lines *lines)
{
    size_t most = 1;
    for (const char *c = lines->text; *c; c++) most += *c == '\n';
    lines->line = calloc(most, sizeof *lines->line);
    if (!lines->line) return t2t_fail_memory("a label list", most * sizeof *lines->line);
    char *rest = lines->text;
    for (size_t number = 1; rest; number++) {
        char *text = trim(strsep(&rest, "\n"));
        if (!*text || strncmp(text, "ImageId,", 8) == 0) continue;
        struct line *line = &lines->line[lines->count++];
        line->number = number;
        split_line(text, line);
        if (!line->name != !lines->line[0].name)
            return t2t_fail(T2T_BAD_DATA, "%s: line %zu: some lines name a picture and others do not", path, number);
    }
    if (!lines->count) return t2t_fail(T2T_BAD_DATA, "%s: holds no labels", path);
    return T2T_OK;
}

/* ---- what the labels mean ---- */

static bool parse_whole(const char *text, long *number)
{
    char *end;
    errno = 0;
    *number = strtol(text, &end, 10);
    return end != text && !*end && !errno;
}

int32_t t2t_class_index(const struct t2t_dataset_options *options, const char *name)
{
    for (size_t i = 0; options->class_names && i < options->num_classes; i++)
        if (strcmp(options->class_names[i], name) == 0) return (int32_t)i;
    return -1;
}

bool t2t_class_is_ambiguous(const struct t2t_dataset_options *options, const char *name)
{
    size_t count = 0;
    for (size_t i = 0; options->class_names && i < options->num_classes; i++)
        count += strcmp(options->class_names[i], name) == 0;
    return count > 1;
}

static int32_t from_index(const struct t2t_dataset_options *options, const char *text)
{
    long number;
    return parse_whole(text, &number) && number >= 0 && (size_t)number < options->num_classes ? (int32_t)number : -1;
}

static int32_t from_ilsvrc_id(const struct t2t_dataset_options *options, const char *text)
{
    long number;
    (void)options;
    return parse_whole(text, &number) ? t2t_imagenet_index_of_ilsvrc_id(number) : -1;
}

static int32_t from_wnid(const struct t2t_dataset_options *options, const char *text)
{
    (void)options;
    return t2t_imagenet_index_of_wnid(text);
}

static const struct {
    const char *name;
    int32_t (*index)(const struct t2t_dataset_options *options, const char *text);
} kinds[] = {{"index", from_index}, {"ilsvrc-id", from_ilsvrc_id}, {"wnid", from_wnid}, {"name", t2t_class_index}};

enum { INDEX, ILSVRC_ID, WNID, NAME, KINDS };

static enum t2t_status find_kind(
    const struct t2t_dataset_options *options, const char *path, const struct lines *lines, size_t *kind)
{
    const char *asked = options->label_kind ? options->label_kind : "auto";
    for (*kind = 0; *kind < KINDS; ++*kind)
        if (strcmp(asked, kinds[*kind].name) == 0) return T2T_OK;
    if (strcmp(asked, "auto") != 0)
        return t2t_fail(
            T2T_BAD_USAGE, "there is no kind of labels \"%.40s\"; known are auto, index, ilsvrc-id, wnid, name", asked);
    bool numbers = true, zero = false;
    long largest = 0, number;
    for (size_t i = 0; i < lines->count; i++) {
        if (!parse_whole(lines->line[i].label, &number)) {
            numbers = false;
            break;
        }
        zero |= number == 0;
        if (number > largest) largest = number;
    }
    *kind = numbers ? INDEX : t2t_imagenet_index_of_wnid(lines->line[0].label) >= 0 ? WNID : NAME;
    if (numbers && !zero && (size_t)largest == options->num_classes)
        return t2t_fail(T2T_BAD_DATA,
            "%s: labels run from 1 to %ld, so they are no indices from 0; if they are the ILSVRC2012 ids of the "
            "development kit, say --label-kind ilsvrc-id",
            path, largest);
    return T2T_OK;
}

/* ---- which picture a line is about ---- */

static const char *base_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

/* Compares names without folder and extension: "val/A.JPEG" and "A". */
static int compare_stems(const char *a, const char *b)
{
    a = base_name(a);
    b = base_name(b);
    const size_t a_length = t2t_is_picture_name(a) ? (size_t)(strrchr(a, '.') - a) : strlen(a);
    const size_t b_length = t2t_is_picture_name(b) ? (size_t)(strrchr(b, '.') - b) : strlen(b);
    const int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_lines(const void *a, const void *b)
{
    return compare_stems(((const struct line *)a)->name, ((const struct line *)b)->name);
}

static int compare_name_with_line(const void *name, const void *line)
{
    return compare_stems(name, ((const struct line *)line)->name);
}

static enum t2t_status sort_named_lines(const char *path, struct lines *lines)
{
    qsort(lines->line, lines->count, sizeof *lines->line, compare_lines);
    for (size_t i = 1; i < lines->count; i++)
        if (compare_lines(&lines->line[i - 1], &lines->line[i]) == 0)
            return t2t_fail(
                T2T_BAD_DATA, "%s: line %zu: a second label for %s", path, lines->line[i].number, lines->line[i].name);
    return T2T_OK;
}

static enum t2t_status assign(const struct t2t_dataset_options *options, const struct lines *lines, size_t kind,
    const struct file_list *pictures, int32_t *label)
{
    const char *path = options->labels;
    const bool named = lines->line[0].name != NULL;
    if (!named && lines->count != pictures->count)
        return t2t_fail(T2T_BAD_DATA, "%s: has %zu labels for %zu pictures; without names there must be one for each",
            path, lines->count, pictures->count);
    for (size_t i = 0; i < pictures->count; i++) {
        const struct line *line = &lines->line[i];
        if (named)
            line = bsearch(pictures->names[i], lines->line, lines->count, sizeof *lines->line, compare_name_with_line);
        if (!line) return t2t_fail(T2T_BAD_DATA, "%s: has no label for %s", path, pictures->names[i]);
        if (kind == NAME && t2t_class_is_ambiguous(options, line->label))
            return t2t_fail(T2T_BAD_DATA, "%s: line %zu: the weights call more than one class \"%.80s\"", path,
                line->number, line->label);
        label[i] = kinds[kind].index(options, line->label);
        if (label[i] < 0 || (size_t)label[i] >= options->num_classes)
            return t2t_fail(T2T_BAD_DATA, "%s: line %zu: \"%.80s\" is no %s of a class of this model (it has %zu)",
                path, line->number, line->label, kinds[kind].name, options->num_classes);
    }
    return T2T_OK;
}

enum t2t_status t2t_labels_read(
    const struct t2t_dataset_options *options, const struct file_list *pictures, int32_t *label, const char **kind)
{
    struct lines lines = {0};
    size_t found = 0;
    enum t2t_status status = read_text(options->labels, &lines.text);
    if (!status) status = split_lines(options->labels, &lines);
    if (!status) status = find_kind(options, options->labels, &lines, &found);
    if (!status && lines.line[0].name) status = sort_named_lines(options->labels, &lines);
    if (!status) status = assign(options, &lines, found, pictures, label);
    if (!status) *kind = kinds[found].name;
    free(lines.line);
    free(lines.text);
    return status;
}
