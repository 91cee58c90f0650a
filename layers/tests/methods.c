/* Performer, Reformer and ScatterBrain with every set of kernels that this machine can run, against their formulas in
 * float64: unequal numbers of queries and keys, values of any width, edges of windows and chunks, inputs whose
 * exponentials overflow; and the same bits for every batch, place in it and number of threads.
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
#include "layers/tests/methods_definition.h"
#include "layers/tests/synthetic_numbers.h"

enum { GAP = 3 /* floats between rows */, BATCH = 5 };

struct problem {
    struct attention_call call;
    struct attention_draw_memory draws;
    float *inputs;
    uint64_t image[BATCH];
};

static void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 64) / 64 * 64);
    assert_non_null(memory);
    return memory;
}

/* Normal q and k times `amplitude`, normal v; each with rows GAP apart. */
static void open_problem(struct problem *problem, const struct attention_shape *shape,
    const struct attention_config *config, size_t batch, double amplitude)
{
    const struct attention_method *method = attention_method(config->kind);
    if (method->check(shape, config)) fail_msg("%s", t2t_last_error());
    const size_t head_width = shape->heads * shape->head_dim + GAP, value_width = shape->heads * shape->value_dim + GAP;
    const size_t q_count = batch * shape->queries * head_width, k_count = batch * shape->keys * head_width;
    const size_t count = q_count + k_count + batch * shape->keys * value_width;
    double *normal = malloc(count * sizeof *normal);
    problem->inputs = malloc(count * sizeof *problem->inputs);
    assert_true(normal && problem->inputs);
    synthetic_normal("methods", 1, count, normal);
    for (size_t i = 0; i < count; i++)
        problem->inputs[i] = (float)(normal[i] * (i < q_count + k_count ? amplitude : 1));
    free(normal);
    problem->call = (struct attention_call){.shape = *shape,
        .config = *config,
        .batch = batch,
        .q = problem->inputs,
        .k = problem->inputs + q_count,
        .v = problem->inputs + q_count + k_count,
        .q_stride = head_width,
        .k_stride = head_width,
        .v_stride = value_width};
    const struct attention_draw_counts counts = method->draw_counts(shape, config);
    problem->draws =
        (struct attention_draw_memory){.features = malloc(batch * shape->heads * counts.features * sizeof(float) + 1),
            .rotation = malloc(batch * shape->heads * counts.rotation * sizeof(float) + 1)};
    assert_true(problem->draws.features && problem->draws.rotation);
    for (size_t i = 0; i < BATCH; i++) problem->image[i] = 7 * i + 3;
    attention_draw(shape, config, 11, 1, problem->image, batch, &problem->draws);
    problem->call.draws =
        (struct attention_draws){.features = problem->draws.features, .rotation = problem->draws.rotation};
}

static void close_problem(struct problem *problem)
{
    free(problem->inputs);
    free(problem->draws.features);
    free(problem->draws.rotation);
}

/* Dense rows, to be freed. */
static float *run(const struct attention_kernels *kernels, size_t threads, struct attention_call call)
{
    const struct attention_shape *shape = &call.shape;
    const size_t width = shape->heads * shape->value_dim, floats = call.batch * shape->queries * width;
    call.out = allocate(floats * sizeof *call.out);
    call.out_stride = width;
    for (size_t i = 0; i < floats; i++) call.out[i] = NAN;
    const size_t bytes = t2t_cpu_attention_scratch(kernels, threads, shape, &call.config, call.batch);
    call.scratch = allocate(bytes);
    memset(call.scratch, 0xff, bytes); /* NaN: nothing may be read before it is written */
    t2t_cpu_attention(kernels, threads, &call);
    free(call.scratch);
    return call.out;
}

/* Relative Frobenius error over all rows of a call. */
static double error_of(const struct attention_call *call, const float *found)
{
    const struct attention_shape *shape = &call->shape;
    const size_t dim = shape->value_dim, width = shape->heads * dim;
    double difference = 0, size = 0, *wanted = malloc(shape->queries * dim * sizeof *wanted);
    assert_non_null(wanted);
    for (size_t unit = 0; unit < call->batch * shape->heads; unit++) {
        const float *rows = found + unit / shape->heads * shape->queries * width + unit % shape->heads * dim;
        define_method(call, unit, wanted);
        for (size_t i = 0; i < shape->queries; i++)
            for (size_t c = 0; c < dim; c++) {
                const double error = (double)rows[i * width + c] - wanted[i * dim + c];
                difference += error * error;
                size += wanted[i * dim + c] * wanted[i * dim + c];
            }
    }
    free(wanted);
    return sqrt(difference / size);
}

struct method_case {
    struct attention_shape shape;
    struct attention_config config;
};

#define PERFORMER(count)                                                                                               \
    {                                                                                                                  \
        ATTENTION_PERFORMER, .features = (count)                                                                       \
    }
#define REFORMER(keys, times)                                                                                          \
    {                                                                                                                  \
        ATTENTION_REFORMER, .bucket = (keys), .rounds = (times)                                                        \
    }
#define SCATTERBRAIN(keys, count)                                                                                      \
    {                                                                                                                  \
        ATTENTION_SCATTERBRAIN, .window = (keys), .features = (count)                                                  \
    }

/* heads, queries, keys, head_dim, value_dim, scale */
static const struct method_case cases[] = {
    {{1, 1, 1, 1, 1, 1}, PERFORMER(1)},
    {{1, 1, 1, 1, 1, 1}, REFORMER(1, 1)},
    {{1, 1, 1, 1, 1, 1}, SCATTERBRAIN(1, 2)},
    {{2, 101, 101, 64, 64, 0.125F}, PERFORMER(49)},
    {{2, 101, 101, 64, 64, 0.125F}, REFORMER(16, 2)},
    {{2, 101, 101, 64, 64, 0.125F}, SCATTERBRAIN(17, 24)},
    {{3, 37, 37, 12, 12, 0.3F}, PERFORMER(33)},
    {{3, 37, 37, 12, 12, 0.3F}, REFORMER(5, 3)},
    {{3, 37, 37, 12, 12, 0.3F}, SCATTERBRAIN(4, 6)},
    {{1, 256, 64, 64, 256, 0.125F}, PERFORMER(40)}, /* BigGAN's layer, 16 times fewer tokens */
    {{1, 256, 64, 64, 256, 0.125F}, SCATTERBRAIN(32, 20)},
    {{1, 33, 1000, 7, 3, 0.4F}, PERFORMER(20)},       /* more than one run of keys */
    {{1, 33, 1000, 7, 3, 0.4F}, SCATTERBRAIN(5, 10)}, /* most keys behind every window */
    {{1, 200, 11, 5, 9, 0.4F}, SCATTERBRAIN(6, 4)},   /* windows beyond the last key */
    {{1, 90, 90, 8, 8, 0.3F}, SCATTERBRAIN(1, 8)},
    {{1, 90, 90, 8, 8, 0.3F}, SCATTERBRAIN(2, 40)},
    {{1, 90, 90, 8, 8, 0.3F}, SCATTERBRAIN(16, 8)},
    {{1, 90, 90, 8, 8, 0.3F}, SCATTERBRAIN(89, 8)},
    {{1, 90, 90, 8, 8, 0.3F}, SCATTERBRAIN(400, 8)}, /* all keys in every window */
    {{1, 33, 33, 8, 20, 0.3F}, REFORMER(1, 2)},      /* chunks of one token see one other */
    {{1, 90, 90, 8, 8, 0.3F}, REFORMER(45, 1)},
    {{1, 90, 90, 8, 8, 0.3F}, REFORMER(90, 4)}, /* half of the chunks is padding */
    {{2, 300, 300, 32, 32, 0.2F}, REFORMER(49, 2)},
};
enum { CASES = sizeof cases / sizeof *cases };

/* Scores of this size are off by some of their own last places, and weights exp(score) with them. */
static double tolerance_at(const struct attention_shape *shape, double amplitude)
{
    const double score = (double)shape->scale * (double)shape->head_dim * amplitude * amplitude;
    return 2e-6 + 5e-8 * score;
}

static void compare_cases(const struct attention_kernels *kernels, double amplitude)
{
    double worst = 0;
    for (size_t i = 0; i < CASES; i++) {
        struct problem problem;
        open_problem(&problem, &cases[i].shape, &cases[i].config, 1, amplitude);
        float *found = run(kernels, 2, problem.call);
        const double error = error_of(&problem.call, found), allowed = tolerance_at(&cases[i].shape, amplitude);
        if (!(error <= allowed))
            fail_msg("%s, case %zu, %s, amplitude %g: error %.1e, allowed is %.1e", kernels->name, i,
                attention_method(cases[i].config.kind)->name, amplitude, error, allowed);
        if (error / allowed > worst) worst = error / allowed;
        free(found);
        close_problem(&problem);
    }
    print_message(
        "  %s, amplitude %g: %d cases, at most %.2f of the tolerance\n", kernels->name, amplitude, CASES, worst);
}

static void for_each_set(void (*test)(const struct attention_kernels *kernels, double amplitude), double amplitude)
{
    for (size_t i = 0; t2t_kernel_sets[i]; i++)
        if (t2t_kernel_sets[i]->supported()) test(t2t_kernel_sets[i], amplitude);
}

static void equal_their_definitions(void **state)
{
    (void)state;
    for_each_set(compare_cases, 1);
}

/* BigGAN's layer and the Long Range Arena's, whole; the definition of some rows, which do not depend on the others: of
 * ScatterBrain the first, since windows go by the query's number, of Reformer all, since tokens are sorted. */
static void full_sizes(void **state)
{
    (void)state;
    static const struct {
        struct method_case problem;
        size_t first, rows;
    } sizes[] = {{{{1, 4096, 1024, 64, 256, 0.125F}, PERFORMER(49)}, 4040, 56},
        {{{1, 4096, 1024, 64, 256, 0.125F}, SCATTERBRAIN(49, 48)}, 0, 90},
        {{{2, 4096, 4096, 32, 32, 0.177F}, PERFORMER(49)}, 4060, 36},
        {{{2, 4096, 4096, 32, 32, 0.177F}, SCATTERBRAIN(49, 48)}, 0, 70},
        {{{2, 4096, 4096, 32, 32, 0.177F}, REFORMER(49, 2)}, 0, 4096}};
    const struct attention_kernels *kernels;
    assert_int_equal(t2t_kernels_choose(&kernels), T2T_OK);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const struct attention_shape *shape = &sizes[i].problem.shape;
        struct problem problem;
        open_problem(&problem, shape, &sizes[i].problem.config, 1, 1);
        float *found = run(kernels, 2, problem.call);
        struct attention_call rows = problem.call;
        rows.q += sizes[i].first * rows.q_stride;
        rows.shape.queries = sizes[i].rows;
        const double error = error_of(&rows, found + sizes[i].first * shape->heads * shape->value_dim);
        print_message("  %s, %zu queries, %zu keys: %.1e\n", attention_method(problem.call.config.kind)->name,
            shape->queries, shape->keys, error);
        assert_true(error <= tolerance_at(shape, 1));
        free(found);
        close_problem(&problem);
    }
}

/* Where |y|^2 / 2 is in the thousands exp() of any of it is 0 or infinite, in float64 too. */
static void stay_right_where_exponentials_overflow(void **state)
{
    (void)state;
    for_each_set(compare_cases, 5);
    for_each_set(compare_cases, 30);
}

/* Window keys that score very low leave the answer to the features, and the 1e-24 that they count as at least. */
static void features_decide_where_the_window_does_not(const struct attention_kernels *kernels, double amplitude)
{
    const struct method_case low = {{1, 60, 60, 8, 8, 1}, SCATTERBRAIN(3, 8)};
    struct problem problem;
    open_problem(&problem, &low.shape, &low.config, 1, 0.2);
    float *q = (float *)(uintptr_t)problem.call.q, *k = (float *)(uintptr_t)problem.call.k;
    for (size_t i = 0; i < 60; i++) { /* q.k near -amplitude^2 for all, |q - k| large: every product is small */
        q[i * problem.call.q_stride] += (float)amplitude;
        k[i * problem.call.k_stride] -= (float)amplitude;
    }
    float *found = run(kernels, 1, problem.call);
    const double error = error_of(&problem.call, found);
    print_message("  %s, amplitude %g: %.1e\n", kernels->name, amplitude, error);
    assert_true(error <= 2e-6 + 1e-6 * amplitude * amplitude);
    free(found);
    close_problem(&problem);
}

static void count_others_as_at_least_1e_24(void **state)
{
    (void)state;
    for_each_set(features_decide_where_the_window_does_not, 3); /* far above the floor */
    for_each_set(features_decide_where_the_window_does_not, 7); /* about there */
    for_each_set(features_decide_where_the_window_does_not, 12);
}

/* Two opposite tokens: each scores -50001 with the other and -50000 with itself. */
static void own_keys_count(const struct attention_kernels *kernels, double amplitude)
{
    const struct method_case pair = {{1, 2, 2, 1, 1, 1}, REFORMER(1, 3)};
    struct problem problem;
    open_problem(&problem, &pair.shape, &pair.config, 1, 1);
    float q[2] = {(float)amplitude, (float)-amplitude};
    problem.call.q = q;
    problem.call.q_stride = 1;
    float *found = run(kernels, 1, problem.call);
    assert_true(error_of(&problem.call, found) <= 0.02); /* float32 has steps of 1/256 there */
    free(found);
    close_problem(&problem);
}

static void a_token_sees_itself_where_others_score_lower(void **state)
{
    (void)state;
    for_each_set(own_keys_count, 50001);
    for_each_set(own_keys_count, 60000);
    for_each_set(own_keys_count, 1);
}

/* ---- the same bits ---- */

static struct attention_call part_of(const struct problem *problem, size_t first, size_t batch)
{
    struct attention_call call = problem->call;
    const struct attention_shape *shape = &call.shape;
    const struct attention_draw_counts counts = attention_method(call.config.kind)->draw_counts(shape, &call.config);
    call.batch = batch;
    call.q += first * shape->queries * call.q_stride;
    call.k += first * shape->keys * call.k_stride;
    call.v += first * shape->keys * call.v_stride;
    call.draws.features += first * shape->heads * counts.features;
    call.draws.rotation += first * shape->heads * counts.rotation;
    return call;
}

static void compare_bits(const struct attention_kernels *kernels, double amplitude)
{
    for (size_t i = 0; i < CASES; i++) {
        struct problem problem;
        open_problem(&problem, &cases[i].shape, &cases[i].config, BATCH, amplitude);
        const struct attention_shape *shape = &cases[i].shape;
        const size_t image = shape->queries * shape->heads * shape->value_dim;
        float *whole = run(kernels, 2, problem.call);
        for (size_t threads = 1; threads <= 17; threads += 8) { /* 17: more than there are units */
            float *again = run(kernels, threads, problem.call);
            assert_memory_equal(again, whole, BATCH * image * sizeof *whole);
            free(again);
        }
        for (size_t first = 0; first < BATCH; first++) {
            const size_t batch = first + 2 <= BATCH ? 1 + first % 2 : 1;
            float *part = run(kernels, 1 + 3 * first, part_of(&problem, first, batch));
            assert_memory_equal(part, whole + first * image, batch * image * sizeof *part);
            free(part);
        }
        free(whole);
        close_problem(&problem);
    }
}

static void same_bits_whatever_the_batch_and_threads(void **state)
{
    (void)state;
    for_each_set(compare_bits, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_their_definitions),
        cmocka_unit_test(full_sizes),
        cmocka_unit_test(stay_right_where_exponentials_overflow),
        cmocka_unit_test(count_others_as_at_least_1e_24),
        cmocka_unit_test(a_token_sees_itself_where_others_score_lower),
        cmocka_unit_test(same_bits_whatever_the_batch_and_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
