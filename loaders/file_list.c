/* Reading folders; see file_list.h. */
#include "loaders/file_list.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum t2t_status t2t_list_add(struct file_list *list, const char *text)
{
    if (list->count == list->room) {
        const size_t room = list->room ? 2 * list->room : 64;
        char **grown = realloc(list->names, room * sizeof *grown);
        if (!grown) return t2t_fail_memory("a list of names", room * sizeof *grown);
        list->names = grown;
        list->room = room;
    }
    if (!(list->names[list->count] = strdup(text))) return t2t_fail_memory("a name", strlen(text));
    list->count++;
    return T2T_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void t2t_list_sort(struct file_list *list)
{
    if (list->count) qsort(list->names, list->count, sizeof *list->names, compare_names);
}

void t2t_list_free(struct file_list *list)
{
    for (size_t i = 0; i < list->count; i++) free(list->names[i]);
    free(list->names);
    *list = (struct file_list){0};
}

bool t2t_is_picture_name(const char *name)
{
    static const char *const extensions[] = {".jpeg", ".jpg", ".jpe", ".png"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof extensions / sizeof *extensions; i++)
        if (strcasecmp(dot, extensions[i]) == 0) return true;
    return false;
}

char *t2t_join(const char *folder, const char *name)
{
    const size_t length = strlen(folder);
    const char *slash = length && folder[length - 1] != '/' ? "/" : "";
    const size_t bytes = length + strlen(slash) + strlen(name) + 1;
    char *path = malloc(bytes);
    if (path) snprintf(path, bytes, "%s%s%s", folder, slash, name);
    return path;
}

static enum t2t_status add_entry(struct folder *folder, const char *path, const char *name)
{
    char *full = t2t_join(path, name);
    if (!full) return t2t_fail_memory("a path", strlen(path));
    struct stat about;
    const bool known = stat(full, &about) == 0;
    free(full);
    if (known && S_ISDIR(about.st_mode)) return t2t_list_add(&folder->folders, name);
    if (t2t_is_picture_name(name)) return t2t_list_add(&folder->pictures, name); /* unreadable ones are told later */
    if (folder->ignored++ == 0) snprintf(folder->first_ignored, sizeof folder->first_ignored, "%s", name);
    return T2T_OK;
}

enum t2t_status t2t_folder_read(struct folder *folder, const char *path)
{
    *folder = (struct folder){.ignored = 0};
    DIR *directory = opendir(path);
    if (!directory) return t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    enum t2t_status status = T2T_OK;
    errno = 0;
    for (const struct dirent *entry; !status && (entry = readdir(directory)); errno = 0)
        if (entry->d_name[0] != '.') status = add_entry(folder, path, entry->d_name);
    if (!status && errno) status = t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    closedir(directory);
    t2t_list_sort(&folder->pictures);
    t2t_list_sort(&folder->folders);
    if (status) t2t_folder_free(folder);
    return status;
}

void t2t_folder_free(struct folder *folder)
{
    t2t_list_free(&folder->pictures);
    t2t_list_free(&folder->folders);
}
