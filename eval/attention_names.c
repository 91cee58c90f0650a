/* Names of methods and layers; see attention_names.h. */
#include "eval/attention_names.h"

#include <stdio.h>
#include <string.h>

#include "eval/options.h"

enum t2t_status t2t_find_method(const char *option, const char *name, const struct attention_method **method)
{
    *method = attention_method_named(name);
    if (*method) return T2T_OK;
    const char *names[ATTENTION_KINDS];
    char all[256] = "";
    for (size_t i = 0; i < ATTENTION_KINDS; i++) {
        names[i] = attention_method((enum attention_kind)i)->name;
        const size_t length = strlen(all);
        snprintf(all + length, sizeof all - length, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = t2t_nearest_word(name, names, ATTENTION_KINDS);
    return t2t_fail(T2T_BAD_USAGE, "--%s \"%s\": no such attention; there are %s%s%s%s", option, name, all,
        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static bool find_layer(const char *word, size_t layers, size_t *layer)
{
    char name[T2T_NAME_BYTES];
    if (t2t_parse_number(word, 0, (double)layers - 1, layer)) return true;
    for (*layer = 0; *layer < layers; ++*layer) {
        t2t_layer_name(*layer, name);
        if (strcmp(name, word) == 0) return true;
    }
    return false;
}

bool t2t_find_layers(const char *word, size_t layers, size_t *first, size_t *last)
{
    const bool all = strcmp(word, "all") == 0;
    *first = 0;
    *last = layers - 1;
    if (all) return true;
    if (strcmp(word, "t2t") == 0) {
        *last = T2T_TOKEN_LAYERS - 1;
        return true;
    }
    if (strcmp(word, "blocks") == 0) {
        *first = T2T_TOKEN_LAYERS;
        return true;
    }
    const char *dash = strchr(word, '-');
    if (!dash) return find_layer(word, layers, first) && (*last = *first, true);
    char begin[T2T_NAME_BYTES];
    if ((size_t)(dash - word) >= sizeof begin) return false;
    memcpy(begin, word, (size_t)(dash - word));
    begin[dash - word] = '\0';
    return find_layer(begin, layers, first) && find_layer(dash + 1, layers, last) && *first <= *last;
}
