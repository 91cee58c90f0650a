/* Names of classes: a list of the user's, the weights' own, ImageNet's, or numbers. */
#include "eval/class_names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/base/control_characters.h"
#include "loaders/dataset.h"

enum { IMAGENET = 1000 };

static enum t2t_status add_name(struct class_names *names, size_t *room, const char *text)
{
    if (names->count == *room) {
        *room = *room ? 2 * *room : 64;
        char **grown = realloc(names->names, *room * sizeof *grown);
        if (!grown) return t2t_fail_memory("class names", *room * sizeof *grown);
        names->names = grown;
    }
    names->names[names->count] = strdup(text);
    if (!names->names[names->count]) return t2t_fail_memory("a class name", strlen(text));
    names->count++;
    return T2T_OK;
}

static enum t2t_status read_lines(struct class_names *names, const char *path, size_t wanted)
{
    FILE *file = fopen(path, "re");
    if (!file) return t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    char *line = NULL;
    size_t line_room = 0, room = 0;
    enum t2t_status status = T2T_OK;
    ssize_t length = 0;
    while (!status && names->count <= wanted && (length = getline(&line, &line_room, file)) >= 0) {
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r')) line[--length] = '\0';
        status = add_name(names, &room, line);
    }
    const int reason = length >= 0 || feof(file) ? 0 : errno; /* a line may also be too long for memory */
    fclose(file);
    free(line);
    if (status) return status;
    if (reason) return t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(reason));
    if (names->count != wanted)
        return t2t_fail(T2T_BAD_DATA, "%s: has %s%zu lines, expected a class name a line for %zu classes", path,
            names->count > wanted ? "more than " : "", names->count > wanted ? wanted : names->count, wanted);
    return T2T_OK;
}

enum t2t_status t2t_class_names_open(struct class_names *names, const char *file_or_null, const struct t2t_model *model)
{
    *names = (struct class_names){.names = NULL};
    const size_t wanted = t2t_model_config(model)->num_classes;
    const char *const *own = t2t_model_class_names(model);
    enum t2t_status status = T2T_OK;
    size_t room = 0;
    if (file_or_null)
        status = read_lines(names, file_or_null, wanted);
    else if (own)
        for (size_t i = 0; i < wanted && !status; i++) status = add_name(names, &room, own[i]);
    if (status) {
        t2t_class_names_close(names);
        return status;
    }
    names->count = wanted;
    return T2T_OK;
}

void t2t_class_names_close(struct class_names *names)
{
    for (size_t i = 0; names->names && i < names->count; i++) free(names->names[i]);
    free(names->names);
    *names = (struct class_names){.names = NULL};
}

const char *t2t_class_name(
    const struct class_names *names, size_t index, enum class_name_style style, char text[CLASS_NAME_BYTES])
{
    const char *name = names->names ? names->names[index] : names->count == IMAGENET ? t2t_imagenet_name(index) : NULL;
    if (style == CLASS_NAME_WNID && names->count == IMAGENET) name = t2t_imagenet_wnid(index);
    if (!name) {
        snprintf(text, CLASS_NAME_BYTES, "class %zu", index);
        return text;
    }
    size_t length = style == CLASS_NAME_SHORT ? strcspn(name, ",") : strlen(name);
    if (length >= CLASS_NAME_BYTES) {
        length = CLASS_NAME_BYTES - 1;
        while (length && ((unsigned char)name[length] & 0xc0) == 0x80) length--; /* never half of a UTF-8 character */
    }
    snprintf(text, CLASS_NAME_BYTES, "%.*s", (int)length, name);
    t2t_hide_controls(text);
    return text;
}
