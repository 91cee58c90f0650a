/* Names in a folder, sorted by their bytes. Internal to loaders/. */
#ifndef T2T_LOADERS_FILE_LIST_H
#define T2T_LOADERS_FILE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "layers/base/status.h"

struct file_list {
    char **names; /* [count] */
    size_t count, room;
};

/* Appends a copy of `text`. T2T_NO_RESOURCE. */
enum t2t_status t2t_list_add(struct file_list *list, const char *text);
void t2t_list_sort(struct file_list *list);
void t2t_list_free(struct file_list *list);

struct folder {
    struct file_list pictures, folders;
    size_t ignored; /* other files that are not hidden */
    char first_ignored[256];
};

/* Reads one folder; links are followed, hidden names skipped. `pictures` are files with a picture's extension. */
enum t2t_status t2t_folder_read(struct folder *folder, const char *path);
void t2t_folder_free(struct folder *folder);

bool t2t_is_picture_name(const char *name); /* .jpeg .jpg .jpe .png, any case */

/* "a/b" to be freed, NULL without memory. */
char *t2t_join(const char *folder, const char *name);

#endif
