/* The eleven variants of the official release (models/t2t_vit.py), one row each. */
#include <string.h>

#include "vit/t2t_vit.h"

#define TRANSFORMER(NAME, EMBED_DIM, DEPTH, HEADS, MLP_RATIO)                                                          \
    {                                                                                                                  \
        NAME, T2T_TOKENS_TRANSFORMER, 224, 1000, EMBED_DIM, DEPTH, HEADS, MLP_RATIO, 64                                \
    }
#define PERFORMER(NAME, EMBED_DIM, DEPTH, HEADS, MLP_RATIO)                                                            \
    {                                                                                                                  \
        NAME, T2T_TOKENS_PERFORMER, 224, 1000, EMBED_DIM, DEPTH, HEADS, MLP_RATIO, 64                                  \
    }

static const struct t2t_config variants[] = {
    /* name, embed_dim, depth, num_heads, mlp_ratio */
    PERFORMER("t2t_vit_7", 256, 7, 4, 2),
    PERFORMER("t2t_vit_10", 256, 10, 4, 2),
    PERFORMER("t2t_vit_12", 256, 12, 4, 2),
    PERFORMER("t2t_vit_14", 384, 14, 6, 3),
    PERFORMER("t2t_vit_19", 448, 19, 7, 3),
    PERFORMER("t2t_vit_24", 512, 24, 8, 3),
    TRANSFORMER("t2t_vit_t_14", 384, 14, 6, 3),
    TRANSFORMER("t2t_vit_t_19", 448, 19, 7, 3),
    TRANSFORMER("t2t_vit_t_24", 512, 24, 8, 3),
    PERFORMER("t2t_vit_14_resnext", 384, 14, 32, 3),
    PERFORMER("t2t_vit_14_wide", 768, 4, 12, 3),
};

const struct t2t_config *t2t_variant(size_t index)
{
    return index < sizeof variants / sizeof *variants ? &variants[index] : NULL;
}

const struct t2t_config *t2t_variant_named(const char *name)
{
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if (strcmp(variants[i].name, name) == 0) return &variants[i];
    return NULL;
}
