/* What other code bases call the tensors of a T2T-ViT. Only names that stand for one tensor each: a base that splits
 * query, key and value in three has no row here.
 */
#include "eval/convert_names.h"

#include <string.h>

enum { MOST_PREFIX_BYTES = 100 };

static const char class_token[] = "cls_token";

/* "backbone." where one tensor is called backbone.cls_token; "" where none or several are called something like it. */
static void find_prefix(const struct t2t_checkpoint *checkpoint, char prefix[MOST_PREFIX_BYTES])
{
    size_t found = 0;
    prefix[0] = '\0';
    for (size_t i = 0; i < t2t_checkpoint_count(checkpoint); i++) {
        const char *name = t2t_checkpoint_at(checkpoint, i)->name;
        const size_t bytes = strlen(name), tail = sizeof class_token - 1;
        if (bytes <= tail || bytes - tail >= MOST_PREFIX_BYTES || name[bytes - tail - 1] != '.' ||
            strcmp(name + bytes - tail, class_token) != 0)
            continue;
        memcpy(prefix, name, bytes - tail);
        prefix[bytes - tail] = '\0';
        found++;
    }
    if (found != 1) prefix[0] = '\0';
}

enum t2t_status t2t_convert_names(struct t2t_checkpoint *checkpoint, bool *rewritten)
{
    static const char *const official[] = {class_token, "blocks.0.norm1.weight", "head.weight"};
    char prefix[MOST_PREFIX_BYTES];
    const struct t2t_renaming rows[] = {
        {prefix, ""},
        /* mmpretrain */
        {"encoder.", "blocks."},
        {".ln1.", ".norm1."},
        {".ln2.", ".norm2."},
        {".ffn.layers.0.0.", ".mlp.fc1."},
        {".ffn.layers.1.", ".mlp.fc2."},
        {"head.layers.head.", "head."},
        /* timm's and transformers' classifiers */
        {"head.fc.", "head."},
        {"classifier.", "head."},
    };
    *rewritten = false;
    for (size_t i = 0; i < sizeof official / sizeof *official; i++)
        *rewritten = *rewritten || !t2t_checkpoint_find(checkpoint, official[i]);
    if (!*rewritten) return T2T_OK;
    find_prefix(checkpoint, prefix);
    return t2t_checkpoint_rename(checkpoint, rows, sizeof rows / sizeof *rows, rewritten);
}
