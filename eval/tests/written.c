/* Reading reports and logits; see written.h. */
#include "eval/tests/written.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

json_t *parsed(const char *text)
{
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!root) fail_msg("line %d: %s:\n%s", error.line, error.text, text);
    return root;
}

json_t *report_of(struct result result)
{
    command_expect(&result, 0, "");
    assert_string_equal(result.error, ""); /* -q */
    return parsed(result.out);
}

const json_t *at(const json_t *root, const char *key)
{
    const json_t *value = json_object_get(root, key);
    if (!value) fail_msg("the report has no %s", key);
    return value;
}

size_t count_at(const json_t *root, const char *key)
{
    assert_true(json_is_integer(at(root, key)));
    return (size_t)json_integer_value(at(root, key));
}

const json_t *run_of(const json_t *report, size_t index)
{
    const json_t *run = json_array_get(at(report, "runs"), index);
    assert_non_null(run);
    return run;
}

const char *text_at(const json_t *root, const char *key)
{
    assert_true(json_is_string(at(root, key)));
    return json_string_value(at(root, key));
}

struct logits logits_of(const char *path, const char *tensor)
{
    struct logits logits;
    if (t2t_tensors_open(&logits.file, path)) fail_msg("%s", t2t_last_error());
    const struct t2t_tensor *found = t2t_tensors_find(logits.file, tensor);
    if (!found) fail_msg("%s has no tensor %s", path, tensor);
    assert_int_equal(found->rank, 2);
    assert_int_equal(found->shape[1], SHOP_CLASSES);
    logits.pictures = found->shape[0];
    logits.value = found->data;
    return logits;
}

void expect_same_logits(const char *one, const char *other, const char *tensor)
{
    const struct logits a = logits_of(one, tensor), b = logits_of(other, tensor);
    assert_int_equal(a.pictures, b.pictures);
    assert_memory_equal(a.value, b.value, a.pictures * SHOP_CLASSES * sizeof(float));
    t2t_tensors_close(a.file);
    t2t_tensors_close(b.file);
}
