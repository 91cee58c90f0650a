/* Networks at the edges of what a weights file may ask for: one class, one channel a head, 126 blocks,
 * pictures of 16 px and of 1024 px, token widths of one and three. Alone with one thread and in a batch with three the
 * logits must be finite and the same bits; with one bucket KDEformer must equal exact attention.
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

enum { MOST_CLASSES = 3 };

static struct t2t_model *load(const struct t2t_config *config)
{
    struct t2t_model *model = NULL;
    if (synthetic_model_load(&model, config, 1)) fail_msg("%s", t2t_last_error());
    return model;
}

/* Logits of the picture with seed 1 at `place` of a batch among others. */
static void run(const struct t2t_model *model, const struct t2t_plan *plan, size_t batch, size_t place, size_t threads,
    float *logits)
{
    const struct t2t_config *config = t2t_model_config(model);
    const size_t pixels = 3 * config->image_size * config->image_size;
    const struct t2t_session_options options = {
        .batch = batch, .device = {.threads = threads}, .plans = plan, .plan_count = 1};
    struct t2t_session *session;
    if (t2t_session_open(&session, model, &options)) fail_msg("%s", t2t_last_error());
    float *images = malloc(batch * pixels * sizeof *images), *all = malloc(batch * MOST_CLASSES * sizeof *all);
    uint64_t *image_index = calloc(batch, sizeof *image_index);
    assert_true(images && all && image_index);
    for (size_t i = 0; i < batch; i++) {
        synthetic_picture(config->image_size, i == place ? 1 : 100 + i, images + i * pixels);
        image_index[i] = i == place ? 5 : 50 + i;
    }
    if (t2t_forward(session, images, image_index, batch, all)) fail_msg("%s", t2t_last_error());
    memcpy(logits, all + place * config->num_classes, config->num_classes * sizeof *logits);
    t2t_session_close(session);
    free(images);
    free(all);
    free(image_index);
}

static struct t2t_plan plan_of(const struct t2t_model *model, size_t first, size_t bucket)
{
    struct t2t_plan plan;
    t2t_plan_exact(model, &plan);
    for (size_t layer = first; layer < T2T_TOKEN_LAYERS + t2t_model_config(model)->depth; layer++) {
        struct attention_config config = t2t_attention_defaults(model, ATTENTION_KDEFORMER, layer);
        if (bucket) config.bucket = bucket;
        if (t2t_plan_set(model, &plan, layer, config)) fail_msg("%s", t2t_last_error());
    }
    return plan;
}

static void same_bits(const struct t2t_model *model, const struct t2t_plan *plan, const char *name)
{
    const size_t bytes = t2t_model_config(model)->num_classes * sizeof(float);
    float alone[MOST_CLASSES], in_batch[MOST_CLASSES];
    run(model, plan, 1, 0, 1, alone);
    run(model, plan, 3, 2, 3, in_batch);
    if (memcmp(alone, in_batch, bytes) != 0) fail_msg("%s: the batch shows in the logits", name);
}

#define TRANSFORMER T2T_TOKENS_TRANSFORMER
#define PERFORMER T2T_TOKENS_PERFORMER

/* tokens, image_size, num_classes, embed_dim, depth, num_heads, mlp_ratio, token_dim */
static const struct {
    const char *name;
    struct t2t_config config;
} networks[] = {
    {"one class", {"custom", TRANSFORMER, 48, 1, 24, 2, 2, 2, 16}},
    {"head_dim 1", {"custom", TRANSFORMER, 48, 3, 24, 1, 24, 1, 64}},
    {"16 px", {"custom", TRANSFORMER, 16, 3, 24, 2, 3, 1.5, 8}},
    {"everything of width 1", {"custom", TRANSFORMER, 16, 1, 1, 1, 1, 1, 1}},
    {"126 blocks", {"custom", PERFORMER, 32, 3, 12, T2T_MAX_DEPTH, 3, 0.25, 8}},
    {"performer of width 3", {"custom", PERFORMER, 48, 2, 20, 1, 5, 0.3, 3}},
    {"performer of width 1024", {"custom", PERFORMER, 16, 2, 20, 1, 5, 1, 1024}},
};

static void edges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        const struct t2t_config *config = &networks[i].config;
        struct t2t_model *model = load(config);
        const size_t first = config->tokens_type == PERFORMER ? 2 : 0, depth = config->depth;
        struct t2t_plan exact;
        t2t_plan_exact(model, &exact);
        const struct t2t_plan kdeformer = plan_of(model, first, 0), whole = plan_of(model, first, 65536);
        same_bits(model, &exact, networks[i].name);
        same_bits(model, &kdeformer, networks[i].name);
        float wanted[MOST_CLASSES], found[MOST_CLASSES];
        run(model, &exact, 1, 0, 1, wanted);
        run(model, &whole, 1, 0, 1, found);
        for (size_t c = 0; c < config->num_classes; c++)
            if (!(fabsf(found[c] - wanted[c]) <= 1e-6F * (float)(depth + 10)))
                fail_msg("%s: one bucket gives %.9g, exact attention %.9g", networks[i].name, (double)found[c],
                    (double)wanted[c]);
        t2t_model_free(model);
    }
}

/* 65536, 16384 and 4097 tokens. */
static void large_picture(void **state)
{
    (void)state;
    struct t2t_model *model = load(&(struct t2t_config){"custom", TRANSFORMER, 1024, 2, 8, 1, 2, 1, 8});
    const struct t2t_plan plan = plan_of(model, 0, 0);
    float logits[2][MOST_CLASSES];
    run(model, &plan, 1, 0, 1, logits[0]);
    run(model, &plan, 2, 1, 2, logits[1]);
    assert_memory_equal(logits[0], logits[1], 2 * sizeof logits[0][0]);
    t2t_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(edges), cmocka_unit_test(large_picture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
