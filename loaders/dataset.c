/* Layouts of labelled pictures, each a row of a table; see dataset.h. */
#include "loaders/dataset.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "loaders/file_list.h"
#include "loaders/imagenet_classes.h"
#include "loaders/labels.h"

/* Owns what a data set points to. */
struct storage {
    struct file_list paths, names;
};

/* A data set while it is listed: names relative to `root`, labels beside them. */
struct listing {
    const struct t2t_dataset_options *options;
    char *root;
    struct folder top;
    struct file_list names;
    int32_t *label;
    size_t label_room;
    size_t ignored;
    char first_ignored[256];
    const char *label_kind;
};

static enum t2t_status add_sample(struct listing *listing, const char *name, int32_t label)
{
    if (listing->names.count == listing->label_room) {
        const size_t room = listing->label_room ? 2 * listing->label_room : 256;
        int32_t *grown = realloc(listing->label, room * sizeof *grown);
        if (!grown) return t2t_fail_memory("labels", room * sizeof *grown);
        listing->label = grown;
        listing->label_room = room;
    }
    listing->label[listing->names.count] = label;
    return t2t_list_add(&listing->names, name);
}

static void note_ignored(struct listing *listing, const struct folder *folder, const char *prefix)
{
    if (folder->ignored && !listing->ignored)
        snprintf(listing->first_ignored, sizeof listing->first_ignored, "%.120s%s%.120s", prefix, *prefix ? "/" : "",
            folder->first_ignored);
    listing->ignored += folder->ignored;
}

/* Every picture of one class folder. */
static enum t2t_status add_class_folder(struct listing *listing, const char *name, int32_t label)
{
    char *path = t2t_join(listing->root, name);
    if (!path) return t2t_fail_memory("a path", strlen(name));
    struct folder folder;
    enum t2t_status status = t2t_folder_read(&folder, path);
    free(path);
    if (status) return status;
    note_ignored(listing, &folder, name);
    for (size_t i = 0; i < folder.pictures.count && !status; i++) {
        char *relative = t2t_join(name, folder.pictures.names[i]);
        status = relative ? add_sample(listing, relative, label) : t2t_fail_memory("a path", strlen(name));
        free(relative);
    }
    t2t_folder_free(&folder);
    return status;
}

/* ---- wnid folders ---- */

static bool has_wnid_form(const char *name)
{
    if (name[0] != 'n' || strlen(name) != 9) return false;
    for (size_t i = 1; i < 9; i++)
        if (!isdigit((unsigned char)name[i])) return false;
    return true;
}

static bool fits_wnid(const struct listing *listing)
{
    for (size_t i = 0; i < listing->top.folders.count; i++)
        if (has_wnid_form(listing->top.folders.names[i]) &&
            t2t_class_index(listing->options, listing->top.folders.names[i]) < 0)
            return true;
    return false;
}

static enum t2t_status list_wnid(struct listing *listing)
{
    listing->label_kind = "wnid";
    if (listing->options->num_classes != T2T_IMAGENET_CLASSES)
        return t2t_fail(T2T_BAD_DATA, "%s: has ImageNet's wnid folders, but this model has %zu classes instead of %d",
            listing->root, listing->options->num_classes, T2T_IMAGENET_CLASSES);
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < listing->top.folders.count && !status; i++) {
        const char *name = listing->top.folders.names[i];
        const int32_t label = t2t_imagenet_index_of_wnid(name);
        if (label < 0)
            return t2t_fail(
                T2T_BAD_DATA, "%s/%s: is no wnid of the 1000 classes of ImageNet (ILSVRC2012)", listing->root, name);
        status = add_class_folder(listing, name, label);
    }
    return status;
}

/* ---- folders named after the classes of the weights ---- */

static bool fits_classes(const struct listing *listing)
{
    return listing->top.folders.count > 0;
}

static bool all_numbers(const struct file_list *names)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->names[i][strspn(names->names[i], "0123456789")]) return false;
    return true;
}

static enum t2t_status no_such_class(const struct listing *listing, const char *name)
{
    const struct t2t_dataset_options *options = listing->options;
    if (all_numbers(&listing->top.folders) && options->num_classes == T2T_IMAGENET_CLASSES)
        return t2t_fail(T2T_BAD_DATA,
            "%s: has folders named by numbers, as ImageNet-V2 does; this layout cannot be read yet, rename each to its "
            "wnid",
            listing->root);
    if (!options->class_names)
        return t2t_fail(T2T_BAD_DATA,
            "%s/%s: is no wnid of ImageNet, and the weights do not name their classes (metadata class_names)",
            listing->root, name);
    char known[400];
    size_t used = 0;
    known[0] = '\0';
    for (size_t i = 0; i < options->num_classes && used < 200; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%.100s", i ? ", " : "", options->class_names[i]);
    return t2t_fail(T2T_BAD_DATA, "%s/%s: is no class of these weights; they know %s%s", listing->root, name, known,
        used < 200 ? "" : " ...");
}

static enum t2t_status list_classes(struct listing *listing)
{
    listing->label_kind = "name";
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < listing->top.folders.count && !status; i++) {
        const char *name = listing->top.folders.names[i];
        const int32_t label = t2t_class_index(listing->options, name);
        if (t2t_class_is_ambiguous(listing->options, name))
            return t2t_fail(
                T2T_BAD_DATA, "%s/%s: the weights call more than one class by this name", listing->root, name);
        status = label < 0 ? no_such_class(listing, name) : add_class_folder(listing, name, label);
    }
    return status;
}

/* ---- one folder and a label list ---- */

static bool fits_flat(const struct listing *listing)
{
    return listing->top.pictures.count > 0;
}

static enum t2t_status list_flat(struct listing *listing)
{
    if (!listing->options->labels)
        return t2t_fail(T2T_BAD_DATA,
            "%s: holds pictures without folders for their classes; give their labels with --labels FILE",
            listing->root);
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < listing->top.pictures.count && !status; i++)
        status = add_sample(listing, listing->top.pictures.names[i], -1);
    if (!status) status = t2t_labels_read(listing->options, &listing->names, listing->label, &listing->label_kind);
    return status;
}

/* ---- the table ---- */

struct layout {
    const char *name;
    bool (*fits)(const struct listing *listing);
    enum t2t_status (*list)(struct listing *listing);
};

static const struct layout layouts[] = {
    {"wnid", fits_wnid, list_wnid},
    {"classes", fits_classes, list_classes},
    {"flat", fits_flat, list_flat},
};

static enum t2t_status find_layout(const struct listing *listing, const struct layout **layout)
{
    const char *asked = listing->options->layout ? listing->options->layout : "auto";
    const bool automatic = strcmp(asked, "auto") == 0;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        *layout = &layouts[i];
        if (automatic ? layouts[i].fits(listing) : strcmp(asked, layouts[i].name) == 0) return T2T_OK;
    }
    if (automatic)
        return t2t_fail(
            T2T_BAD_DATA, "%s: holds neither class folders nor pictures (.jpeg .jpg .jpe .png)", listing->root);
    return t2t_fail(T2T_BAD_USAGE, "there is no layout \"%.40s\"; known are auto, wnid, classes, flat", asked);
}

/* The folder itself, or its val/ or validation/ where that is what it holds. */
static enum t2t_status open_root(struct listing *listing, const char *path)
{
    struct stat about;
    if (stat(path, &about)) return t2t_fail(T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
    if (!S_ISDIR(about.st_mode))
        return t2t_fail(T2T_BAD_DATA,
            "%s: is a file, expected a folder of pictures; unpack an archive, or give a single picture to "
            "t2tvit-classify",
            path);
    listing->root = strdup(path);
    if (!listing->root) return t2t_fail_memory("a path", strlen(path));
    for (size_t end = strlen(listing->root); end > 1 && listing->root[end - 1] == '/'; end--)
        listing->root[end - 1] = '\0';
    enum t2t_status status = t2t_folder_read(&listing->top, listing->root);
    static const char *const parts[] = {"val", "validation"};
    for (size_t p = 0; p < 2 && !status; p++)
        for (size_t i = 0; i < listing->top.folders.count && !status; i++) {
            if (strcmp(listing->top.folders.names[i], parts[p]) != 0 ||
                t2t_class_index(listing->options, parts[p]) >= 0 || fits_wnid(listing))
                continue;
            char *inner = t2t_join(listing->root, parts[p]);
            if (!inner) return t2t_fail_memory("a path", strlen(path));
            free(listing->root);
            listing->root = inner;
            t2t_folder_free(&listing->top);
            return t2t_folder_read(&listing->top, inner);
        }
    return status;
}

/* ---- the result ---- */

struct order {
    const char *name;
    int32_t label;
};

static int compare_order(const void *a, const void *b)
{
    return strcmp(((const struct order *)a)->name, ((const struct order *)b)->name);
}

static enum t2t_status keep(struct listing *listing, struct t2t_dataset *dataset)
{
    const size_t total = listing->names.count, limit = listing->options->limit;
    const size_t count = limit && limit < total ? limit : total;
    struct storage *storage = calloc(1, sizeof *storage);
    struct order *order = calloc(total, sizeof *order);
    dataset->storage = storage;
    dataset->samples = calloc(count, sizeof *dataset->samples);
    if (!storage || !order || !dataset->samples) {
        free(order);
        return t2t_fail_memory("a list of pictures", total * sizeof *order);
    }
    for (size_t i = 0; i < total; i++) order[i] = (struct order){listing->names.names[i], listing->label[i]};
    qsort(order, total, sizeof *order, compare_order);
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < count && !status; i++) {
        const size_t place = (size_t)((double)i * (double)total / (double)count);
        char *path = t2t_join(listing->root, order[place].name);
        status = path ? t2t_list_add(&storage->paths, path) : t2t_fail_memory("a path", total);
        free(path);
        if (!status) status = t2t_list_add(&storage->names, order[place].name);
        if (status) break;
        dataset->samples[i] = (struct t2t_sample){.path = storage->paths.names[i],
            .name = storage->names.names[i],
            .label = order[place].label,
            .index = place};
    }
    free(order);
    dataset->count = count;
    dataset->total = total;
    dataset->label_kind = listing->label_kind;
    dataset->ignored = listing->ignored;
    snprintf(dataset->first_ignored, sizeof dataset->first_ignored, "%s", listing->first_ignored);
    return status;
}

static enum t2t_status count_classes(struct t2t_dataset *dataset, size_t num_classes)
{
    size_t *count = calloc(num_classes ? num_classes : 1, sizeof *count);
    if (!count) return t2t_fail_memory("class counts", num_classes * sizeof *count);
    for (size_t i = 0; i < dataset->count; i++) count[dataset->samples[i].label]++;
    for (size_t i = 0; i < num_classes; i++) {
        if (!count[i]) continue;
        if (!dataset->classes_present++ || count[i] < dataset->smallest_class) dataset->smallest_class = count[i];
        if (count[i] > dataset->largest_class) dataset->largest_class = count[i];
    }
    free(count);
    return T2T_OK;
}

static enum t2t_status open_listing(struct listing *listing, struct t2t_dataset *dataset)
{
    const struct layout *layout = NULL;
    enum t2t_status status = open_root(listing, listing->options->path);
    if (!status) status = find_layout(listing, &layout);
    if (status) return status;
    if (listing->options->labels && layout->list != list_flat)
        return t2t_fail(T2T_BAD_USAGE, "%s: its folders say the labels; a list like %s is for one flat folder",
            listing->root, listing->options->labels);
    note_ignored(listing, &listing->top, "");
    status = layout->list(listing);
    if (status) return status;
    if (!listing->names.count)
        return t2t_fail(T2T_BAD_DATA, "%s: its folders hold no pictures (.jpeg .jpg .jpe .png)", listing->root);
    dataset->layout = layout->name;
    status = keep(listing, dataset);
    if (!status) status = count_classes(dataset, listing->options->num_classes);
    return status;
}

enum t2t_status t2t_dataset_open(struct t2t_dataset *dataset, const struct t2t_dataset_options *options)
{
    *dataset = (struct t2t_dataset){.count = 0};
    struct listing listing = {.options = options};
    const enum t2t_status status = open_listing(&listing, dataset);
    t2t_folder_free(&listing.top);
    t2t_list_free(&listing.names);
    free(listing.label);
    free(listing.root);
    if (status) t2t_dataset_close(dataset);
    return status;
}

void t2t_dataset_close(struct t2t_dataset *dataset)
{
    struct storage *storage = dataset->storage;
    if (storage) {
        t2t_list_free(&storage->paths);
        t2t_list_free(&storage->names);
    }
    free(storage);
    free(dataset->samples);
    *dataset = (struct t2t_dataset){.count = 0};
}
