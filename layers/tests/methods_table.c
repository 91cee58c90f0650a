/* What Performer, Reformer and ScatterBrain are in the table of methods: names, refusals, costs; their random draws; and
 * what they converge to: exact attention with more features, a wider window, one chunk for all.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/cpu/cpu_attention.h"
#include "layers/tests/synthetic_numbers.h"

static const struct attention_shape square = {1, 96, 96, 16, 16, 0.25F};

/* ---- names, refusals, costs ---- */

static void have_names(void **state)
{
    (void)state;
    assert_int_equal(attention_method_named("performer")->kind, ATTENTION_PERFORMER);
    assert_int_equal(attention_method_named("reformer")->kind, ATTENTION_REFORMER);
    assert_int_equal(attention_method_named("scatterbrain")->kind, ATTENTION_SCATTERBRAIN);
    assert_int_equal(attention_method_named("sblocal")->kind, ATTENTION_SCATTERBRAIN);
    assert_null(attention_method_named("blocal"));
    for (enum attention_kind kind = 0; kind < ATTENTION_KINDS; kind++) {
        assert_int_equal(attention_method(kind)->kind, kind);
        assert_ptr_equal(attention_method_named(attention_method(kind)->name), attention_method(kind));
    }
}

static void refuse(struct attention_shape shape, struct attention_config config, const char *part)
{
    assert_int_equal(attention_method(config.kind)->check(&shape, &config), T2T_BAD_USAGE);
    if (!strstr(t2t_last_error(), part)) fail_msg("\"%s\" does not say \"%s\"", t2t_last_error(), part);
}

static void refuse_what_they_cannot_do(void **state)
{
    (void)state;
    struct attention_shape cross = square, unscaled = square;
    cross.keys = 48;
    unscaled.scale = 0;
    refuse(square, (struct attention_config){ATTENTION_PERFORMER, .features = 0}, "1 to 16384 features, not 0");
    refuse(square, (struct attention_config){ATTENTION_PERFORMER, .features = 16385}, "not 16385");
    refuse(unscaled, (struct attention_config){ATTENTION_PERFORMER, .features = 4}, "positive");
    refuse(square, (struct attention_config){ATTENTION_REFORMER, .bucket = 0, .rounds = 2}, "buckets");
    refuse(square, (struct attention_config){ATTENTION_REFORMER, .bucket = 4, .rounds = 65}, "rounds");
    refuse(cross, (struct attention_config){ATTENTION_REFORMER, .bucket = 4, .rounds = 1}, "96 queries to 48 keys");
    refuse(square, (struct attention_config){ATTENTION_SCATTERBRAIN, .window = 0, .features = 4}, "window");
    refuse(square, (struct attention_config){ATTENTION_SCATTERBRAIN, .window = 4, .features = 5}, "even");
    refuse(unscaled, (struct attention_config){ATTENTION_SCATTERBRAIN, .window = 4, .features = 4}, "positive");
    const struct attention_config performer = {ATTENTION_PERFORMER, .features = 7};
    assert_int_equal(attention_method(ATTENTION_PERFORMER)->check(&cross, &performer), T2T_OK);
}

/* The first tokens-to-token layer of T2T-ViT at 224 pixels under the published settings. */
static void count_macs(void **state)
{
    (void)state;
    const struct attention_shape layer = {1, 3136, 3136, 64, 64, 0.08F};
    const struct attention_config performer = {ATTENTION_PERFORMER, .features = 49};
    const struct attention_config reformer = {ATTENTION_REFORMER, .bucket = 49, .rounds = 2};
    const struct attention_config brain = {ATTENTION_SCATTERBRAIN, .window = 49, .features = 48};
    assert_true(attention_method(ATTENTION_PERFORMER)->macs(&layer, &performer) == 2.0 * 3136 * 49 * 128);
    assert_true(attention_method(ATTENTION_REFORMER)->macs(&layer, &reformer) ==
                2.0 * (3136 * 64 * 32 + 3136.0 * 98 * 128)); /* 64 buckets */
    assert_true(attention_method(ATTENTION_SCATTERBRAIN)->macs(&layer, &brain) ==
                2.0 * 3136 * 48 * (32 + 64) + 3136.0 * 49 * (128 + 48));
    assert_int_equal(attention_buckets(3136, 49), 64);
    assert_int_equal(attention_buckets(3137, 49), 66);
    assert_int_equal(attention_buckets(1, 49), 2);
}

/* ---- draws ---- */

static double dot(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t c = 0; c < dim; c++) sum += (double)a[c] * (double)b[c];
    return sum;
}

/* Rows are orthogonal within runs of head_dim; squared lengths have the mean and variance of chi-squared. */
static void features_are_orthogonal(void **state)
{
    (void)state;
    enum { DIM = 16, FEATURES = 40, IMAGES = 100 };
    const struct attention_shape shape = {2, 8, 8, DIM, 4, 1};
    const struct attention_config config = {ATTENTION_PERFORMER, .features = FEATURES};
    uint64_t image[IMAGES];
    for (size_t i = 0; i < IMAGES; i++) image[i] = i;
    float *w = malloc(2 * IMAGES * FEATURES * DIM * sizeof *w);
    assert_non_null(w);
    attention_draw(&shape, &config, 1, 0, image, IMAGES, &(struct attention_draw_memory){.features = w});
    double mean = 0, square_mean = 0, coordinate = 0, coordinate_squares = 0;
    for (size_t unit = 0; unit < 2 * IMAGES; unit++)
        for (size_t i = 0; i < FEATURES; i++) {
            const float *row = w + (unit * FEATURES + i) * DIM;
            const double squares = dot(row, row, DIM);
            mean += squares / (2 * IMAGES * FEATURES);
            square_mean += squares * squares / (2 * IMAGES * FEATURES);
            coordinate += (double)row[3] / (2 * IMAGES * FEATURES);
            coordinate_squares += (double)row[3] * (double)row[3] / (2 * IMAGES * FEATURES);
            for (size_t j = i / DIM * DIM; j < i; j++)
                assert_true(fabs(dot(row, row + ((ptrdiff_t)j - (ptrdiff_t)i) * DIM, DIM)) <= 1e-4);
        }
    /* 8000 rows: five standard deviations of each mean */
    assert_true(fabs(mean - DIM) <= 5 * sqrt(2.0 * DIM / 8000));
    assert_true(fabs(square_mean - mean * mean - 2 * DIM) <= 0.15 * 2 * DIM);
    assert_true(fabs(coordinate) <= 5 * sqrt(1 / 8000.0) && fabs(coordinate_squares - 1) <= 5 * sqrt(2 / 8000.0));
    free(w);
}

static void draws_belong_to_their_image(void **state)
{
    (void)state;
    static const struct attention_config configs[] = {{ATTENTION_PERFORMER, .features = 30},
        {ATTENTION_SCATTERBRAIN, .features = 30, .window = 3}, {ATTENTION_REFORMER, .bucket = 5, .rounds = 2}};
    const struct attention_shape shape = {3, 20, 20, 8, 8, 1};
    const uint64_t images[3] = {4, UINT64_C(1) << 40, 9};
    for (size_t i = 0; i < 3; i++) {
        const struct attention_draw_counts counts = attention_method(configs[i].kind)->draw_counts(&shape, &configs[i]);
        const size_t all = counts.features + counts.rotation, image = 3 * all;
        float *together = malloc(3 * image * sizeof *together), *alone = malloc(3 * image * sizeof *alone);
        assert_true(together && alone && all > 0);
        attention_draw(&shape, &configs[i], 5, 2, images, 3,
            &(struct attention_draw_memory){.features = together, .rotation = together});
        for (size_t place = 0; place < 3; place++)
            attention_draw(&shape, &configs[i], 5, 2, images + place, 1,
                &(struct attention_draw_memory){.features = alone + place * image, .rotation = alone + place * image});
        assert_memory_equal(together, alone, 3 * image * sizeof *alone);
        assert_memory_not_equal(together, together + all, all * sizeof *together);   /* another head */
        assert_memory_not_equal(together, together + image, all * sizeof *together); /* another image */
        attention_draw(&shape, &configs[i], 6, 2, images, 1,
            &(struct attention_draw_memory){.features = alone, .rotation = alone});
        assert_memory_not_equal(together, alone, all * sizeof *together); /* another seed */
        attention_draw(&shape, &configs[i], 5, 3, images, 1,
            &(struct attention_draw_memory){.features = alone, .rotation = alone});
        assert_memory_not_equal(together, alone, all * sizeof *together); /* another layer */
        free(together);
        free(alone);
    }
}

/* ---- convergence ---- */

/* Relative Frobenius error of a method's output. `self`: the reference is what reformer's keys make of q, without a
 * token's own key. */
static double error_of(const struct attention_config *config, uint64_t seed, bool self)
{
    enum { N = 96, D = 16 };
    const struct attention_kernels *kernels;
    if (t2t_kernels_choose(&kernels)) fail_msg("%s", t2t_last_error());
    static float x[3][N * D], out[N * D];
    double normal[3 * N * D];
    synthetic_normal("convergence", 1, 3 * N * D, normal);
    for (size_t i = 0; i < 3 * N * D; i++)
        x[i / (N * D)][i % (N * D)] = (float)(i < 2 * N * D ? normal[i] / 2 : normal[i]);
    const struct attention_draw_counts counts = attention_method(config->kind)->draw_counts(&square, config);
    float *drawn = malloc((counts.features + counts.rotation) * sizeof *drawn);
    assert_non_null(drawn);
    const uint64_t image = 0;
    attention_draw(
        &square, config, seed, 0, &image, 1, &(struct attention_draw_memory){.features = drawn, .rotation = drawn});
    struct attention_call call = {.shape = square,
        .config = *config,
        .batch = 1,
        .q = x[0],
        .k = x[1],
        .v = x[2],
        .draws = {.features = drawn, .rotation = drawn},
        .q_stride = D,
        .k_stride = D,
        .v_stride = D,
        .out = out,
        .out_stride = D};
    const size_t bytes = t2t_cpu_attention_scratch(kernels, 1, &square, config, 1);
    call.scratch = aligned_alloc(64, (bytes + 64) / 64 * 64);
    assert_non_null(call.scratch);
    t2t_cpu_attention(kernels, 1, &call);
    free(call.scratch);
    free(drawn);
    double difference = 0, size = 0;
    for (size_t i = 0; i < N; i++) {
        double row[D] = {0}, total = 0;
        for (size_t j = 0; j < N; j++) {
            if (self && i == j) continue;
            const float *k = self ? x[0] + j * D : x[1] + j * D;
            const double length = self ? sqrt(dot(k, k, D)) : 1;
            const double weight = exp((double)square.scale * dot(x[0] + i * D, k, D) / length);
            total += weight;
            for (size_t c = 0; c < D; c++) row[c] += weight * (double)x[2][j * D + c];
        }
        for (size_t c = 0; c < D; c++) {
            difference += ((double)out[i * D + c] - row[c] / total) * ((double)out[i * D + c] - row[c] / total);
            size += row[c] / total * row[c] / total;
        }
    }
    return sqrt(difference / size);
}

static double mean_error(struct attention_config config)
{
    double sum = 0;
    for (uint64_t seed = 1; seed <= 4; seed++) sum += error_of(&config, seed, false) / 4;
    return sum;
}

/* Sixteen times the features: a quarter of the error, in the mean. */
static void more_features_come_closer(void **state)
{
    (void)state;
    double error[2][3];
    for (size_t i = 0; i < 3; i++) {
        const size_t features = (size_t)64 << 4 * i;
        error[0][i] = mean_error((struct attention_config){ATTENTION_PERFORMER, .features = features});
        error[1][i] = mean_error((struct attention_config){ATTENTION_SCATTERBRAIN, .features = features, .window = 5});
        print_message("  %zu features: performer %.3f, scatterbrain %.3f\n", features, error[0][i], error[1][i]);
    }
    for (size_t method = 0; method < 2; method++) {
        assert_true(error[method][1] < error[method][0] / 2.5);
        assert_true(error[method][2] < error[method][1] / 2.5);
    }
}

static void everything_in_reach_is_exact(void **state)
{
    (void)state;
    const struct attention_config brain = {ATTENTION_SCATTERBRAIN, .features = 8, .window = 2 * 96};
    assert_true(error_of(&brain, 1, false) <= 1e-6);
    for (size_t bucket = 48; bucket <= 192; bucket *= 2) { /* two chunks see each other */
        const struct attention_config reformer = {ATTENTION_REFORMER, .bucket = bucket, .rounds = 1};
        assert_true(error_of(&reformer, 1, true) <= 1e-6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(have_names),
        cmocka_unit_test(refuse_what_they_cannot_do),
        cmocka_unit_test(count_macs),
        cmocka_unit_test(features_are_orthogonal),
        cmocka_unit_test(draws_belong_to_their_image),
        cmocka_unit_test(more_features_come_closer),
        cmocka_unit_test(everything_in_reach_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
