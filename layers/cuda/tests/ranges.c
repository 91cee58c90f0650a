/* The names that a profiler sees: this program is the profiler, which NVTX finds by the weak symbol that it looks for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <nvtx3/nvToolsExt.h>

#include "layers/cuda/cuda_ops.h"
#include "vit/tests/synthetic.h"

enum { SIZE = 32 };

/* "name(inner()) next()" */
static char seen[4096];
static int depth;

static int push(const char *name)
{
    snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s%s(",
        *seen && seen[strlen(seen) - 1] != '(' ? " " : "", name);
    return depth++;
}

static int pop(void)
{
    strncat(seen, ")", sizeof seen - strlen(seen) - 1);
    return --depth;
}

static int initialise(NvtxGetExportTableFunc_t get_table)
{
    const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table;
    unsigned count;
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &count)) return 0;
    if (count <= NVTX_CBID_CORE_RangePop) return 0;
    *table[NVTX_CBID_CORE_RangePushA] = (NvtxFunctionPointer)push;
    *table[NVTX_CBID_CORE_RangePop] = (NvtxFunctionPointer)pop;
    return 1;
}

NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = initialise;

static void expect_of(struct t2t_session *session, const char *expected)
{
    static float picture[3 * SIZE * SIZE];
    const uint64_t place = 1;
    float logits[7];
    *seen = 0;
    assert_int_equal(t2t_forward(session, picture, &place, 1, logits), T2T_OK);
    assert_string_equal(seen, expected);
    assert_int_equal(depth, 0);
}

/* Four blocks; in tokens-to-token layers what the model has. */
static struct t2t_session *open_session(struct t2t_model **model, enum t2t_tokens_type type, bool graph)
{
    static const struct attention_config blocks[] = {
        {.kind = ATTENTION_KDEFORMER, .projections = 2, .bucket = 2, .samples = 1},
        {.kind = ATTENTION_PERFORMER, .features = 4}, {.kind = ATTENTION_REFORMER, .bucket = 2, .rounds = 1},
        {.kind = ATTENTION_SCATTERBRAIN, .window = 1, .features = 2}};
    const struct t2t_config config = {.name = "custom",
        .tokens_type = type,
        .image_size = SIZE,
        .num_classes = 7,
        .embed_dim = 12,
        .depth = 4,
        .num_heads = 1,
        .mlp_ratio = 1,
        .token_dim = 16};
    struct t2t_plan plan;
    if (synthetic_model_load(model, &config, 1)) fail_msg("%s", t2t_last_error());
    t2t_plan_exact(*model, &plan);
    for (size_t i = 0; i < config.depth; i++) assert_int_equal(t2t_plan_set(*model, &plan, 2 + i, blocks[i]), T2T_OK);
    const struct t2t_session_options options = {
        .batch = 1, .ops = t2t_cuda_ops(), .device = {.graph = graph}, .plans = &plan, .plan_count = 1};
    struct t2t_session *session;
    if (t2t_session_open(&session, *model, &options)) fail_msg("%s", t2t_last_error());
    return session;
}

#define BLOCKS                                                                                                         \
    "block.0(kdeformer(hash and sort() sampling probabilities() samples() blocks and samples())) "                     \
    "block.1(performer(sums of features() answers())) "                                                                \
    "block.2(reformer(hash() sort() chunks() join rounds())) "                                                         \
    "block.3(scatterbrain(features() sums of features() near keys() far keys() join())))"

static void layers_and_steps_have_names(void **state)
{
    (void)state;
    struct t2t_model *model;
    struct t2t_session *session = open_session(&model, T2T_TOKENS_TRANSFORMER, false);
    expect_of(session, "forward(t2t.1(exact()) t2t.2(exact()) " BLOCKS);
    t2t_session_close(session);
    t2t_model_free(model);
    session = open_session(&model, T2T_TOKENS_PERFORMER, false);
    expect_of(session, "forward(t2t.1(token performer(features() sums of features() answers())) "
                       "t2t.2(token performer(features() sums of features() answers())) " BLOCKS);
    t2t_session_close(session);
    t2t_model_free(model);
}

/* Of a graph that is launched, the host sees the whole alone. */
static void a_graph_has_one_name(void **state)
{
    (void)state;
    struct t2t_model *model;
    struct t2t_session *session = open_session(&model, T2T_TOKENS_TRANSFORMER, true);
    for (int turn = 0; turn < 2; turn++) expect_of(session, "forward(t2t.1(exact()) t2t.2(exact()) " BLOCKS);
    expect_of(session, "forward()");
    t2t_session_close(session);
    t2t_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_and_steps_have_names),
        cmocka_unit_test(a_graph_has_one_name),
    };
    unsetenv("NVTX_INJECTION64_PATH"); /* another profiler */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
