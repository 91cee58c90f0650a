/* The network in bfloat16: logits close to those of float32 for both kinds of token layers, and the same bits whatever
 * the threads, the batch and the place in it. Where the processor has no such products, the refusal.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vit/tests/synthetic.h"

enum { BATCH = 5, CLASSES = SYNTHETIC_CLASSES, SIZE = SYNTHETIC_SIZE, PIXELS = 3 * SIZE * SIZE };

static float pictures[BATCH][PIXELS];
static const uint64_t place[BATCH] = {4, 17, 2, 3, 0};

static struct t2t_model *model_of(enum t2t_tokens_type type)
{
    struct t2t_config config = synthetic_small;
    config.tokens_type = type;
    struct t2t_model *model;
    if (synthetic_model_load(&model, &config, 1)) fail_msg("%s", t2t_last_error());
    return model;
}

static enum t2t_status run(const struct t2t_model *model, enum number_format format, enum attention_kind kind,
    size_t first, size_t batch, size_t threads, float logits[][CLASSES])
{
    struct t2t_plan plan;
    t2t_plan_exact(model, &plan);
    for (size_t layer = 2; layer < 4 && kind != ATTENTION_EXACT; layer++)
        assert_int_equal(t2t_plan_set(model, &plan, layer, t2t_attention_defaults(model, kind, layer)), T2T_OK);
    const struct t2t_session_options options = {
        .batch = batch, .device = {.threads = threads, .format = format}, .plans = &plan, .plan_count = 1};
    struct t2t_session *session;
    const enum t2t_status status = t2t_session_open(&session, model, &options);
    if (status) return status;
    if (t2t_forward(session, pictures[first], place + first, batch, logits[0])) fail_msg("%s", t2t_last_error());
    t2t_session_close(session);
    return T2T_OK;
}

/* False where the processor has no bfloat16, which it must say. */
static bool has_bfloat16(const struct t2t_model *model)
{
    float logits[1][CLASSES];
    const enum t2t_status status = run(model, FORMAT_BFLOAT16, ATTENTION_EXACT, 0, 1, 1, logits);
    if (!status) return true;
    assert_int_equal(status, T2T_NO_RESOURCE);
    assert_non_null(strstr(t2t_last_error(), "--dtype float32"));
    print_message("  not compared: %s\n", t2t_last_error());
    return false;
}

static void close_to_float32(void **state)
{
    (void)state;
    for (enum t2t_tokens_type type = T2T_TOKENS_TRANSFORMER; type <= T2T_TOKENS_PERFORMER; type++) {
        struct t2t_model *model = model_of(type);
        float wanted[BATCH][CLASSES], found[BATCH][CLASSES];
        if (has_bfloat16(model)) {
            assert_int_equal(run(model, FORMAT_FLOAT32, ATTENTION_EXACT, 0, BATCH, 2, wanted), T2T_OK);
            assert_int_equal(run(model, FORMAT_BFLOAT16, ATTENTION_EXACT, 0, BATCH, 2, found), T2T_OK);
            double largest = 0, mean = 0, squares = 0;
            for (size_t i = 0; i < BATCH * CLASSES; i++) {
                const double a = (double)(&found[0][0])[i], b = (double)(&wanted[0][0])[i];
                largest = fmax(largest, fabs(a - b));
                mean += b / (BATCH * CLASSES);
                squares += b * b / (BATCH * CLASSES);
            }
            const double deviation = largest / sqrt(squares - mean * mean);
            print_message("  token layers %d: %.1e standard deviations from float32\n", (int)type, deviation);
            assert_true(deviation < 3e-2);
            assert_true(deviation > 1e-5); /* something was rounded */
        }
        t2t_model_free(model);
    }
}

static void bits_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    struct t2t_model *model = model_of(T2T_TOKENS_TRANSFORMER);
    for (enum attention_kind kind = ATTENTION_EXACT; kind <= ATTENTION_KDEFORMER && has_bfloat16(model); kind++) {
        float together[BATCH][CLASSES], alone[1][CLASSES];
        assert_int_equal(run(model, FORMAT_BFLOAT16, kind, 0, BATCH, 2, together), T2T_OK);
        for (size_t i = 0; i < BATCH; i++)
            for (size_t threads = 1; threads <= 3; threads += 2) {
                assert_int_equal(run(model, FORMAT_BFLOAT16, kind, i, 1, threads, alone), T2T_OK);
                assert_memory_equal(alone[0], together[i], sizeof alone[0]);
            }
    }
    t2t_model_free(model);
}

int main(void)
{
    for (uint64_t i = 0; i < BATCH; i++) synthetic_picture(SIZE, i + 1, pictures[i]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_to_float32), cmocka_unit_test(bits_do_not_depend_on_the_batch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
