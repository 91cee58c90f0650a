/* The option table's parser on top of getopt_long, and its --help. */
#include "eval/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROW = 256, LONGEST_WORD = 64, HELP_COLUMN = 28 };

/* Targets given in the latest parse; a program parses once. */
static const void *given[OPTIONS_MOST];
static size_t given_count;

bool t2t_option_given(const void *target)
{
    for (size_t i = 0; i < given_count; i++)
        if (given[i] == target) return true;
    return false;
}

/* ---- values ---- */

bool t2t_parse_number(const char *text, double minimum, double maximum, size_t *number)
{
    if (*text < '0' || *text > '9') return false;
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno || *end != '\0' || (double)value < minimum || (double)value > maximum) return false;
    *number = (size_t)value;
    return true;
}

bool t2t_parse_real(const char *text, double minimum, double maximum, double *number)
{
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    if (errno == ERANGE || end == text || *end != '\0' || !isfinite(value) || value < minimum || value > maximum)
        return false;
    *number = value;
    return true;
}

/* The words of "bar|lines|none" into words[]; `copy` holds them. */
static size_t split_choices(const char *choices, char copy[256], const char *words[16])
{
    size_t count = 0;
    assert(strlen(choices) < 256);
    strcpy(copy, choices);
    for (char *rest = copy, *word; count < 16 && (word = strsep(&rest, "|"));) words[count++] = word;
    return count;
}

static enum t2t_status store_choice(const struct option_row *row, const char *text)
{
    char copy[256];
    const char *words[16];
    const size_t count = split_choices(row->argument, copy, words);
    for (size_t i = 0; i < count; i++)
        if (strcmp(words[i], text) == 0) {
            *(int *)row->target = (int)i;
            return T2T_OK;
        }
    const char *near = t2t_nearest_word(text, words, count);
    return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": expected %s%s%s%s", row->name, text, row->argument,
        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static enum t2t_status store_value(const struct option_row *row, const char *text)
{
    switch (row->type) {
    case OPTION_SECTION: break;
    case OPTION_SWITCH: *(bool *)row->target = true; break;
    case OPTION_COUNT: ++*(size_t *)row->target; break;
    case OPTION_NUMBER:
        if (t2t_parse_number(text, row->minimum, row->maximum, row->target)) break;
        return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": expected a whole number from %.0f to %.0f", row->name, text,
            row->minimum, row->maximum);
    case OPTION_REAL:
        if (t2t_parse_real(text, row->minimum, row->maximum, row->target)) break;
        return t2t_fail(
            T2T_BAD_USAGE, "--%s \"%s\": expected a number from %g to %g", row->name, text, row->minimum, row->maximum);
    case OPTION_TEXT:
        if (*text == '\0') return t2t_fail(T2T_BAD_USAGE, "--%s: its value is empty", row->name);
        *(const char **)row->target = text;
        break;
    case OPTION_TEXTS: {
        struct option_texts *texts = row->target;
        if (*text == '\0') return t2t_fail(T2T_BAD_USAGE, "--%s: its value is empty", row->name);
        if (texts->count == OPTION_TEXTS_MOST)
            return t2t_fail(T2T_BAD_USAGE, "--%s is given more than %d times", row->name, OPTION_TEXTS_MOST);
        texts->text[texts->count++] = text;
        break;
    }
    case OPTION_CHOICE: return store_choice(row, text);
    }
    return T2T_OK;
}

static enum t2t_status store(const struct option_row *row, const char *text)
{
    const bool repeatable = row->type == OPTION_COUNT || row->type == OPTION_TEXTS || row->type == OPTION_SWITCH;
    if (!repeatable && t2t_option_given(row->target))
        return t2t_fail(T2T_BAD_USAGE, "--%s is given twice; which one is meant?", row->name);
    if (!t2t_option_given(row->target)) given[given_count++] = row->target; /* at most one for each row */
    return store_value(row, text);
}

/* ---- misspelt names ---- */

size_t t2t_edit_distance(const char *one, const char *other)
{
    const size_t m = strnlen(one, LONGEST_WORD), n = strnlen(other, LONGEST_WORD);
    size_t cost[3][LONGEST_WORD + 1]; /* rows i - 2, i - 1, i of the table, by i mod 3 */
    for (size_t j = 0; j <= n; j++) cost[0][j] = j;
    for (size_t i = 1; i <= m; i++) {
        size_t *row = cost[i % 3], *above = cost[(i - 1) % 3], *second = cost[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t least = above[j - 1] + (one[i - 1] != other[j - 1]);
            if (above[j] + 1 < least) least = above[j] + 1;
            if (row[j - 1] + 1 < least) least = row[j - 1] + 1;
            if (i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] && second[j - 2] + 1 < least)
                least = second[j - 2] + 1;
            row[j] = least;
        }
    }
    return cost[m % 3][n];
}

static size_t common_beginning(const char *one, const char *other)
{
    size_t length = 0;
    while (one[length] && one[length] == other[length]) length++;
    return length;
}

const char *t2t_nearest_word(const char *text, const char *const *words, size_t count)
{
    const char *nearest = NULL;
    size_t least = strlen(text) / 3 + 2; /* further away, a suggestion would only confuse */
    for (size_t i = 0; i < count; i++) {
        const size_t distance = t2t_edit_distance(text, words[i]);
        const bool begins_alike =
            nearest && distance == least && common_beginning(text, words[i]) > common_beginning(text, nearest);
        if (distance < least || begins_alike) {
            least = distance;
            nearest = words[i];
        }
    }
    return nearest;
}

static enum t2t_status fail_unknown(const struct option_row *rows, size_t count, const char *argument, int letter)
{
    if (strncmp(argument, "--", 2) != 0 || letter)
        return t2t_fail(T2T_BAD_USAGE, "-%c: no such option", letter ? letter : argument[1]);
    char name[LONGEST_WORD];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(argument + 2, "="), argument + 2);
    const char *names[OPTIONS_MOST];
    size_t names_count = 0, beginnings = 0;
    for (size_t i = 0; i < count; i++) {
        if (rows[i].type == OPTION_SECTION) continue;
        names[names_count++] = rows[i].name;
        beginnings += strncmp(rows[i].name, name, strlen(name)) == 0;
    }
    const char *near = t2t_nearest_word(name, names, names_count);
    if (beginnings > 1) return t2t_fail(T2T_BAD_USAGE, "--%s: the beginning of more than one option", name);
    return t2t_fail(T2T_BAD_USAGE, "--%s: no such option%s%s%s", name, near ? "; did you mean --" : "",
        near ? near : "", near ? "?" : "");
}

/* ---- parsing ---- */

static const struct option_row *row_of_letter(const struct option_row *rows, size_t count, int letter)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].type != OPTION_SECTION && rows[i].letter == letter) return &rows[i];
    return NULL;
}

static size_t build_getopt(
    const struct option_row *rows, size_t count, struct option known[OPTIONS_MOST], char letters[2 * OPTIONS_MOST])
{
    size_t options = 0, length = 0;
    letters[length++] = ':';
    for (size_t i = 0; i < count; i++) {
        if (rows[i].type == OPTION_SECTION) continue;
        known[options++] = (struct option){.name = rows[i].name,
            .has_arg = rows[i].argument ? required_argument : no_argument,
            .val = FIRST_ROW + (int)i};
        if (!rows[i].letter) continue;
        letters[length++] = rows[i].letter;
        if (rows[i].argument) letters[length++] = ':';
    }
    letters[length] = '\0';
    known[options] = (struct option){0};
    return options;
}

enum t2t_status t2t_options_parse(const struct option_row *rows, size_t count, int argc, char **argv, size_t *operands)
{
    struct option known[OPTIONS_MOST];
    char letters[2 * OPTIONS_MOST];
    assert(count < OPTIONS_MOST / 2 + OPTIONS_MOST / 4);
    build_getopt(rows, count, known, letters);
    given_count = 0;
    opterr = 0;
    optind = 0; /* glibc: start anew */
    enum t2t_status status = T2T_OK;
    int option;
    while (!status && (option = getopt_long(argc, argv, letters, known, NULL)) != -1) {
        const struct option_row *row = NULL;
        if (option >= FIRST_ROW)
            row = &rows[option - FIRST_ROW];
        else if (option != '?' && option != ':')
            row = row_of_letter(rows, count, option);
        if (row)
            status = store(row, optarg);
        else if (option == ':')
            status = t2t_fail(T2T_BAD_USAGE, "%s needs a value", argv[optind - 1]);
        else if (optopt >= FIRST_ROW)
            status = t2t_fail(T2T_BAD_USAGE, "--%s takes no value", rows[optopt - FIRST_ROW].name);
        else
            status = fail_unknown(rows, count, argv[optind > 1 ? optind - 1 : 1], optopt);
    }
    *operands = (size_t)optind;
    return status;
}

/* ---- --help ---- */

static void print_row(FILE *out, const struct option_row *row)
{
    char left[128];
    const char letter[] = {'-', row->letter, ',', ' ', '\0'};
    const int width = snprintf(left, sizeof left, "  %s--%s%s%s", row->letter ? letter : "    ", row->name,
        row->argument ? " " : "", row->argument ? row->argument : "");
    fputs(left, out);
    int column = width;
    if (width > HELP_COLUMN - 2) {
        fputc('\n', out);
        column = 0;
    }
    for (const char *line = row->help; line;) {
        const size_t length = strcspn(line, "\n");
        fprintf(out, "%*s%.*s\n", HELP_COLUMN - column, "", (int)length, line);
        column = 0;
        line = line[length] ? line + length + 1 : NULL;
    }
}

void t2t_options_print(FILE *out, const struct option_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].type == OPTION_SECTION)
            fprintf(out, "\n%s\n", rows[i].help);
        else
            print_row(out, &rows[i]);
}
