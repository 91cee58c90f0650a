/* Taking lists apart. */
#include "eval/option_lists.h"

#include <stdio.h>
#include <string.h>

#include "eval/attention_names.h"
#include "eval/options.h"

enum t2t_status t2t_copy_list(const char *option, const char *text, char copy[LIST_BYTES])
{
    if (strlen(text) >= LIST_BYTES) return t2t_fail(T2T_BAD_USAGE, "--%s: its list is too long", option);
    strcpy(copy, text);
    return T2T_OK;
}

char *t2t_next_word(char **rest)
{
    return *rest ? strsep(rest, ",") : NULL;
}

enum t2t_status t2t_read_numbers(
    const char *option, const char *text, double minimum, double maximum, size_t most, size_t *numbers, size_t *count)
{
    char copy[LIST_BYTES];
    enum t2t_status status = t2t_copy_list(option, text, copy);
    if (status) return status;
    char *rest = copy;
    *count = 0;
    for (const char *word; (word = t2t_next_word(&rest)); ++*count) {
        if (*count == most || !t2t_parse_number(word, minimum, maximum, &numbers[*count]))
            return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": expected at most %zu whole numbers from %.0f to %.0f", option,
                text, most, minimum, maximum);
        for (size_t i = 0; i < *count; i++)
            if (numbers[i] == numbers[*count])
                return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": %zu is listed twice", option, text, numbers[i]);
    }
    return T2T_OK;
}

/* ---- methods ---- */

static const char *const published = ":published";

/* Cuts ":published" off a word; false where its method was published with the options that it has anyway. */
static bool read_preset(char *word, bool *is_published)
{
    const size_t length = strlen(word), ending = strlen(published);
    *is_published = length > ending && strcmp(word + length - ending, published) == 0;
    if (*is_published) word[length - ending] = '\0';
    return !*is_published || strcmp(word, attention_method(ATTENTION_KDEFORMER)->name) == 0;
}

enum t2t_status t2t_read_methods(const char *option, const char *text, struct method_list *list)
{
    char copy[LIST_BYTES];
    enum t2t_status status = t2t_copy_list(option, text, copy);
    char *rest = copy;
    list->count = 0;
    for (char *word; !status && (word = t2t_next_word(&rest));) {
        const struct attention_method *method;
        bool is_published;
        if (!read_preset(word, &is_published))
            return t2t_fail(
                T2T_BAD_USAGE, "--%s \"%s\": only kdeformer has options beside the published ones", option, text);
        status = t2t_find_method(option, word, &method);
        for (size_t i = 0; !status && i < list->count; i++)
            if (list->method[i] == method && list->published[i] == is_published)
                status = t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": %s is listed twice", option, text, word);
        if (status) return status;
        list->method[list->count] = method;
        list->published[list->count++] = is_published;
    }
    return status;
}

void t2t_method_label(const struct method_list *list, size_t index, char *label, size_t bytes)
{
    snprintf(label, bytes, "%s%s", list->method[index]->name, list->published[index] ? published : "");
}

/* ---- seeds ---- */

enum t2t_status t2t_read_seeds(const char *text, uint64_t seeds[MOST_SEEDS], size_t *count)
{
    size_t number;
    if (!strchr(text, ',')) {
        if (!t2t_parse_number(text, 1, MOST_SEEDS, &number))
            return t2t_fail(
                T2T_BAD_USAGE, "--seeds \"%s\": expected how many (1 to %d), or a list like 3,7", text, MOST_SEEDS);
        for (*count = 0; *count < number; ++*count) seeds[*count] = *count + 1;
        return T2T_OK;
    }
    char copy[LIST_BYTES];
    enum t2t_status status = t2t_copy_list("seeds", text, copy);
    char *rest = copy;
    *count = 0;
    for (const char *word; !status && (word = t2t_next_word(&rest));) {
        if (*count == MOST_SEEDS || !t2t_parse_number(word, 0, 9007199254740992.0, &number))
            return t2t_fail(T2T_BAD_USAGE, "--seeds \"%s\": expected at most %d whole numbers separated by commas",
                text, MOST_SEEDS);
        for (size_t i = 0; i < *count; i++)
            if (seeds[i] == number) return t2t_fail(T2T_BAD_USAGE, "--seeds \"%s\": %zu is listed twice", text, number);
        seeds[(*count)++] = number;
    }
    return status;
}
