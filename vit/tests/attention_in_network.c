/* Switched attention inside of the whole network: tokens-to-token layers, blocks and all layers.
 *
 * With a bucket as large as the layer the block diagonal is everything and KDEformer must equal exact attention, also
 * where exponentials would overflow if they were not shifted. Results depend on the seed and the picture's index, never
 * on the batch, the place in it or the number of threads.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vit/tests/synthetic.h"

enum { BATCH = 5, CLASSES = SYNTHETIC_CLASSES, SIZE = SYNTHETIC_SIZE, PIXELS = 3 * SIZE * SIZE };

static struct t2t_model *model;
static float pictures[BATCH][PIXELS];
static const uint64_t place[BATCH] = {4, 17, UINT64_C(1) << 40, 3, 0};

/* A synthetic model whose q and k are `scale` times as large. */
static struct t2t_model *load_scaled(const struct t2t_config *config, float scale)
{
    char path[64] = "/tmp/t2tvit_network_XXXXXX", scaled_path[64] = "/tmp/t2tvit_scaled_XXXXXX";
    close(mkstemp(path));
    close(mkstemp(scaled_path));
    struct t2t_tensors *file;
    if (synthetic_weights_write(path, config, 1) || t2t_tensors_open(&file, path)) fail_msg("%s", t2t_last_error());
    struct t2t_tensor tensors[128];
    struct t2t_metadata metadata[16];
    const size_t count = t2t_tensors_count(file);
    size_t pairs = 0;
    assert_true(count <= 128);
    for (size_t i = 0; i < count; i++) {
        tensors[i] = *t2t_tensors_at(file, i);
        float *values = malloc(tensors[i].elements * sizeof *values);
        assert_non_null(values);
        memcpy(values, tensors[i].data, tensors[i].elements * sizeof *values);
        if (strstr(tensors[i].name, "qkv.weight")) /* rows: q, k, v */
            for (size_t j = 0; j < tensors[i].elements / 3 * 2; j++) values[j] *= scale;
        tensors[i].data = values;
    }
    for (const char *key; (key = t2t_tensors_metadata_key(file, pairs)); pairs++)
        metadata[pairs] = (struct t2t_metadata){key, t2t_tensors_metadata(file, key)};
    struct t2t_model *loaded;
    if (t2t_tensors_write(scaled_path, tensors, count, metadata, pairs) || t2t_model_load(&loaded, NULL, scaled_path))
        fail_msg("%s", t2t_last_error());
    for (size_t i = 0; i < count; i++) free((void *)(uintptr_t)tensors[i].data);
    t2t_tensors_close(file);
    unlink(path);
    unlink(scaled_path);
    return loaded;
}

static int set_up(void **state)
{
    (void)state;
    model = load_scaled(&synthetic_small, 1);
    for (uint64_t i = 0; i < BATCH; i++) synthetic_picture(SIZE, i + 1, pictures[i]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    t2t_model_free(model);
    return 0;
}

/* A plan with one method in layers first ... last - 1. bucket 0: the method's defaults. */
static struct t2t_plan plan_of(const struct t2t_model *of, enum attention_kind kind, size_t first, size_t last,
    size_t bucket, size_t samples, uint64_t seed)
{
    struct t2t_plan plan;
    t2t_plan_exact(of, &plan);
    plan.seed = seed;
    for (size_t layer = first; layer < last; layer++) {
        struct attention_config config = t2t_attention_defaults(of, kind, layer);
        if (bucket) {
            config.bucket = bucket;
            config.samples = samples;
        }
        if (t2t_plan_set(of, &plan, layer, config)) fail_msg("%s", t2t_last_error());
    }
    return plan;
}

/* Logits of pictures[first ... first + batch - 1], given in the order of `place`. */
static void run(const struct t2t_model *of, const struct t2t_plan *plan, size_t first, size_t batch, size_t threads,
    float logits[][CLASSES])
{
    const struct t2t_session_options options = {
        .batch = batch, .device = {.threads = threads}, .plans = plan, .plan_count = 1};
    struct t2t_session *session;
    if (t2t_session_open(&session, of, &options)) fail_msg("%s", t2t_last_error());
    if (t2t_forward(session, pictures[first], place + first, batch, logits[0])) fail_msg("%s", t2t_last_error());
    t2t_session_close(session);
}

/* Largest difference over the standard deviation of what is wanted. */
static double deviation(float found[BATCH][CLASSES], float wanted[BATCH][CLASSES])
{
    const float *a = &found[0][0], *b = &wanted[0][0];
    double largest = 0, mean = 0, squares = 0;
    for (size_t i = 0; i < BATCH * CLASSES; i++) {
        const double difference = fabs((double)a[i] - (double)b[i]);
        if (!(difference <= largest)) largest = difference;
        mean += (double)b[i] / (BATCH * CLASSES);
    }
    for (size_t i = 0; i < BATCH * CLASSES; i++)
        squares += ((double)b[i] - mean) * ((double)b[i] - mean) / (BATCH * CLASSES);
    return largest / sqrt(squares);
}

static const struct {
    const char *name;
    size_t first, last;
} ranges[] = {{"t2t", 0, 2}, {"blocks", 2, 4}, {"all", 0, 4}};

static void one_bucket_is_exact(void **state)
{
    (void)state;
    float exact[BATCH][CLASSES], kdeformer[BATCH][CLASSES];
    const struct t2t_plan plan = plan_of(model, ATTENTION_EXACT, 0, 4, 0, 0, 1);
    run(model, &plan, 0, BATCH, 2, exact);
    for (size_t i = 0; i < 3; i++)
        for (size_t samples = 0; samples <= 9; samples += 9) { /* every sample then falls into its query's block */
            const struct t2t_plan whole =
                plan_of(model, ATTENTION_KDEFORMER, ranges[i].first, ranges[i].last, 256, samples, 1);
            run(model, &whole, 0, BATCH, 2, kdeformer);
            const double error = deviation(kdeformer, exact);
            print_message("  %s, %zu samples: %.1e\n", ranges[i].name, samples, error);
            assert_true(error <= 1e-5);
        }
}

/* The softmax is peaked so sharply that exp(q.k) overflows float32 and float64; shifted, nothing does. */
static void survives_large_scores(void **state)
{
    (void)state;
    struct t2t_model *sharp = load_scaled(&synthetic_small, 40);
    float exact[BATCH][CLASSES], kdeformer[BATCH][CLASSES];
    const struct t2t_plan plan = plan_of(sharp, ATTENTION_EXACT, 0, 4, 0, 0, 1);
    run(sharp, &plan, 0, BATCH, 1, exact);
    for (size_t i = 0; i < 3; i++) {
        const struct t2t_plan whole = plan_of(sharp, ATTENTION_KDEFORMER, ranges[i].first, ranges[i].last, 256, 9, 1);
        run(sharp, &whole, 0, BATCH, 1, kdeformer);
        const double error = deviation(kdeformer, exact);
        print_message("  %s: %.1e\n", ranges[i].name, error);
        assert_true(error <= 1e-3); /* rounding of scores in the thousands comes first */
        const struct t2t_plan usual = plan_of(sharp, ATTENTION_KDEFORMER, ranges[i].first, ranges[i].last, 0, 0, 1);
        run(sharp, &usual, 0, BATCH, 1, kdeformer); /* fails unless every logit is finite */
    }
    t2t_model_free(sharp);
}

/* A window as wide as the layer leaves nothing to ScatterBrain's features, whose draws then do not matter either. */
static void one_window_is_exact(void **state)
{
    (void)state;
    struct t2t_model *sharp = load_scaled(&synthetic_small, 40);
    for (size_t i = 0; i < 6; i++) {
        const struct t2t_model *of = i < 3 ? model : sharp;
        float exact[BATCH][CLASSES], scatterbrain[BATCH][CLASSES];
        const struct t2t_plan plan = plan_of(of, ATTENTION_EXACT, 0, 4, 0, 0, 1);
        run(of, &plan, 0, BATCH, 2, exact);
        struct t2t_plan whole;
        t2t_plan_exact(of, &whole);
        for (size_t layer = ranges[i % 3].first; layer < ranges[i % 3].last; layer++) {
            struct attention_config config = t2t_attention_defaults(of, ATTENTION_SCATTERBRAIN, layer);
            config.window = 2 * 256;
            if (t2t_plan_set(of, &whole, layer, config)) fail_msg("%s", t2t_last_error());
        }
        run(of, &whole, 0, BATCH, 2, scatterbrain);
        const double error = deviation(scatterbrain, exact);
        print_message("  %s: %.1e\n", ranges[i % 3].name, error);
        assert_true(error <= (i < 3 ? 1e-5 : 1e-3));
    }
    t2t_model_free(sharp);
}

/* Every random method with its defaults, also where unshifted exponentials would overflow. A forward fails unless all
 * logits are finite. */
static void other_methods_run_everywhere(void **state)
{
    (void)state;
    static const enum attention_kind kinds[] = {ATTENTION_PERFORMER, ATTENTION_REFORMER, ATTENTION_SCATTERBRAIN};
    struct t2t_model *sharp = load_scaled(&synthetic_small, 40);
    float exact[BATCH][CLASSES];
    const struct t2t_plan plan = plan_of(model, ATTENTION_EXACT, 0, 4, 0, 0, 1);
    run(model, &plan, 0, BATCH, 2, exact);
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < 3; i++) {
            float replaced[BATCH][CLASSES], ignored[BATCH][CLASSES];
            const struct t2t_plan some = plan_of(model, kinds[k], ranges[i].first, ranges[i].last, 0, 0, 1);
            const struct t2t_plan hard = plan_of(sharp, kinds[k], ranges[i].first, ranges[i].last, 0, 0, 1);
            run(model, &some, 0, BATCH, 2, replaced);
            run(sharp, &hard, 0, BATCH, 2, ignored);
            const double error = deviation(replaced, exact);
            print_message("  %s, %s: %.2f\n", attention_method(kinds[k])->name, ranges[i].name, error);
            assert_true(error > 1e-4 && error < 10);
        }
    t2t_model_free(sharp);
}

static void compare_places(enum attention_kind kind)
{
    for (size_t i = 0; i < 3; i++) {
        float together[BATCH][CLASSES], alone[BATCH][CLASSES], pairs[BATCH][CLASSES], other[BATCH][CLASSES];
        const struct t2t_plan plan = plan_of(model, kind, ranges[i].first, ranges[i].last, 0, 0, 1);
        run(model, &plan, 0, BATCH, 2, together);
        for (size_t picture = 0; picture < BATCH; picture++) run(model, &plan, picture, 1, 1, alone + picture);
        run(model, &plan, 0, 2, 3, pairs);
        run(model, &plan, 2, 3, 4, pairs + 2);
        assert_memory_equal(together, alone, sizeof together);
        assert_memory_equal(together, pairs, sizeof together);
        const struct t2t_plan other_seed = plan_of(model, kind, ranges[i].first, ranges[i].last, 0, 0, 2);
        run(model, &other_seed, 0, BATCH, 2, other);
        assert_true(deviation(other, together) > 1e-4);
    }
}

static void depends_on_picture_and_seed_alone(void **state)
{
    (void)state;
    for (enum attention_kind kind = 0; kind < ATTENTION_KINDS; kind++)
        if (attention_method(kind)->random) compare_places(kind);
}

static void more_samples_come_closer(void **state)
{
    (void)state;
    float exact[BATCH][CLASSES], kdeformer[BATCH][CLASSES];
    const struct t2t_plan plan = plan_of(model, ATTENTION_EXACT, 0, 4, 0, 0, 1);
    run(model, &plan, 0, BATCH, 2, exact);
    double error[2] = {0};
    for (size_t i = 0; i < 2; i++)
        for (uint64_t seed = 1; seed <= 5; seed++) {
            const struct t2t_plan some = plan_of(model, ATTENTION_KDEFORMER, 0, 4, 8, i ? 2000 : 20, seed);
            run(model, &some, 0, BATCH, 2, kdeformer);
            error[i] += deviation(kdeformer, exact) / 5;
        }
    print_message("  20 samples %.2e, 2000 samples %.2e\n", error[0], error[1]);
    assert_true(error[1] < error[0] / 4); /* 10 times fewer standard deviations are expected */
}

static void plans_share_a_session(void **state)
{
    (void)state;
    struct t2t_plan plans[ATTENTION_KINDS];
    for (enum attention_kind kind = 0; kind < ATTENTION_KINDS; kind++)
        plans[kind] = plan_of(model, kind, 0, kind == ATTENTION_MEAN ? 2 : 4, 0, 0, 7);
    const struct t2t_session_options options = {
        .batch = BATCH, .device = {.threads = 2}, .plans = plans, .plan_count = ATTENTION_KINDS};
    struct t2t_session *session;
    if (t2t_session_open(&session, model, &options)) fail_msg("%s", t2t_last_error());
    for (size_t turn = 0; turn < 2 * ATTENTION_KINDS; turn++) {
        float shared[BATCH][CLASSES], own[BATCH][CLASSES];
        t2t_session_use(session, turn % ATTENTION_KINDS);
        if (t2t_forward(session, pictures[0], place, BATCH, shared[0])) fail_msg("%s", t2t_last_error());
        run(model, &plans[turn % ATTENTION_KINDS], 0, BATCH, 2, own);
        assert_memory_equal(shared, own, sizeof shared);
        const struct t2t_costs *costs = t2t_session_costs(session);
        assert_int_equal(costs->images, BATCH);
        assert_int_equal(costs->layers, 4);
        assert_true(costs->seconds > 0 && costs->layer[0].attention_seconds > 0);
        assert_true(costs->layer[0].seconds >= costs->layer[0].attention_seconds);
    }
    t2t_session_close(session);
}

static void refuses_what_cannot_be_replaced(void **state)
{
    (void)state;
    struct t2t_config config = synthetic_small;
    config.tokens_type = T2T_TOKENS_PERFORMER;
    struct t2t_model *performer = load_scaled(&config, 1);
    struct t2t_plan plan;
    t2t_plan_exact(performer, &plan);
    struct attention_config kdeformer = t2t_attention_defaults(performer, ATTENTION_KDEFORMER, 0);
    assert_int_equal(t2t_plan_set(performer, &plan, 0, kdeformer), T2T_BAD_MODEL);
    assert_non_null(strstr(t2t_last_error(), "--layers blocks"));
    assert_int_equal(t2t_plan_set(performer, &plan, 4, kdeformer), T2T_BAD_USAGE);
    kdeformer.bucket = 0;
    assert_int_equal(t2t_plan_set(performer, &plan, 2, kdeformer), T2T_BAD_USAGE);
    kdeformer = t2t_attention_defaults(performer, ATTENTION_KDEFORMER, 2);
    assert_int_equal(t2t_plan_set(performer, &plan, 2, kdeformer), T2T_OK);
    float logits[BATCH][CLASSES];
    run(performer, &plan, 0, BATCH, 2, logits);
    t2t_model_free(performer);
}

static void names_what_is_not_finite(void **state)
{
    (void)state;
    float *bad = malloc(BATCH * PIXELS * sizeof *bad), logits[BATCH][CLASSES];
    assert_non_null(bad);
    memcpy(bad, pictures, BATCH * PIXELS * sizeof *bad);
    bad[2 * PIXELS + 100] = NAN;
    const struct t2t_plan plan = plan_of(model, ATTENTION_KDEFORMER, 0, 2, 0, 0, 1);
    const struct t2t_session_options options = {
        .batch = BATCH, .device = {.threads = 2}, .plans = &plan, .plan_count = 1};
    struct t2t_session *session;
    if (t2t_session_open(&session, model, &options)) fail_msg("%s", t2t_last_error());
    assert_int_equal(t2t_forward(session, bad, place, BATCH, logits[0]), T2T_NOT_FINITE);
    assert_non_null(strstr(t2t_last_error(), "soft_split0"));
    assert_non_null(strstr(t2t_last_error(), "picture 2"));
    if (t2t_forward(session, pictures[0], place, BATCH, logits[0])) fail_msg("%s", t2t_last_error());
    t2t_session_close(session);
    free(bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_bucket_is_exact),
        cmocka_unit_test(survives_large_scores),
        cmocka_unit_test(one_window_is_exact),
        cmocka_unit_test(other_methods_run_everywhere),
        cmocka_unit_test(depends_on_picture_and_seed_alone),
        cmocka_unit_test(more_samples_come_closer),
        cmocka_unit_test(plans_share_a_session),
        cmocka_unit_test(refuses_what_cannot_be_replaced),
        cmocka_unit_test(names_what_is_not_finite),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
