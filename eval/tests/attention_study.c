/* The study itself: what is captured from a network is what its attention saw, exact attention has no error, errors
 * fall as features grow, and everything depends on seeds alone. The first argument is the folder of the programs.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/attention_parameters.h"
#include "eval/attention_study.h"
#include "eval/interrupt.h"
#include "eval/picture_list.h"
#include "eval/tests/workshop.h"

enum { PICTURES = 3, BATCH = 2 };

/* ---- captured calls ---- */

/* All that the attention of one layer is given and gives, dense, of all pictures in turn. */
struct seen {
    size_t layer, pictures, first;
    struct attention_shape shape;
    float *q, *k, *v, *out;
};

static void copy(float *to, const float *from, size_t rows, size_t width, size_t stride)
{
    for (size_t row = 0; row < rows; row++) memcpy(to + row * width, from + row * stride, width * sizeof *to);
}

static void see(void *context, size_t layer, size_t first_image, const struct attention_call *call)
{
    struct seen *seen = context;
    if (layer != seen->layer) return;
    seen->shape = call->shape;
    const size_t width = call->shape.heads * call->shape.head_dim, rows = call->shape.queries;
    const size_t at = (seen->first + first_image) * rows * width;
    copy(seen->q + at, call->q, call->batch * rows, width, call->q_stride);
    copy(seen->k + at, call->k, call->batch * rows, width, call->k_stride);
    copy(seen->v + at, call->v, call->batch * rows, width, call->v_stride);
    copy(seen->out + at, call->out, call->batch * rows, width, call->out_stride);
}

static void open_source(
    struct picture_source *source, struct picture_list *list, const struct t2t_model *model, size_t batch)
{
    const struct t2t_input_config *input = t2t_model_input(model);
    struct t2t_loader_options options = {
        .preprocess = {.image_size = SHOP_SIZE, .crop_pct = input->crop_pct}, .batch = batch, .workers = 1};
    memcpy(options.preprocess.mean, input->mean, sizeof input->mean);
    memcpy(options.preprocess.std, input->std, sizeof input->std);
    t2t_list_init(list);
    if (t2t_list_operand(list, shop.pictures, true)) fail_msg("%s", t2t_last_error());
    static struct t2t_dataset pictures; /* the first of the list, which owns them */
    pictures = list->pictures;
    pictures.count = PICTURES;
    for (size_t i = 0; i < PICTURES; i++) pictures.samples[i].index = 10 + i;
    if (t2t_source_open_files(source, &pictures, &options)) fail_msg("%s", t2t_last_error());
}

/* One picture a forward. */
static struct seen watch(const struct t2t_model *model, size_t layer)
{
    const struct attention_shape shape = t2t_layer_shape(model, layer);
    const size_t count = PICTURES * shape.queries * shape.heads * shape.head_dim;
    struct seen seen = {.layer = layer};
    float *memory = malloc(4 * count * sizeof *memory), logits[SHOP_CLASSES];
    assert_non_null(memory);
    seen.q = memory;
    seen.k = memory + count;
    seen.v = memory + 2 * count;
    seen.out = memory + 3 * count;
    struct t2t_plan plan;
    t2t_plan_exact(model, &plan);
    const struct t2t_session_options options = {.batch = 1,
        .device = {.threads = 1},
        .plans = &plan,
        .plan_count = 1,
        .attention_observer = see,
        .observer_context = &seen};
    struct t2t_session *session;
    struct picture_source source;
    struct picture_list list;
    open_source(&source, &list, model, 1);
    if (t2t_session_open(&session, model, &options)) fail_msg("%s", t2t_last_error());
    for (const struct t2t_batch *batch; !t2t_source_next(&source, &batch) && batch; seen.first++)
        if (t2t_forward(session, batch->pixels, batch->image_index, 1, logits)) fail_msg("%s", t2t_last_error());
    assert_int_equal(seen.first, PICTURES);
    t2t_session_close(session);
    t2t_source_close(&source);
    t2t_list_close(&list);
    return seen;
}

static void capture(struct attention_input *input, const struct t2t_model *model, size_t layer)
{
    struct picture_source source;
    struct picture_list list;
    open_source(&source, &list, model, BATCH);
    if (t2t_input_captured(input, model, layer, &source, PICTURES, 2)) fail_msg("%s", t2t_last_error());
    t2t_source_close(&source);
    t2t_list_close(&list);
}

static void captures_what_attention_saw(void **state)
{
    (void)state;
    struct t2t_model *model;
    if (t2t_model_load(&model, NULL, shop.weights)) fail_msg("%s", t2t_last_error());
    for (size_t layer = 0; layer < 4; layer++) {
        struct seen seen = watch(model, layer);
        struct attention_input input;
        capture(&input, model, layer);
        assert_int_equal(input.units, PICTURES);
        assert_int_equal(input.layer, layer);
        assert_int_equal(input.shape.heads, seen.shape.heads);
        assert_int_equal(input.shape.queries, seen.shape.queries);
        assert_int_equal(input.shape.keys, seen.shape.keys);
        assert_int_equal(input.shape.head_dim, seen.shape.head_dim);
        assert_memory_equal(&input.shape.scale, &seen.shape.scale, sizeof seen.shape.scale);
        const size_t bytes = PICTURES * seen.shape.queries * seen.shape.heads * seen.shape.head_dim * sizeof *seen.q;
        assert_memory_equal(input.q, seen.q, bytes);
        assert_memory_equal(input.k, seen.k, bytes);
        assert_memory_equal(input.v, seen.v, bytes);
        for (size_t i = 0; i < PICTURES; i++) assert_int_equal(input.image_index[i], 10 + i);
        t2t_input_free(&input);
        free(seen.q);
    }
    t2t_model_free(model);
}

static void refuses_layers_without_softmax(void **state)
{
    (void)state;
    struct t2t_model *model;
    struct attention_input input;
    struct picture_source source = {.batch = 1};
    if (t2t_model_load(&model, NULL, make_network("performer", T2T_TOKENS_PERFORMER, SHOP_SIZE, NULL)))
        fail_msg("%s", t2t_last_error());
    assert_int_equal(t2t_input_captured(&input, model, 1, &source, 1, 1), T2T_BAD_MODEL);
    assert_non_null(strstr(t2t_last_error(), "t2t.2 has no softmax attention"));
    t2t_model_free(model);
}

/* ---- errors ---- */

static void report_nothing(const struct study *study)
{
    (void)study;
}

static void run(struct study *study, const struct attention_input *input, const char *methods, const size_t *features,
    size_t feature_count, size_t seeds)
{
    struct method_list list;
    const struct attention_settings none = {.count = 0};
    *study = (struct study){.input = input, .seeds = seeds, .runs = 1, .threads = 2};
    for (size_t i = 0; i < seeds; i++) study->seed[i] = i + 1;
    if (t2t_read_methods("attention", methods, &list) || t2t_study_plan(study, &list, features, feature_count, &none) ||
        t2t_study_run(study, report_nothing))
        fail_msg("%s", t2t_last_error());
}

static double mean_error(const struct study_case *at)
{
    double mean = 0;
    for (size_t i = 0; i < at->errors; i++) mean += at->spectral[i] / (double)at->errors;
    return mean;
}

/* Reformer is not among them: its keys are its queries, so that more features bring it closer to something else. */
static void errors_fall_as_features_grow(void **state)
{
    (void)state;
    static const size_t features[] = {16, 64, 256};
    struct attention_input input;
    struct study study;
    if (t2t_input_clusters(&input, 512, 32, 2)) fail_msg("%s", t2t_last_error());
    run(&study, &input, "kdeformer,kdeformer:published,performer,scatterbrain,mean", features, 3, 3);
    assert_int_equal(study.count, 1 + 4 * 3 + 1);
    assert_int_equal(study.cases[0].errors, 1);
    assert_true(study.cases[0].spectral[0] <= 0 && study.cases[0].frobenius[0] <= 0);
    for (size_t i = 1; i + 1 < study.count; i++) {
        assert_int_equal(study.cases[i].errors, 3);
        assert_true(study.cases[i].times >= 1 && study.cases[i].ms[0] > 0 && study.cases[i].macs > 0);
        if (i % 3 == 1) continue;
        if (!(mean_error(&study.cases[i]) < 0.9 * mean_error(&study.cases[i - 1])))
            fail_msg("%s: %g at %zu features, %g at %zu", study.cases[i].name, mean_error(&study.cases[i]),
                study.cases[i].features, mean_error(&study.cases[i - 1]), study.cases[i - 1].features);
    }
    assert_int_equal(study.cases[study.count - 1].errors, 1); /* the mean is not random */
    t2t_study_free(&study);
    t2t_input_free(&input);
}

static void same_seeds_same_errors(void **state)
{
    (void)state;
    static const size_t features[] = {32, 1000};
    struct attention_input input;
    struct study one, other;
    if (t2t_input_clusters(&input, 200, 16, 1)) fail_msg("%s", t2t_last_error());
    run(&one, &input, "kdeformer,performer,reformer,scatterbrain", features, 2, 2);
    run(&other, &input, "scatterbrain,reformer,performer,kdeformer", features, 2, 2);
    assert_int_equal(one.count, 5);
    assert_int_equal(one.left_out, 1);
    for (size_t i = 1; i < 5; i++) {
        const struct study_case *same = &other.cases[5 - i];
        assert_string_equal(one.cases[i].name, same->name);
        assert_memory_equal(one.cases[i].spectral, same->spectral, 2 * sizeof *same->spectral);
        assert_true(fabs(one.cases[i].spectral[0] - one.cases[i].spectral[1]) > 0);
    }
    t2t_study_free(&one);
    t2t_study_free(&other);
    t2t_input_free(&input);
}

/* With every key in one bucket kdeformer is exact, but for rounding. */
static void all_keys_have_no_error(void **state)
{
    (void)state;
    static const size_t features[] = {128};
    struct attention_input input;
    struct study study;
    if (t2t_input_clusters(&input, 128, 16, 1)) fail_msg("%s", t2t_last_error());
    struct method_list list;
    struct attention_settings settings;
    const struct option_texts texts = {.text = {"kdeformer.bucket=128"}, .count = 1};
    study = (struct study){.input = &input, .seeds = 1, .seed = {1}, .runs = 1, .threads = 1};
    if (t2t_read_methods("attention", "kdeformer", &list) || t2t_read_attention_settings(&settings, &texts, 128) ||
        t2t_study_plan(&study, &list, features, 1, &settings) || t2t_study_run(&study, report_nothing))
        fail_msg("%s", t2t_last_error());
    assert_true(study.cases[1].spectral[0] < 1e-6);
    t2t_study_free(&study);
    t2t_input_free(&input);
}

/* ---- what a feature size means ---- */

static void feature_sizes(void **state)
{
    (void)state;
    struct attention_config config;
    assert_true(t2t_feature_config(ATTENTION_KDEFORMER, false, 64, &config));
    assert_int_equal(config.kind, ATTENTION_KDEFORMER);
    assert_int_equal(config.samples, 64);
    assert_int_equal(config.bucket, 32);
    assert_int_equal(config.sampling, KDE_SYSTEMATIC);
    assert_true(t2t_feature_config(ATTENTION_KDEFORMER, true, 64, &config));
    assert_int_equal(config.samples, 64);
    assert_int_equal(config.sampling, KDE_MULTINOMIAL);
    assert_int_equal(config.probability, KDE_VALUE);
    assert_true(t2t_feature_config(ATTENTION_PERFORMER, false, 64, &config));
    assert_int_equal(config.features, 64);
    assert_true(t2t_feature_config(ATTENTION_REFORMER, false, 64, &config));
    assert_int_equal(config.bucket, 32);
    assert_int_equal(config.rounds, 2);
    assert_true(t2t_feature_config(ATTENTION_SCATTERBRAIN, false, 64, &config));
    assert_int_equal(config.features, 64);
    assert_int_equal(config.window, 32);
    assert_false(t2t_feature_config(ATTENTION_EXACT, false, 64, &config));
    assert_false(t2t_feature_config(ATTENTION_MEAN, false, 64, &config));
}

int main(int argc, char **argv)
{
    if (argc != 2) return 1;
    workshop_find(argv[1]);
    t2t_interrupt_hold();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captures_what_attention_saw),
        cmocka_unit_test(refuses_layers_without_softmax),
        cmocka_unit_test(errors_fall_as_features_grow),
        cmocka_unit_test(same_seeds_same_errors),
        cmocka_unit_test(all_keys_have_no_error),
        cmocka_unit_test(feature_sizes),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
