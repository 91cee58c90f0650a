/* One checkpoint in, one safetensors file of a T2T-ViT out. */
#ifndef T2T_EVAL_CONVERT_FILE_H
#define T2T_EVAL_CONVERT_FILE_H

#include "eval/convert_model.h"
#include "eval/options.h"

struct convert_settings {
    struct convert_model_request model;
    struct t2t_checkpoint_options checkpoint;
    int dtype;                    /* index in keep|f32|f16|bf16 */
    size_t resize;                /* side of the picture to make positions for; 0: as stored */
    bool allow_unknown;           /* leave tensors out that are no part of the network */
    bool allow_nonfinite;         /* keep NaN and infinity */
    bool make_folders;            /* above the file to write */
    struct option_texts metadata; /* K=V */
};

/* Reads, checks and, unless `out` is NULL, writes; says on standard output what was found. `out` is complete
 * afterwards or what it was before. */
enum t2t_status t2t_convert_file(const char *in, const char *out, const struct convert_settings *settings);

/* T2T_BAD_USAGE unless every text is K=V and K is not what the converter itself finds out. */
enum t2t_status t2t_convert_check_metadata(const struct option_texts *metadata);

#endif
