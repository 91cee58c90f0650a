/* Looking for weights. */
#include "eval/weights_lookup.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char advice[] =
    "get one of the official checkpoints (for example 81.7_T2T_ViTt_14.pth.tar from the releases of "
    "github.com/yitu-opensource/T2T-ViT) and run t2tvit-convert --install 81.7_T2T_ViTt_14.pth.tar; "
    "the demo's network is weights/demo/demo.safetensors";

static enum t2t_status take(char **path, const char *text, const char *from)
{
    if (access(text, R_OK) != 0)
        return t2t_fail(
            T2T_BAD_MODEL, "%s: the weights file of %s cannot be read (%s); %s", text, from, strerror(errno), advice);
    *path = strdup(text);
    return *path ? T2T_OK : t2t_fail_memory("a file name", strlen(text) + 1);
}

enum t2t_status t2t_weights_installed(char **path)
{
    *path = NULL;
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    const bool relative = !data || data[0] != '/'; /* the XDG rules ignore a relative one */
    if (relative && (!home || home[0] != '/'))
        return t2t_fail(T2T_BAD_USAGE, "neither $XDG_DATA_HOME nor $HOME names a folder");
    if (asprintf(path, "%s%s/t2tvit/default.safetensors", relative ? home : data, relative ? "/.local/share" : "") >= 0)
        return T2T_OK;
    *path = NULL;
    return t2t_fail_memory("a file name", strlen(relative ? home : data));
}

enum t2t_status t2t_weights_find(char **path, const char *option)
{
    *path = NULL;
    if (option) return take(path, option, "--weights");
    const char *variable = getenv("T2TVIT_WEIGHTS");
    if (variable && *variable) return take(path, variable, "$T2TVIT_WEIGHTS");

    const enum t2t_status named = t2t_weights_installed(path);
    if (named)
        return named == T2T_NO_RESOURCE
                   ? named
                   : t2t_fail(T2T_BAD_MODEL, "no weights: neither --weights nor $T2TVIT_WEIGHTS is given, and %s; %s",
                         t2t_last_error(), advice);
    if (access(*path, R_OK) == 0) return T2T_OK;
    const enum t2t_status status = t2t_fail(T2T_BAD_MODEL,
        "no weights: neither --weights nor $T2TVIT_WEIGHTS is given, and %s cannot be read (%s); %s", *path,
        strerror(errno), advice);
    free(*path);
    *path = NULL;
    return status;
}
