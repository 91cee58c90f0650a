/* Which weights file a program uses when it may not have been told. */
#ifndef T2T_EVAL_WEIGHTS_LOOKUP_H
#define T2T_EVAL_WEIGHTS_LOOKUP_H

#include "layers/base/status.h"

/* `option` (--weights) where it is not NULL, else $T2TVIT_WEIGHTS, else t2tvit/default.safetensors in $XDG_DATA_HOME or
 * ~/.local/share. *path is to be freed; NULL and T2T_BAD_MODEL with advice where there is nothing. */
enum t2t_status t2t_weights_find(char **path, const char *option);

/* t2tvit/default.safetensors in $XDG_DATA_HOME or ~/.local/share, whether it is there or not; to be freed. T2T_BAD_USAGE
 * and NULL where neither $XDG_DATA_HOME nor $HOME names a folder. */
enum t2t_status t2t_weights_installed(char **path);

#endif
