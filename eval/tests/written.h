/* Reading what the programs wrote: reports in JSON, logits in safetensors. What is missing fails the test. */
#ifndef T2T_EVAL_TESTS_WRITTEN_H
#define T2T_EVAL_TESTS_WRITTEN_H

#include <jansson.h>

#include "eval/tests/workshop.h"
#include "weights/safetensors.h"

json_t *parsed(const char *text);

/* The report of a run with these arguments; to be released. */
#define REPORT(...) report_of(EVAL("-q", "--format", "json", __VA_ARGS__))
json_t *report_of(struct result result);

const json_t *at(const json_t *root, const char *key);
size_t count_at(const json_t *root, const char *key);
const char *text_at(const json_t *root, const char *key);
const json_t *run_of(const json_t *report, size_t index);

struct logits {
    struct t2t_tensors *file; /* to be closed */
    const float *value;       /* [pictures, SHOP_CLASSES] */
    size_t pictures;
};

struct logits logits_of(const char *path, const char *tensor);
void expect_same_logits(const char *one, const char *other, const char *tensor);

#endif
