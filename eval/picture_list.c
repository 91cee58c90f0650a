/* Names to a list of pictures; see picture_list.h. */
#include "eval/picture_list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loaders/file_list.h"

enum { DEEPEST = 64, MOST_STDIN = 256 << 20 };

void t2t_list_init(struct picture_list *list)
{
    *list = (struct picture_list){.standard_input = -1};
    list->pictures.layout = "files";
    list->pictures.label_kind = "none";
}

static enum t2t_status add(struct picture_list *list, const char *path, const char *name)
{
    const size_t count = list->pictures.count;
    if (count == list->room) {
        const size_t room = list->room ? 2 * list->room : 64;
        char **paths = realloc(list->paths, room * sizeof *paths);
        if (paths) list->paths = paths;
        char **names = paths ? realloc(list->names, room * sizeof *names) : NULL;
        if (names) list->names = names;
        struct t2t_sample *samples = names ? realloc(list->pictures.samples, room * sizeof *samples) : NULL;
        if (!samples) return t2t_fail_memory("a list of pictures", room * sizeof *samples);
        list->pictures.samples = samples;
        list->room = room;
    }
    list->paths[count] = strdup(path);
    list->names[count] = strdup(name);
    list->pictures.samples[count] =
        (struct t2t_sample){.path = list->paths[count], .name = list->names[count], .label = -1};
    list->pictures.count = list->pictures.total = count + 1;
    return list->paths[count] && list->names[count] ? T2T_OK : t2t_fail_memory("a file name", strlen(path));
}

/* Folders that an operand has led to, since links can lead to one again. */
struct visited {
    struct identity {
        dev_t device;
        ino_t inode;
    } * folder;
    size_t count, room;
};

static enum t2t_status visit(struct visited *visited, const char *path, bool *again)
{
    struct stat about;
    if (stat(path, &about) != 0) return t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    for (size_t i = 0; i < visited->count; i++)
        if (visited->folder[i].device == about.st_dev && visited->folder[i].inode == about.st_ino) {
            *again = true;
            return T2T_OK;
        }
    if (visited->count == visited->room) {
        const size_t room = visited->room ? 2 * visited->room : 64;
        struct identity *grown = realloc(visited->folder, room * sizeof *grown);
        if (!grown) return t2t_fail_memory("a list of folders", room * sizeof *grown);
        visited->folder = grown;
        visited->room = room;
    }
    visited->folder[visited->count++] = (struct identity){about.st_dev, about.st_ino};
    return T2T_OK;
}

/* Pictures of a folder in the order of their names, then those of its folders; nothing where it has been visited. */
static enum t2t_status add_folder(
    struct picture_list *list, struct visited *visited, const char *path, bool recursive, size_t depth)
{
    struct folder folder;
    bool again = false;
    enum t2t_status status = visit(visited, path, &again);
    if (!status && !again) status = t2t_folder_read(&folder, path);
    if (status || again) return status;
    for (size_t i = 0; i < folder.pictures.count && !status; i++) {
        char *picture = t2t_join(path, folder.pictures.names[i]);
        status = picture ? add(list, picture, picture) : t2t_fail_memory("a path", strlen(path));
        free(picture);
    }
    if (recursive && folder.folders.count && depth == DEEPEST)
        status = t2t_fail(T2T_BAD_DATA, "%s: folders within folders more than %d deep", path, DEEPEST);
    for (size_t i = 0; recursive && i < folder.folders.count && !status; i++) {
        char *inner = t2t_join(path, folder.folders.names[i]);
        status = inner ? add_folder(list, visited, inner, true, depth + 1) : t2t_fail_memory("a path", strlen(path));
        free(inner);
    }
    t2t_folder_free(&folder);
    return status;
}

/* Copies standard input to memory that has a path, since a decoder may want to read it as a file. */
static enum t2t_status add_standard_input(struct picture_list *list)
{
    if (list->standard_input >= 0) return t2t_fail(T2T_BAD_USAGE, "\"-\": standard input is named twice");
    list->standard_input = memfd_create("picture", MFD_CLOEXEC);
    if (list->standard_input < 0) return t2t_fail(T2T_NO_RESOURCE, "no memory file for standard input");
    static char block[1 << 16];
    size_t total = 0;
    for (;;) {
        const ssize_t got = read(STDIN_FILENO, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return t2t_fail(T2T_BAD_DATA, "standard input cannot be read: %s", strerror(errno));
        if (got == 0) break;
        total += (size_t)got;
        if (total > MOST_STDIN)
            return t2t_fail(T2T_BAD_DATA, "standard input: pictures of more than %d bytes are refused", MOST_STDIN);
        if (write(list->standard_input, block, (size_t)got) != got)
            return t2t_fail_memory("a picture from standard input", total);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", list->standard_input);
    return add(list, path, "-");
}

enum t2t_status t2t_list_operand(struct picture_list *list, const char *operand, bool recursive)
{
    struct stat about;
    if (strcmp(operand, "-") == 0) return add_standard_input(list);
    if (stat(operand, &about) != 0 || !S_ISDIR(about.st_mode)) return add(list, operand, operand);
    const size_t before = list->pictures.count;
    char *folder = strdup(operand);
    if (!folder) return t2t_fail_memory("a path", strlen(operand));
    for (size_t end = strlen(folder); end > 1 && folder[end - 1] == '/'; end--) folder[end - 1] = '\0';
    struct visited visited = {.count = 0};
    enum t2t_status status = add_folder(list, &visited, folder, recursive, 0);
    free(visited.folder);
    free(folder);
    if (!status && list->pictures.count == before)
        status = t2t_fail(T2T_BAD_DATA, "%s: holds no pictures (.jpeg .jpg .jpe .png)%s", operand,
            recursive ? "" : "; --recursive also looks into its folders");
    return status;
}

enum t2t_status t2t_list_from_file(struct picture_list *list, const char *path, bool nul, bool recursive)
{
    const bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "re");
    if (!file) return t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    char *line = NULL;
    size_t room = 0;
    enum t2t_status status = T2T_OK;
    const int end = nul ? '\0' : '\n';
    for (ssize_t length; !status && (length = getdelim(&line, &room, end, file)) >= 0;) {
        if (length > 0 && line[length - 1] == end) line[--length] = '\0';
        if (!nul && length > 0 && line[length - 1] == '\r') line[--length] = '\0';
        if ((size_t)length != strlen(line))
            status = t2t_fail(T2T_BAD_DATA, "%s: a line holds NUL bytes; if they end the names, say --null", path);
        else if (strcmp(line, "-") == 0 && standard)
            status = t2t_fail(T2T_BAD_USAGE, "--files-from -: the list itself names standard input");
        else if (length > 0)
            status = t2t_list_operand(list, line, recursive);
    }
    if (!status && !feof(file)) status = t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    if (!standard) fclose(file);
    free(line);
    return status;
}

void t2t_list_close(struct picture_list *list)
{
    for (size_t i = 0; i < list->pictures.count; i++) {
        free(list->paths[i]);
        free(list->names[i]);
    }
    free(list->paths);
    free(list->names);
    free(list->pictures.samples);
    if (list->standard_input >= 0) close(list->standard_input);
    t2t_list_init(list);
}
