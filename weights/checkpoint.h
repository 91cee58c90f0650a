/* Named tensors of a file in any form that PyTorch users have: both forms of torch.save, or safetensors. Which form it
 * is follows from the content, never from the name.
 *
 * Opening reads and checks everything but the numbers, so that what does not fit is refused before memory is spent.
 */
#ifndef T2T_WEIGHTS_CHECKPOINT_H
#define T2T_WEIGHTS_CHECKPOINT_H

#include <stdbool.h>

#include "weights/safetensors.h"

enum t2t_weights_key {
    T2T_KEY_AUTO,  /* state_dict_ema, else state_dict, else model, else the dictionary itself */
    T2T_KEY_EMA,   /* state_dict_ema */
    T2T_KEY_MODEL, /* as auto without state_dict_ema */
};

struct t2t_checkpoint_options {
    enum t2t_weights_key key;
    const char *strip_prefix; /* taken off names that begin with it; NULL: "module." */
};

struct t2t_checkpoint_info {
    const char *format;   /* "PyTorch zip archive" ... */
    const char *key;      /* "state_dict_ema" ..., or "" for the dictionary itself */
    const char *beside;   /* another key that could have been taken, or "" */
    const char *stripped; /* the prefix that was taken off, or "" */
    char arch[64];        /* the model's name as the file states it, or "" */
};

struct t2t_checkpoint;

/* On failure *checkpoint is NULL, the status T2T_BAD_MODEL (T2T_NO_RESOURCE without memory), and the sentence names the
 * path. Release with t2t_checkpoint_close(). */
enum t2t_status t2t_checkpoint_open(
    struct t2t_checkpoint **checkpoint, const char *path, const struct t2t_checkpoint_options *options);
void t2t_checkpoint_close(struct t2t_checkpoint *checkpoint);

const struct t2t_checkpoint_info *t2t_checkpoint_info(const struct t2t_checkpoint *checkpoint);
size_t t2t_checkpoint_count(const struct t2t_checkpoint *checkpoint);
/* In the file's order; `data` is NULL until it is loaded. */
const struct t2t_tensor *t2t_checkpoint_at(const struct t2t_checkpoint *checkpoint, size_t index);
const struct t2t_tensor *t2t_checkpoint_find(const struct t2t_checkpoint *checkpoint, const char *name);

/* A text at the beginning of names, or with a dot before it anywhere in them, that becomes another. */
struct t2t_renaming {
    const char *from, *to;
};
/* Rewrites all names by the rows, one row after another. T2T_BAD_MODEL when two names become one. *changed: whether any
 * name is another than before. */
enum t2t_status t2t_checkpoint_rename(
    struct t2t_checkpoint *checkpoint, const struct t2t_renaming *rows, size_t row_count, bool *changed);

/* The safetensors file behind it, for its metadata; NULL for the other forms. */
const struct t2t_tensors *t2t_checkpoint_safetensors(const struct t2t_checkpoint *checkpoint);

/* Reads the numbers, row-major, of the tensors with wanted[i] (NULL: of all); at most 1 GiB. Once. */
enum t2t_status t2t_checkpoint_load(struct t2t_checkpoint *checkpoint, const bool *wanted);

#endif
