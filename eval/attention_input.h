/* What attention is studied on: q, k and v from word vectors, from a layer of a model, or drawn in clusters. */
#ifndef T2T_EVAL_ATTENTION_INPUT_H
#define T2T_EVAL_ATTENTION_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "eval/picture_source.h"
#include "vit/t2t_vit.h"

/* `units` calls of one shape: pictures, or groups of rows. All rows are dense. */
struct attention_input {
    struct attention_shape shape;
    size_t units;
    uint32_t layer;        /* keys the random draws, with ... */
    uint64_t *image_index; /* [units] */
    float *q, *k, *v; /* [units, queries, heads * head_dim], [units, keys, ...], [units, keys, heads * value_dim] */
    char description[512];
};

/* Word vectors as in KDEformer's experiment (arXiv 2302.02451, section 4.1): q = k = `rows` vectors divided by 10^0.25,
 * v the `rows` vectors after them, scale 1; the next unit goes on from there. T2T_BAD_DATA. */
enum t2t_status t2t_input_glove(struct attention_input *input, const char *path, size_t rows, size_t units);

/* Clusters: a token's query and key lie around the centre of its cluster and its value around another; clusters are as
 * large as 1 / rank; scale dim^-0.5. Drawn by fixed keys: the same numbers on every machine. */
enum t2t_status t2t_input_clusters(struct attention_input *input, size_t rows, size_t dim, size_t units);

/* What the attention of `layer` is given when `model`, as trained, sees the source's pictures (at most `units` of
 * them). T2T_BAD_MODEL where the layer has no softmax attention; a picture that cannot be used is T2T_BAD_DATA. */
enum t2t_status t2t_input_captured(struct attention_input *input, const struct t2t_model *model, size_t layer,
    struct picture_source *source, size_t units, size_t threads);

void t2t_input_free(struct attention_input *input);

#endif
