/* Finding and opening the module of a device; see devices.h. */
#include "layers/devices.h"

#include <dlfcn.h>
#include <elf.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULE_FILE "libt2tvit_cuda.so"

static void take_failure(enum t2t_status status, const char *sentence)
{
    t2t_fail(status, "%s", sentence);
}

static bool found_in(const char *folder, const char *below, char path[PATH_MAX])
{
    const int length = snprintf(path, PATH_MAX, "%s/%s" MODULE_FILE, folder, below);
    return length > 0 && length < PATH_MAX && access(path, R_OK) == 0;
}

static bool find_module(const char *wanted, char path[PATH_MAX])
{
    if (wanted && *wanted) return found_in(wanted, "", path);
    char program[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return false;
    program[length] = 0;
    char *slash = strrchr(program, '/');
    if (!slash) return false;
    *slash = 0;
    return found_in(program, "", path) || found_in(program, "../lib/", path);
}

/* Whether a library is all there: the loader maps what its headers promise, and touching what a file lacks is a fault. An
 * ELF file ends with the table of its sections. */
static bool is_whole(const char *path)
{
    Elf64_Ehdr header;
    struct stat file;
    FILE *library = fopen(path, "rbe");
    const bool is_read = library && fread(&header, sizeof header, 1, library) == 1 && !fstat(fileno(library), &file);
    if (library) fclose(library);
    if (!is_read || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return true; /* the loader says what it is not */
    return header.e_shoff <= (uint64_t)file.st_size &&
           (uint64_t)file.st_size - header.e_shoff >= (uint64_t)header.e_shnum * header.e_shentsize;
}

/* NULL and the reason where there is none. An open module stays open: its threads may outlive any session. */
static const struct t2t_module *open_module(char *reason)
{
    /* first, because the module's own libraries take long to load */
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!driver) {
        snprintf(reason, T2T_REASON_BYTES, "no NVIDIA driver: %s", dlerror());
        return NULL;
    }
    const char *wanted = getenv("T2TVIT_MODULES");
    char path[PATH_MAX];
    if (!find_module(wanted, path)) {
        snprintf(reason, T2T_REASON_BYTES, "no module: %s has no " MODULE_FILE,
            wanted && *wanted ? "$T2TVIT_MODULES" : "the folder of the program or ../lib");
        return NULL;
    }
    if (!is_whole(path)) {
        snprintf(
            reason, T2T_REASON_BYTES, "the module cannot be loaded: %.300s is cut short; copy or build it again", path);
        return NULL;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(reason, T2T_REASON_BYTES, "the module cannot be loaded: %s", dlerror());
        return NULL;
    }
    t2t_module_open_function *open;
    *(void **)&open = dlsym(library, "t2t_module_open");
    const struct t2t_module *module = open ? open(T2T_MODULE_ABI, take_failure) : NULL;
    if (!module) snprintf(reason, T2T_REASON_BYTES, "%.300s belongs to another version of these programs", path);
    return module;
}

static const struct layer_ops *open_cuda(const struct layer_device_options *options, char *reason)
{
    const struct t2t_module *module = open_module(reason);
    return module && module->probe(options, reason, T2T_REASON_BYTES) ? module->ops() : NULL;
}

/* "cuda:12" */
static bool read_number(const char *name, size_t *number)
{
    enum { MOST = 9999 };
    char *end;
    if (name[0] < '0' || name[0] > '9') return false;
    *number = strtoul(name, &end, 10);
    return !*end && *number <= MOST;
}

enum t2t_status t2t_device_choose(
    const char *name, const struct layer_ops **ops, struct layer_device_options *options, char reason[T2T_REASON_BYTES])
{
    *ops = &t2t_cpu_ops;
    *reason = 0;
    options->ordinal = 0;
    if (strcmp(name, "cpu") == 0) return T2T_OK;
    const bool any = strcmp(name, "auto") == 0;
    if (!any && strcmp(name, "cuda") != 0 &&
        !(strncmp(name, "cuda:", 5) == 0 && read_number(name + 5, &options->ordinal)))
        return t2t_fail(T2T_BAD_USAGE, "no device \"%.60s\"; there are auto, cpu, cuda and cuda:N", name);
    const struct layer_ops *cuda = open_cuda(options, reason);
    if (cuda) {
        *ops = cuda;
        return T2T_OK;
    }
    return any ? T2T_OK : t2t_fail(T2T_NO_RESOURCE, "device %s cannot be used: %s", name, reason);
}
