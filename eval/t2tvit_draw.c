/* t2tvit-draw: writes labelled demo pictures, DIR/CLASS/CLASS_SEED_INDEX.JPEG; the same files for the same seed. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "eval/demo_pictures.h"
#include "layers/base/status.h"
#include "loaders/jpeg_encode.h"

static const char usage[] =
    "usage: t2tvit-draw --out DIR --count N [--seed S] [--start I] [--force]\n"
    "       t2tvit-draw --list-classes | --help | --version\n"
    "\n"
    "Draws N labelled JPEG pictures into DIR/CLASS/, every class as often as the others (give or take one).\n"
    "A picture depends on the seed and its index alone.\n"
    "\n"
    "  --out DIR        folder to write; made if missing, must be empty unless --force\n"
    "  --count N        how many pictures\n"
    "  --seed S         which series of pictures (default 0)\n"
    "  --start I        index of the first picture (default 0); picture i is of class i modulo the number of classes\n"
    "  --force          write into a folder that is not empty, replacing pictures of the same name\n"
    "  --list-classes   print the classes in the order of their labels\n"
    "\n"
    "Exit status: 0 done, 2 usage, 5 out of memory, 6 cannot write.\n";

struct options {
    const char *out;
    uint64_t count, seed, start;
    bool count_given, force;
};

static enum t2t_status parse_number(const char *option, const char *text, uint64_t *number)
{
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno == ERANGE)
        return t2t_fail(
            T2T_BAD_USAGE, "--%s \"%s\": expected a whole number from 0 to %" PRIu64, option, text, UINT64_MAX);
    *number = value;
    return T2T_OK;
}

static void list_classes(void)
{
    for (size_t i = 0; i < T2T_DEMO_CLASSES; i++) puts(t2t_demo_class_names[i]);
}

/* Options into *options; *done when one of them asked for text on stdout only. */
static enum t2t_status parse_options(int argc, char **argv, struct options *options, bool *done)
{
    enum { OUT = 1, COUNT, SEED, START, FORCE, LIST, HELP, VERSION };
    static const struct option known[] = {{"out", required_argument, NULL, OUT},
        {"count", required_argument, NULL, COUNT}, {"seed", required_argument, NULL, SEED},
        {"start", required_argument, NULL, START}, {"force", no_argument, NULL, FORCE},
        {"list-classes", no_argument, NULL, LIST}, {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, VERSION}, {0}};
    enum t2t_status status = T2T_OK;
    int option;
    while (!status && !*done && (option = getopt_long(argc, argv, ":", known, NULL)) != -1) {
        switch (option) {
        case OUT: options->out = optarg; break;
        case COUNT:
            status = parse_number("count", optarg, &options->count);
            options->count_given = true;
            break;
        case SEED: status = parse_number("seed", optarg, &options->seed); break;
        case START: status = parse_number("start", optarg, &options->start); break;
        case FORCE: options->force = true; break;
        case LIST:
            list_classes();
            *done = true;
            break;
        case HELP:
            fputs(usage, stdout);
            *done = true;
            break;
        case VERSION:
            puts("t2tvit-draw " T2T_VERSION);
            *done = true;
            break;
        case ':': return t2t_fail(T2T_BAD_USAGE, "%s needs a value", argv[optind - 1]);
        default: return t2t_fail(T2T_BAD_USAGE, "%s: no such option, or a value it does not take", argv[optind - 1]);
        }
    }
    if (status || *done) return status;
    if (optind < argc) return t2t_fail(T2T_BAD_USAGE, "\"%s\": t2tvit-draw takes options only", argv[optind]);
    if (!options->out) return t2t_fail(T2T_BAD_USAGE, "--out DIR is missing");
    if (!options->count_given) return t2t_fail(T2T_BAD_USAGE, "--count N is missing");
    if (options->start + options->count < options->start)
        return t2t_fail(T2T_BAD_USAGE, "--start and --count: the last index would be above %" PRIu64, UINT64_MAX);
    return T2T_OK;
}

static enum t2t_status make_folder(const char *path)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return T2T_OK;
    return t2t_fail(
        T2T_CANNOT_WRITE, "%s: the folder cannot be made (%s); choose another with --out", path, strerror(errno));
}

static enum t2t_status check_empty(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return t2t_fail(
            T2T_CANNOT_WRITE, "%s: no folder that can be read (%s); choose another with --out", path, strerror(errno));
    bool empty = true;
    for (const struct dirent *entry; empty && (entry = readdir(folder));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(folder);
    if (empty) return T2T_OK;
    return t2t_fail(T2T_CANNOT_WRITE, "%s: the folder is not empty; choose another with --out, or say --force", path);
}

static enum t2t_status draw_one(const struct options *options, uint64_t index, char *path, size_t path_bytes)
{
    struct demo_picture picture;
    enum t2t_status status = t2t_demo_draw(options->seed, index, &picture);
    if (status) return status;
    const char *name = t2t_demo_class_names[picture.label];
    snprintf(path, path_bytes, "%s/%s", options->out, name);
    status = make_folder(path);
    snprintf(path, path_bytes, "%s/%s/%s_%" PRIu64 "_%" PRIu64 ".JPEG", options->out, name, name, options->seed, index);
    if (!status) status = t2t_jpeg_write(path, picture.pixels, picture.width, picture.height, picture.quality);
    free(picture.pixels);
    return status;
}

static enum t2t_status draw(const struct options *options)
{
    enum t2t_status status = make_folder(options->out);
    if (!status && !options->force) status = check_empty(options->out);
    if (status) return status;
    const size_t path_bytes = strlen(options->out) + 256;
    char *path = malloc(path_bytes);
    if (!path) return t2t_fail_memory("a file name", path_bytes);
    for (uint64_t i = 0; !status && i < options->count; i++)
        status = draw_one(options, options->start + i, path, path_bytes);
    free(path);
    return status;
}

int main(int argc, char **argv)
{
    struct options options = {.out = NULL};
    bool done = false;
    enum t2t_status status = parse_options(argc, argv, &options, &done);
    if (!status && !done) status = draw(&options);
    if (!status && fflush(stdout) != 0)
        status = t2t_fail(T2T_CANNOT_WRITE, "standard output cannot be written (%s)", strerror(errno));
    if (status) fprintf(stderr, "t2tvit-draw: %s\n", t2t_last_error());
    if (status == T2T_BAD_USAGE) fputs("t2tvit-draw --help shows how to call it\n", stderr);
    return (int)status;
}
