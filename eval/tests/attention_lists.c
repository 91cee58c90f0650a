/* The lists of --attention, --reference, --layers, --seeds and --kde-*, and the plans that follow from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/attention_options.h"
#include "vit/tests/synthetic.h"

static struct t2t_model *model;

static int make_model(void **state)
{
    (void)state;
    static const struct t2t_config config = {.name = "custom",
        .tokens_type = T2T_TOKENS_TRANSFORMER,
        .image_size = 32,
        .num_classes = 3,
        .embed_dim = 24,
        .depth = 3,
        .num_heads = 2,
        .mlp_ratio = 2,
        .token_dim = 8};
    return synthetic_model_load(&model, &config, 1) ? -1 : 0;
}

static int free_model(void **state)
{
    (void)state;
    t2t_model_free(model);
    return 0;
}

static struct attention_runs runs_of(struct attention_options options)
{
    struct attention_runs runs;
    if (!options.attention) options.attention = "kdeformer";
    if (!options.layers) options.layers = "t2t";
    if (t2t_attention_runs(&runs, &options, model)) fail_msg("%s", t2t_last_error());
    return runs;
}

static void refuse_runs(const char *sentence, enum t2t_status expected, struct attention_options options)
{
    struct attention_runs runs;
    if (!options.attention) options.attention = "kdeformer";
    if (!options.layers) options.layers = "t2t";
    assert_int_equal(t2t_attention_runs(&runs, &options, model), expected);
    if (!strstr(t2t_last_error(), sentence)) fail_msg("\"%s\" does not say \"%s\"", t2t_last_error(), sentence);
    assert_null(runs.run);
}

#define OPTIONS(...)                                                                                                   \
    (struct attention_options)                                                                                         \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }

static void methods(void **state)
{
    (void)state;
    struct attention_runs runs = runs_of(OPTIONS(.attention = "kdeformer,exact,mean", .seed = 9));
    assert_int_equal(runs.count, 3);
    assert_string_equal(runs.run[0].name, "kdeformer");
    assert_string_equal(runs.run[1].name, "exact");
    assert_int_equal(runs.run[0].seed, 9);
    assert_int_equal(runs.plan[0].seed, 9);
    assert_int_equal(runs.reference, 1); /* exact, wherever it stands */
    t2t_attention_runs_free(&runs);
    runs = runs_of(OPTIONS(.attention = "mean,kdeformer"));
    assert_int_equal(runs.reference, 0);
    t2t_attention_runs_free(&runs);
    runs = runs_of(OPTIONS(.attention = "exact,kdeformer", .reference = "kdeformer"));
    assert_int_equal(runs.reference, 1);
    t2t_attention_runs_free(&runs);
    refuse_runs("did you mean kdeformer?", T2T_BAD_USAGE, OPTIONS(.attention = "exact,kdformer"));
    refuse_runs("--attention \"\": no such attention; there are exact, kdeformer", T2T_BAD_USAGE,
        OPTIONS(.attention = "exact,"));
    refuse_runs("exact is listed twice", T2T_BAD_USAGE, OPTIONS(.attention = "exact,exact"));
    refuse_runs("--reference mean: --attention does not list it", T2T_BAD_USAGE,
        OPTIONS(.attention = "exact,kdeformer", .reference = "mean"));
    refuse_runs("--reference \"none\": no such attention", T2T_BAD_USAGE, OPTIONS(.reference = "none"));
}

static void layers(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
        bool replaced[5];
    } cases[] = {
        {"t2t", "t2t.1, t2t.2", {true, true}},
        {"blocks", "block.0-block.2", {false, false, true, true, true}},
        {"all", "t2t.1, t2t.2, block.0-block.2", {true, true, true, true, true}},
        {"t2t.2", "t2t.2", {false, true}},
        {"block.1,t2t.1", "t2t.1, block.1", {true, false, false, true}},
        {"0,4", "t2t.1, block.2", {true, false, false, false, true}},
        {"block.0-block.1", "block.0-block.1", {false, false, true, true}},
        {"1-3", "t2t.2, block.0-block.1", {false, true, true, true}},
        {"t2t.2-2,t2t.2", "t2t.2, block.0", {false, true, true}},
        {"t2t,blocks", "t2t.1, t2t.2, block.0-block.2", {true, true, true, true, true}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct attention_runs runs = runs_of(OPTIONS(.layers = cases[i].text));
        for (size_t layer = 0; layer < 5; layer++)
            assert_int_equal(runs.plan[0].layer[layer].kind == ATTENTION_KDEFORMER, cases[i].replaced[layer]);
        assert_string_equal(runs.layers, cases[i].said);
        t2t_attention_runs_free(&runs);
    }
    static const char *const wrong[] = {"", "5", "-1", "block.3", "block.2-block.1", "block", "t2t.0", "block.0-", "-",
        "blocks-t2t", "0,,1", "block.00"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse_runs(
            "this model's layers are t2t.1, t2t.2, block.0 ... block.2", T2T_BAD_USAGE, OPTIONS(.layers = wrong[i]));
}

static void expect_values(struct attention_options options, const size_t samples[3])
{
    struct attention_runs runs = runs_of(options);
    assert_int_equal(runs.plan[0].layer[0].samples, samples[0]);
    assert_int_equal(runs.plan[0].layer[1].samples, samples[1]);
    assert_int_equal(runs.plan[0].layer[2].samples, samples[2]);
    assert_int_equal(runs.plan[0].layer[4].samples, samples[2]);
    t2t_attention_runs_free(&runs);
}

static void kdeformer_values(void **state)
{
    (void)state;
    size_t usual[3];
    for (size_t layer = 0; layer < 3; layer++)
        usual[layer] = t2t_attention_defaults(model, ATTENTION_KDEFORMER, layer).samples;
    expect_values(OPTIONS(.layers = "all"), usual);
    expect_values(OPTIONS(.layers = "all", .kde_samples = "7"), (const size_t[]){7, 7, 7});
    expect_values(OPTIONS(.layers = "all", .kde_samples = "7,0"), (const size_t[]){7, 0, usual[2]});
    expect_values(OPTIONS(.layers = "all", .kde_samples = "7,8,9"), (const size_t[]){7, 8, 9});
    struct attention_runs runs =
        runs_of(OPTIONS(.layers = "all", .kde_bucket = "4,5,6", .kde_projections = "1,2,3", .kde_samples = "0"));
    for (size_t layer = 0; layer < 3; layer++) {
        assert_int_equal(runs.plan[0].layer[layer].bucket, 4 + layer);
        assert_int_equal(runs.plan[0].layer[layer].projections, 1 + layer);
    }
    t2t_attention_runs_free(&runs);
    static const char *const wrong[] = {"", "1,2,3,4", "1,,2", "a", "1.5", "-1", "65537", "1,2,3,"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse_runs("expected 1 to 3 whole numbers up to 65536", T2T_BAD_USAGE, OPTIONS(.kde_bucket = wrong[i]));
    refuse_runs("layer t2t.1: kdeformer hashes with 1 to 16 projections, not 17", T2T_BAD_USAGE,
        OPTIONS(.kde_projections = "17"));
    refuse_runs("buckets hold 1 to", T2T_BAD_USAGE, OPTIONS(.kde_bucket = "0"));
    refuse_runs("which --layers leaves as they are; give one value, or three", T2T_BAD_USAGE,
        OPTIONS(.layers = "blocks", .kde_samples = "98,24"));
    refuse_runs("--kde-samples: --attention lists no kdeformer", T2T_BAD_USAGE,
        OPTIONS(.attention = "exact,mean", .kde_samples = "98"));
}

static void seeds(void **state)
{
    (void)state;
    struct attention_runs runs = runs_of(OPTIONS(.attention = "exact,kdeformer", .seeds = "3"));
    assert_int_equal(runs.count, 4); /* exact once */
    for (size_t i = 1; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "kdeformer.seed%zu", i);
        assert_string_equal(runs.run[i].name, name);
        assert_int_equal(runs.plan[i].seed, i);
    }
    t2t_attention_runs_free(&runs);
    runs = runs_of(OPTIONS(.seeds = "3,0,9007199254740992"));
    assert_int_equal(runs.count, 3);
    assert_int_equal(runs.run[1].seed, 0);
    assert_string_equal(runs.run[2].name, "kdeformer.seed9007199254740992");
    t2t_attention_runs_free(&runs);
    runs = runs_of(OPTIONS(.seeds = "1000"));
    assert_int_equal(runs.count, 1000);
    t2t_attention_runs_free(&runs);
    static const char *const counts[] = {"", "0", "1001", "x", "-3"}, *const lists[] = {"3,", ",3", "1,a", "1,-2"};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        refuse_runs("expected how many (1 to 1000), or a list like 3,7", T2T_BAD_USAGE, OPTIONS(.seeds = counts[i]));
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        refuse_runs("whole numbers separated by commas", T2T_BAD_USAGE, OPTIONS(.seeds = lists[i]));
    refuse_runs("7 is listed twice", T2T_BAD_USAGE, OPTIONS(.seeds = "7,3,7"));
    char endless[5000];
    memset(endless, ',', sizeof endless);
    endless[sizeof endless - 1] = '\0';
    refuse_runs("its list is too long", T2T_BAD_USAGE, OPTIONS(.seeds = endless));
    refuse_runs("its list is too long", T2T_BAD_USAGE, OPTIONS(.layers = endless));
}

/* The one contradiction that takes the parser to see. */
static void seed_or_seeds(void **state)
{
    (void)state;
    struct attention_options options = ATTENTION_OPTIONS_DEFAULT;
    const struct option_row rows[] = {ATTENTION_OPTION_ROWS(&options)};
    char program[] = "program", seed[] = "--seed=1", list[] = "--seeds=3";
    char *words[] = {program, seed, list, NULL};
    size_t operands;
    struct attention_runs runs;
    assert_int_equal(t2t_options_parse(rows, sizeof rows / sizeof *rows, 3, words, &operands), T2T_OK);
    assert_int_equal(t2t_attention_runs(&runs, &options, model), T2T_BAD_USAGE);
    assert_string_equal(t2t_last_error(), "--seed and --seeds: only one of them is meant");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(methods),
        cmocka_unit_test(layers),
        cmocka_unit_test(kdeformer_values),
        cmocka_unit_test(seeds),
        cmocka_unit_test(seed_or_seeds),
    };
    return cmocka_run_group_tests(tests, make_model, free_model);
}
