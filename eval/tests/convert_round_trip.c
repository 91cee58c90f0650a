/* Every official variant, with synthetic weights, as both forms of torch.save, converted, and through the engine to the
 * logits of the official code. The names and shapes alone must tell which variant it is, but for the two that differ in
 * their heads only.
 */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/convert_file.h"
#include "vit/tests/synthetic.h"
#include "weights/tests/torch_writer.h"

#define GOLDEN "../vit/tests/golden/models"

static const double tolerance = 1e-5; /* of the standard deviation; the official float32 code is at 1.7e-6 */
enum { MAX_CLASSES = 1000 };

static char folder[] = "/tmp/t2tvit_convert_XXXXXX";
static char synthetic[64], saved[64], converted[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(synthetic, sizeof synthetic, "%s/synthetic", folder);
    snprintf(saved, sizeof saved, "%s/saved.pth.tar", folder);
    snprintf(converted, sizeof converted, "%s/converted", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(synthetic);
    unlink(saved);
    unlink(converted);
    return rmdir(folder);
}

static void save(const struct t2t_tensors *weights, bool legacy)
{
    const size_t count = t2t_tensors_count(weights);
    struct t2t_tensor *tensors = calloc(count, sizeof *tensors);
    assert_non_null(tensors);
    for (size_t i = 0; i < count; i++) tensors[i] = *t2t_tensors_at(weights, i);
    struct bytes file = {0};
    if (legacy)
        torch_legacy(&file, tensors, count, (struct torch_form){.key = "state_dict_ema"});
    else
        torch_zip(&file, tensors, count, (struct torch_form){.key = "state_dict", .prefix = "module."});
    bytes_save(&file, saved);
    bytes_free(&file);
    free(tensors);
}

static void same_tensors(const struct t2t_tensors *weights)
{
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, converted)) fail_msg("%s", t2t_last_error());
    assert_int_equal(t2t_tensors_count(file), t2t_tensors_count(weights));
    for (size_t i = 0; i < t2t_tensors_count(weights); i++) {
        const struct t2t_tensor *expected = t2t_tensors_at(weights, i);
        const struct t2t_tensor *found = t2t_tensors_find(file, expected->name);
        assert_non_null(found);
        assert_int_equal(found->rank, expected->rank);
        assert_memory_equal(found->shape, expected->shape, expected->rank * sizeof *expected->shape);
        if (memcmp(found->data, expected->data, expected->elements * sizeof(float)) != 0)
            fail_msg("%s differs", found->name);
    }
    t2t_tensors_close(file);
}

static double deviation(const float *x, size_t count)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < count; i++) mean += (double)x[i] / (double)count;
    for (size_t i = 0; i < count; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sqrt(squares / (double)(count - 1));
}

static void reaches_the_golden_logits(
    const struct t2t_config *expected, const struct t2t_tensors *golden, uint64_t seed)
{
    struct t2t_model *model;
    if (t2t_model_load(&model, NULL, converted)) fail_msg("%s", t2t_last_error());
    const struct t2t_config *config = t2t_model_config(model);
    assert_string_equal(config->name, expected->name);
    assert_int_equal(config->image_size, expected->image_size);
    struct t2t_plan plan;
    t2t_plan_exact(model, &plan);
    struct t2t_session *session;
    const struct t2t_session_options options = {.batch = 1, .plans = &plan, .plan_count = 1};
    if (t2t_session_open(&session, model, &options)) fail_msg("%s", t2t_last_error());
    float *picture = malloc(3 * config->image_size * config->image_size * sizeof *picture);
    assert_non_null(picture);
    synthetic_picture(config->image_size, seed, picture);
    float logits[MAX_CLASSES];
    if (t2t_forward(session, picture, &(const uint64_t){0}, 1, logits)) fail_msg("%s", t2t_last_error());
    free(picture);
    t2t_session_close(session);
    t2t_model_free(model);

    const struct t2t_tensor *stored = t2t_tensors_find(golden, "logits");
    assert_non_null(stored);
    float wanted[MAX_CLASSES];
    assert_int_equal(stored->elements, MAX_CLASSES);
    assert_int_equal(t2t_tensor_to_float(stored, wanted), T2T_OK);
    double error = 0;
    for (size_t i = 0; i < MAX_CLASSES; i++) {
        const double difference = fabs((double)logits[i] - (double)wanted[i]);
        if (!(difference <= error)) error = difference;
    }
    print_message("  logits %.1e of their standard deviation\n", error / deviation(wanted, MAX_CLASSES));
    assert_true(error <= tolerance * deviation(wanted, MAX_CLASSES));
}

/* Converts without a word about the model, which only the two variants of one shape refuse, naming both. */
static void convert(const char *name)
{
    struct convert_settings settings = {.dtype = 0};
    enum t2t_status status = t2t_convert_file(saved, converted, &settings);
    const bool ambiguous = strcmp(name, "t2t_vit_14") == 0 || strcmp(name, "t2t_vit_14_resnext") == 0;
    if (ambiguous) {
        assert_int_equal(status, T2T_BAD_MODEL);
        assert_non_null(
            strstr(t2t_last_error(), "--model t2t_vit_14 (6 heads) or --model t2t_vit_14_resnext (32 heads)"));
        settings.model.model = name;
        status = t2t_convert_file(saved, converted, &settings);
    }
    if (status) fail_msg("%s", t2t_last_error());
}

static void round_trip(const char *golden_path)
{
    struct t2t_tensors *golden, *weights;
    if (t2t_tensors_open(&golden, golden_path)) fail_msg("%s", t2t_last_error());
    const char *name = t2t_tensors_metadata(golden, "model"), *size = t2t_tensors_metadata(golden, "image_size");
    const char *seed_text = t2t_tensors_metadata(golden, "seed");
    assert_true(name && size && seed_text && t2t_variant_named(name));
    struct t2t_config config = *t2t_variant_named(name);
    config.image_size = strtoull(size, NULL, 10);
    const uint64_t seed = strtoull(seed_text, NULL, 10);
    if (synthetic_weights_write(synthetic, &config, seed)) fail_msg("%s", t2t_last_error());
    if (t2t_tensors_open(&weights, synthetic)) fail_msg("%s", t2t_last_error());
    for (int legacy = 0; legacy < 2; legacy++) {
        save(weights, legacy);
        unlink(converted);
        convert(name);
        same_tensors(weights);
    }
    reaches_the_golden_logits(&config, golden, seed);
    t2t_tensors_close(weights);
    t2t_tensors_close(golden);
}

static int is_golden(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    if (!dot || strcmp(dot, ".safetensors") != 0) return 0;
#ifdef T2T_SANITIZED /* sanitizers are slow: one variant of each kind */
    return strncmp(entry->d_name, "t2t_vit_7_224", 13) == 0 || strncmp(entry->d_name, "t2t_vit_t_14_224", 16) == 0;
#else
    return 1;
#endif
}

static void every_variant(void **state)
{
    (void)state;
    struct dirent **entries = NULL;
    const int count = scandir(GOLDEN, &entries, is_golden, alphasort);
    if (count <= 0) fail_msg("%s: no *.safetensors files there", GOLDEN);
    for (int i = 0; i < count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", GOLDEN, entries[i]->d_name);
        round_trip(path);
        free(entries[i]);
    }
    free(entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_variant)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
