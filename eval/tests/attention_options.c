/* From the attention options of a command line to the plans that a session runs: which methods, with which options in
 * which layers, and what is refused in which words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/attention_options.h"
#include "vit/tests/synthetic.h"

static const struct t2t_config small = {.name = "custom",
    .tokens_type = T2T_TOKENS_TRANSFORMER,
    .image_size = 64,
    .num_classes = 4,
    .embed_dim = 24,
    .depth = 3,
    .num_heads = 2,
    .mlp_ratio = 1,
    .token_dim = 64};

static struct t2t_model *model;

static int set_up(void **state)
{
    (void)state;
    if (synthetic_model_load(&model, &small, 1)) fail_msg("%s", t2t_last_error());
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    t2t_model_free(model);
    return 0;
}

/* Parses a command line "tool words..." as a tool's main() does. */
static enum t2t_status parse(const char *line, struct attention_runs *runs)
{
    static char copy[1024];
    struct attention_options options = ATTENTION_OPTIONS_DEFAULT;
    const struct option_row rows[] = {ATTENTION_OPTION_ROWS(&options)};
    char *argv[32] = {"tool"};
    int argc = 1;
    size_t operands;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *rest = copy, *word; argc < 31 && (word = strsep(&rest, " "));) argv[argc++] = word;
    *runs = (struct attention_runs){0};
    const enum t2t_status status = t2t_options_parse(rows, sizeof rows / sizeof *rows, argc, argv, &operands);
    return status ? status : t2t_attention_runs(runs, &options, model);
}

static void refuse(const char *line, const char *part)
{
    struct attention_runs runs;
    assert_int_equal(parse(line, &runs), T2T_BAD_USAGE);
    if (!strstr(t2t_last_error(), part)) fail_msg("%s: \"%s\" does not say \"%s\"", line, t2t_last_error(), part);
}

static void published_settings_are_defaults(void **state)
{
    (void)state;
    struct attention_runs runs;
    assert_int_equal(parse("--attention exact,performer,reformer,sblocal,kdeformer --layers all", &runs), T2T_OK);
    assert_int_equal(runs.count, 5);
    assert_int_equal(runs.reference, 0);
    assert_string_equal(runs.run[3].name, "scatterbrain");
    for (size_t layer = 0; layer < 5; layer++) {
        const struct attention_config *performer = &runs.plan[1].layer[layer], *reformer = &runs.plan[2].layer[layer];
        const struct attention_config *brain = &runs.plan[3].layer[layer], *kdeformer = &runs.plan[4].layer[layer];
        assert_int_equal(runs.plan[0].layer[layer].kind, ATTENTION_EXACT);
        assert_int_equal(performer->kind, ATTENTION_PERFORMER);
        assert_int_equal(performer->features, 49);
        assert_int_equal(reformer->kind, ATTENTION_REFORMER);
        assert_int_equal(reformer->bucket, layer < 2 ? 49 : 16);
        assert_int_equal(reformer->rounds, 2);
        assert_int_equal(brain->kind, ATTENTION_SCATTERBRAIN);
        assert_int_equal(brain->window, layer < 2 ? 49 : 17);
        assert_int_equal(brain->features, layer < 2 ? 48 : 24);
        assert_int_equal(kdeformer->kind, ATTENTION_KDEFORMER);
        assert_int_equal(kdeformer->bucket, 16);
        assert_int_equal(kdeformer->sampling, KDE_SYSTEMATIC);
        assert_int_equal(kdeformer->probability, KDE_PILOT);
    }
    t2t_attention_runs_free(&runs);
}

static void settings_reach_their_layers(void **state)
{
    (void)state;
    struct attention_runs runs;
    const char *line = "--attention performer,reformer,scatterbrain,kdeformer --layers all --kde-bucket 8 --seeds 2 "
                       "--attn-opt performer.features=64 --attn-opt performer.t2t.2.features=5 "
                       "--attn-opt=reformer.t2t.1.bucket=7 --attn-opt sblocal.blocks.window=16 "
                       "--attn-opt scatterbrain.t2t.features=4 --attn-opt reformer.block.0-block.1.rounds=3 "
                       "--attn-opt kdeformer.4.samples=6";
    if (parse(line, &runs)) fail_msg("%s", t2t_last_error());
    assert_int_equal(runs.count, 8);
    for (size_t seed = 0; seed < 2; seed++)
        for (size_t layer = 0; layer < 5; layer++) {
            const struct attention_config *reformer = &runs.plan[2 + seed].layer[layer];
            const struct attention_config *brain = &runs.plan[4 + seed].layer[layer];
            const struct attention_config *kdeformer = &runs.plan[6 + seed].layer[layer];
            assert_int_equal(runs.plan[seed].layer[layer].features, layer == 1 ? 5 : 64);
            assert_int_equal(reformer->bucket, layer == 0 ? 7 : layer == 1 ? 49 : 16);
            assert_int_equal(reformer->rounds, layer == 2 || layer == 3 ? 3 : 2);
            assert_int_equal(brain->window, layer < 2 ? 49 : 16);
            assert_int_equal(brain->features, layer < 2 ? 4 : 24);
            assert_int_equal(kdeformer->bucket, 8);
            assert_int_equal(kdeformer->samples, layer == 4 ? 6 : layer == 0 ? 96 : layer == 1 ? 28 : 10);
        }
    t2t_attention_runs_free(&runs);
}

static void kdeformer_draws_as_told(void **state)
{
    (void)state;
    struct attention_runs runs;
    if (parse("--attention kdeformer --kde-preset published", &runs)) fail_msg("%s", t2t_last_error());
    for (size_t layer = 0; layer < 2; layer++) {
        const struct attention_config *published = &runs.plan[0].layer[layer];
        assert_int_equal(published->bucket, 32);
        assert_int_equal(published->samples, layer ? 24 : 98);
        assert_int_equal(published->sampling, KDE_MULTINOMIAL);
        assert_int_equal(published->probability, KDE_VALUE);
        assert_int_equal(attention_sample_groups(published), 1);
    }
    t2t_attention_runs_free(&runs);
    const char *line =
        "--attention kdeformer --kde-preset=published --kde-sampling systematic --kde-probability column-norm "
        "--kde-sample-groups 2,4 --kde-pilot 8 --attn-opt kdeformer.t2t.2.pilot=12";
    if (parse(line, &runs)) fail_msg("%s", t2t_last_error());
    for (size_t layer = 0; layer < 2; layer++) {
        const struct attention_config *mixed = &runs.plan[0].layer[layer];
        assert_int_equal(mixed->samples, layer ? 24 : 98);
        assert_int_equal(mixed->sampling, KDE_SYSTEMATIC);
        assert_int_equal(mixed->probability, KDE_COLUMN_NORM);
        assert_int_equal(mixed->sample_groups, layer ? 4 : 2);
        assert_int_equal(mixed->pilot, layer ? 12 : 8);
    }
    t2t_attention_runs_free(&runs);
    if (parse("--attention kdeformer --kde-sampling multinomial --kde-probability value", &runs))
        fail_msg("%s", t2t_last_error());
    assert_int_equal(runs.plan[0].layer[0].sampling, KDE_MULTINOMIAL);
    assert_int_equal(runs.plan[0].layer[0].probability, KDE_VALUE);
    t2t_attention_runs_free(&runs);
    if (parse("--attention kdeformer --kde-error 0.05 --kde-samples 300", &runs)) fail_msg("%s", t2t_last_error());
    assert_true(runs.plan[0].layer[1].target_error == 0.05F);
    t2t_attention_runs_free(&runs);
    if (parse("--attention kdeformer,kdeformer:published --kde-error 0.05", &runs)) fail_msg("%s", t2t_last_error());
    assert_true(runs.plan[0].layer[0].target_error > 0 && !(runs.plan[1].layer[0].target_error > 0));
    t2t_attention_runs_free(&runs);
    refuse("--attention kdeformer --kde-error 0.05 --kde-preset published", "no pilot that could foretell");
    if (parse("--attention kdeformer --attn-opt kdeformer.t2t.2.error=0.25", &runs)) fail_msg("%s", t2t_last_error());
    assert_true(!(runs.plan[0].layer[0].target_error > 0) && runs.plan[0].layer[1].target_error == 0.25F);
    t2t_attention_runs_free(&runs);
    refuse("--attention kdeformer --attn-opt kdeformer.error=2", "expected a number from 0 to 1, not \"2\"");
    refuse("--attention kdeformer --kde-error 1e-50", "0 means none");
    refuse("--attention kdeformer --attn-opt kdeformer.error=1e-50", "expected a number from 0 to 1");
    refuse("--attention kdeformer --kde-error 0.3 --kde-samples 0", "cannot meet a target error with 0 samples");
    if (parse("--attention kdeformer --kde-error 0.1 --attn-opt kdeformer.t2t.2.samples=9", &runs))
        fail_msg("%s", t2t_last_error());
    assert_int_equal(runs.plan[0].layer[0].samples, t2t_layer_shape(model, 0).keys); /* but a limit */
    assert_int_equal(runs.plan[0].layer[1].samples, 9);
    t2t_attention_runs_free(&runs);
    refuse("--attention kdeformer:published --kde-error 0.05", "no pilot that could foretell");
    refuse("--attention kdeformer:published --kde-pilot 8", "has no pilot");
    refuse("--attention performer --kde-preset published", "--kde-preset: --attention lists no kdeformer");
    refuse("--attention performer --kde-error 0.1", "--kde-error: --attention lists no kdeformer");
    refuse("--attention performer --kde-sampling systematic", "--kde-sampling: --attention lists no kdeformer");
    refuse("--attention performer --kde-probability value", "--kde-probability: --attention lists no kdeformer");
    refuse("--attention kdeformer,kdeformer:published --kde-preset published", "the same; list only one");
    refuse("--attention kdeformer --kde-pilot 6", "a multiple of its 4 sample groups");
    refuse("--attention kdeformer --kde-sample-groups 3", "1, 2 or 4 sample groups");
}

static void say_what_is_wrong(void **state)
{
    (void)state;
    refuse("--attention performr", "did you mean performer?");
    refuse("--attention scatterbrain,sblocal", "listed twice");
    refuse("--attention performer --attn-opt features=3", "METHOD.KEY=VALUE");
    refuse("--attention performer --attn-opt performer.features", "METHOD.KEY=VALUE");
    refuse("--attention performer --attn-opt performer=3", "METHOD.KEY=VALUE");
    refuse("--attention performer --attn-opt preformer.features=3", "did you mean performer?");
    refuse("--attention performer --attn-opt performer.window=3", "no option \"window\"; there are features");
    refuse("--attention exact --attn-opt exact.window=3", "exact has no options");
    refuse("--attention performer --attn-opt performer.t2t.3.features=3", "no layer \"t2t.3\"");
    refuse("--attention performer --attn-opt performer.block.3.features=3", "block.0 ... block.2");
    refuse("--attention performer --attn-opt performer.features=many", "whole number");
    refuse("--attention performer --attn-opt performer.features=-3", "whole number");
    refuse("--attention performer --attn-opt performer.features=", "whole number");
    refuse("--attention performer --attn-opt performer.features=0", "1 to 16384 features, not 0");
    refuse("--attention sblocal --attn-opt sblocal.features=5", "layer t2t.1: scatterbrain has an even number");
    refuse("--attention reformer --attn-opt reformer.rounds=0", "1 to 64 rounds");
    refuse("--attention performer --attn-opt reformer.rounds=1", "--attention does not list reformer");
    refuse("--attention performer --attn-opt performer.blocks.features=8", "--layers leaves its layers");
    refuse("--attention performer --layers t2t.9", "this model's layers are");
    refuse("--attention performer --layers block.1-block.0", "this model's layers are");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_settings_are_defaults),
        cmocka_unit_test(settings_reach_their_layers),
        cmocka_unit_test(kdeformer_draws_as_told),
        cmocka_unit_test(say_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
