/* Every stored stage row and the logits of the official code in float64, on synthetic weights and pictures: alone with
 * one thread, and as the fourth picture of a batch of five with two threads, which must give the very same bits.
 *
 * Reads the folder models/ of $T2TVIT_GOLDEN, else tests/golden/models.
 */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vit/tests/synthetic.h"

/* The official float32 code is at 2.4e-6 (stages) and 1.7e-6 (logits). */
static const double stage_tolerance = 1e-5, logits_tolerance = 1e-5;

enum { EDGE_ROWS = 4, BATCH = 5, GOLDEN_PLACE = 3, MAX_CLASSES = 1000 };

/* What a forward is compared with, and how far off it was. */
struct comparison {
    const struct t2t_tensors *golden;
    size_t place; /* of the golden picture in the batch */
    size_t stages;
    double worst;
    char worst_stage[T2T_NAME_BYTES];
};

static double largest_difference(const float *a, const float *b, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        const double difference = fabs((double)a[i] - (double)b[i]);
        if (!(difference <= largest)) largest = difference; /* NaN is the largest of all */
    }
    return largest;
}

/* A stored tensor of float32 values. */
static const float *stored(const struct t2t_tensors *golden, const char *name, size_t elements)
{
    const struct t2t_tensor *tensor = t2t_tensors_find(golden, name);
    if (!tensor) fail_msg("%s: no tensor %s", t2t_tensors_path(golden), name);
    assert_int_equal(tensor->elements, elements);
    assert_int_equal(tensor->dtype, T2T_F32);
    assert_int_equal((uintptr_t)tensor->data % sizeof(float), 0);
    return tensor->data;
}

/* The rows of a stage that are stored: "head", "tail", and its root mean square, "rms". */
static const float *stored_part(
    const struct comparison *comparison, const char *stage, const char *part, size_t elements)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", stage, part);
    return stored(comparison->golden, name, elements);
}

static void compare_stage(void *context, const char *stage, size_t first_image, struct matrix output)
{
    struct comparison *comparison = context;
    if (strcmp(stage, "logits") == 0 || comparison->place < first_image ||
        comparison->place >= first_image + output.batch)
        return;
    const float *rows = output.data + (comparison->place - first_image) * output.tokens * output.stride;
    const size_t edge = EDGE_ROWS * output.channels;
    assert_int_equal(output.stride, output.channels);
    const double rms = (double)*stored_part(comparison, stage, "rms", 1);
    const double head = largest_difference(rows, stored_part(comparison, stage, "head", edge), edge);
    const double tail = largest_difference(
        rows + (output.tokens - EDGE_ROWS) * output.stride, stored_part(comparison, stage, "tail", edge), edge);
    const double error = (head > tail || isnan(head) ? head : tail) / rms;
    comparison->stages++;
    if (!(error <= comparison->worst)) {
        comparison->worst = error;
        snprintf(comparison->worst_stage, sizeof comparison->worst_stage, "%s", stage);
    }
}

static double standard_deviation(const float *x, size_t count)
{
    double mean = 0, squares = 0;
    for (size_t i = 0; i < count; i++) mean += (double)x[i] / (double)count;
    for (size_t i = 0; i < count; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sqrt(squares / (double)(count - 1));
}

/* One forward with the golden picture at `place` of a batch among other seeds' pictures: the stages and logits are
 * compared, the golden picture's logits are returned for comparison with other runs. */
static void run(const struct t2t_model *model, const struct t2t_tensors *golden, uint64_t seed, size_t batch,
    size_t place, size_t threads, float *logits)
{
    const struct t2t_config *config = t2t_model_config(model);
    const size_t pixels = 3 * config->image_size * config->image_size, classes = config->num_classes;
    struct t2t_plan plan;
    t2t_plan_exact(model, &plan);
    struct comparison comparison = {.golden = golden, .place = place};
    const struct t2t_session_options options = {.batch = batch,
        .device = {.threads = threads},
        .plans = &plan,
        .plan_count = 1,
        .observer = compare_stage,
        .observer_context = &comparison};
    struct t2t_session *session;
    if (t2t_session_open(&session, model, &options)) fail_msg("%s", t2t_last_error());
    float *images = malloc(batch * pixels * sizeof *images);
    float *all_logits = malloc(batch * classes * sizeof *all_logits);
    assert_true(images && all_logits);
    for (size_t i = 0; i < batch; i++)
        synthetic_picture(config->image_size, i == place ? seed : seed + 100 + i, images + i * pixels);
    const uint64_t image_index[BATCH] = {0, 1, 2, 3, 4};
    if (t2t_forward(session, images, image_index, batch, all_logits)) fail_msg("%s", t2t_last_error());
    memcpy(logits, all_logits + place * classes, classes * sizeof *logits);
    t2t_session_close(session);
    free(images);
    free(all_logits);

    const float *wanted = stored(golden, "logits", classes);
    const double error = largest_difference(logits, wanted, classes) / standard_deviation(wanted, classes);
    print_message("  batch %zu, %zu thread%s: %zu stages, worst %.1e (%s); logits %.1e\n", batch, threads,
        threads == 1 ? "" : "s", comparison.stages, comparison.worst, comparison.worst_stage, error);
    assert_int_equal(comparison.stages, 4 + config->depth);
    assert_true(comparison.worst <= stage_tolerance);
    assert_true(error <= logits_tolerance);
}

static uint64_t metadata_number(const struct t2t_tensors *golden, const char *key)
{
    const char *text = t2t_tensors_metadata(golden, key);
    if (!text) fail_msg("%s: no metadata %s", t2t_tensors_path(golden), key);
    return strtoull(text, NULL, 10);
}

static void compare_file(const char *path)
{
    struct t2t_tensors *golden;
    if (t2t_tensors_open(&golden, path)) fail_msg("%s", t2t_last_error());
    const char *name = t2t_tensors_metadata(golden, "model");
    assert_non_null(name);
    assert_non_null(t2t_variant_named(name));
    struct t2t_config config = *t2t_variant_named(name);
    config.image_size = metadata_number(golden, "image_size");
    const uint64_t seed = metadata_number(golden, "seed");
    print_message("%s at %zu px, seed %llu\n", name, config.image_size, (unsigned long long)seed);

    struct t2t_model *model = NULL;
    if (synthetic_model_load(&model, &config, seed)) fail_msg("%s", t2t_last_error());

    assert_true(config.num_classes <= MAX_CLASSES);
    float alone[MAX_CLASSES], in_batch[MAX_CLASSES];
    run(model, golden, seed, 1, 0, 1, alone);
    run(model, golden, seed, BATCH, GOLDEN_PLACE, 2, in_batch);
    assert_memory_equal(alone, in_batch, config.num_classes * sizeof *alone);
    t2t_model_free(model);
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

static void golden_models(void **state)
{
    (void)state;
    char folder[1024];
    const char *root = getenv("T2TVIT_GOLDEN");
    snprintf(folder, sizeof folder, "%s/models", root ? root : "tests/golden");
    struct dirent **entries = NULL;
    const int count = scandir(folder, &entries, is_golden, alphasort);
    if (count <= 0) fail_msg("%s: no *.safetensors files there", folder);
    for (int i = 0; i < count; i++) {
        char path[2048];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        compare_file(path);
        free(entries[i]);
    }
    free(entries);
    print_message("compared %d files of %s\n", count, folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_models)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
