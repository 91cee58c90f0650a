/* What is random in attention, and what is made of it: Philox against its published answers, streams keyed by seed,
 * layer, image and head, integer cumulative sums, sampling probabilities against a float64 operator norm, Gray order.
 */
#include <Random123/philox.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/attention.h"
#include "layers/base/random.h"
#include "layers/cpu/kde_attention.h"
#include "layers/tests/guarded_memory.h"
#include "layers/tests/synthetic_numbers.h"

/* ---- random numbers ---- */

/* kat_vectors of Random123: philox4x32, 10 rounds; counter, key, answer. */
static void philox_gives_the_published_answers(void **state)
{
    (void)state;
    static const struct {
        philox4x32_ctr_t counter;
        philox4x32_key_t key;
        uint32_t answer[4];
    } known[] = {
        {{{0, 0, 0, 0}}, {{0, 0}}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, {{0xffffffff, 0xffffffff}},
            {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {{0xa4093822, 0x299f31d0}},
            {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < 3; i++)
        assert_memory_equal(philox4x32(known[i].counter, known[i].key).v, known[i].answer, sizeof known[i].answer);
    uint32_t zeros[4]; /* the first of them is also a stream of ours */
    t2t_random_uint32((struct t2t_random_key){0}, 4, zeros);
    assert_memory_equal(zeros, known[0].answer, sizeof zeros);
}

static void streams_are_keyed_as_documented(void **state)
{
    (void)state;
    const struct t2t_random_key key = {.seed = UINT64_C(0x299f31d0a4093822),
        .image = UINT64_C(0x13198a2e85a308d3),
        .layer = 127,
        .head = 1023,
        .purpose = T2T_RANDOM_SAMPLE};
    uint32_t numbers[11], prefix[6];
    float normal[11];
    t2t_random_uint32(key, 11, numbers);
    t2t_random_uint32(key, 6, prefix);
    t2t_random_normal(key, 11, normal);
    assert_memory_equal(numbers, prefix, sizeof prefix); /* a longer stream begins with the shorter one */
    const philox4x32_key_t seed = {{0xa4093822, 0x299f31d0}};
    for (uint32_t block = 0; block < 3; block++) {
        const philox4x32_ctr_t counter = {{block, 0x85a308d3, 0x13198a2e, 127u << 20 | 1023u << 8 | 2}};
        const philox4x32_ctr_t wanted = philox4x32(counter, seed);
        for (size_t i = 0; i < 4 && 4 * block + i < 11; i++) {
            assert_int_equal(numbers[4 * block + i], wanted.v[i]);
            const double radius = sqrt(-2 * log((wanted.v[i / 2 * 2] + 0.5) / 4294967296.0));
            const double angle = 2 * 3.14159265358979323846 * (wanted.v[i / 2 * 2 + 1] / 4294967296.0);
            const double variate = radius * (i % 2 ? sin(angle) : cos(angle));
            assert_true(fabs((double)normal[4 * block + i] - variate) <= 1e-6);
        }
    }
}

static void normals_have_their_moments(void **state)
{
    (void)state;
    enum { COUNT = 1 << 18 };
    float *x = malloc(COUNT * sizeof *x);
    assert_non_null(x);
    t2t_random_normal((struct t2t_random_key){.seed = 5, .purpose = T2T_RANDOM_TEST}, COUNT, x);
    double moment[5] = {0};
    for (size_t i = 0; i < COUNT; i++)
        for (size_t m = 1; m < 5; m++) moment[m] += pow((double)x[i], (double)m) / COUNT;
    /* standard deviations of the four means: 0.002, 0.003, 0.008, 0.02 */
    assert_true(fabs(moment[1]) < 0.01 && fabs(moment[2] - 1) < 0.015);
    assert_true(fabs(moment[3]) < 0.04 && fabs(moment[4] - 3) < 0.1);
    free(x);
}

enum { BATCH = 3, HEADS = 2, PROJECTION = 12 * 5, SAMPLES = 9 };

static const struct attention_shape drawn_shape = {
    .heads = HEADS, .queries = 20, .keys = 20, .head_dim = 12, .value_dim = 7, .scale = 1};
static const struct attention_config drawn_config = {
    .kind = ATTENTION_KDEFORMER, .projections = 5, .bucket = 4, .samples = SAMPLES};

struct drawn {
    float projection[BATCH][HEADS][PROJECTION];
    uint32_t uniform[BATCH][HEADS][SAMPLES];
};

static struct drawn draw(uint64_t seed, uint32_t layer, const uint64_t *image_index, size_t batch)
{
    struct drawn drawn = {0};
    const struct attention_draw_memory memory = {
        .projection = drawn.projection[0][0], .sample_uniform = drawn.uniform[0][0]};
    attention_draw(&drawn_shape, &drawn_config, seed, layer, image_index, batch, &memory);
    return drawn;
}

static bool same_unit(const struct drawn *a, size_t i, size_t g, const struct drawn *b, size_t j, size_t h)
{
    const bool projection = memcmp(a->projection[i][g], b->projection[j][h], sizeof a->projection[0][0]) == 0;
    const bool uniform = memcmp(a->uniform[i][g], b->uniform[j][h], sizeof a->uniform[0][0]) == 0;
    assert_true(projection == uniform);
    return projection;
}

static void draws_follow_seed_layer_image_and_head(void **state)
{
    (void)state;
    const uint64_t index[BATCH] = {7, UINT64_C(7) << 32, 3}, reversed[BATCH] = {3, UINT64_C(7) << 32, 7};
    const struct attention_draw_counts counts =
        attention_method(ATTENTION_KDEFORMER)->draw_counts(&drawn_shape, &drawn_config);
    assert_int_equal(counts.projection, PROJECTION);
    assert_int_equal(counts.sample_uniform, SAMPLES);
    const struct drawn all = draw(1, 0, index, BATCH), back = draw(1, 0, reversed, BATCH);
    const struct drawn seed = draw(2, 0, index, BATCH), layer = draw(1, 1, index, BATCH);
    for (size_t i = 0; i < BATCH; i++) {
        const struct drawn alone = draw(1, 0, &index[i], 1);
        for (size_t h = 0; h < HEADS; h++) {
            assert_true(same_unit(&all, i, h, &alone, 0, h));
            assert_true(same_unit(&all, i, h, &back, BATCH - 1 - i, h));
            assert_false(same_unit(&all, i, h, &seed, i, h));
            assert_false(same_unit(&all, i, h, &layer, i, h));
            for (size_t j = 0; j < BATCH; j++)
                for (size_t g = 0; g < HEADS; g++) assert_true(same_unit(&all, i, h, &all, j, g) == (i == j && h == g));
        }
    }
    attention_draw(&drawn_shape, &(struct attention_config){.kind = ATTENTION_EXACT}, 1, 0, index, BATCH,
        &(struct attention_draw_memory){.projection = NULL});
}

/* ---- integer cumulative sums ---- */

/* All uniforms that differ in their upper bits: with a total of 2^bits every unit of a share is hit equally often. */
static void picks_follow_integer_shares(void **state)
{
    (void)state;
    static const uint64_t share[] = {3, 1, 1, 50, 0, 7, 2};
    enum { KEYS = sizeof share / sizeof *share, BITS = 6 };
    uint64_t cumulative[KEYS], sum = 0;
    for (size_t j = 0; j < KEYS; j++) cumulative[j] = sum += share[j];
    assert_int_equal(sum, 1 << BITS);
    for (uint32_t low = 0; low < 3; low++) { /* what is below those bits does not count */
        size_t picks[KEYS] = {0};
        const uint32_t rest = low == 0 ? 0 : low == 1 ? 12345 : (UINT32_C(1) << (32 - BITS)) - 1;
        for (uint32_t u = 0; u < 1 << BITS; u++) picks[t2t_kde_pick(cumulative, KEYS, u << (32 - BITS) | rest)]++;
        for (size_t j = 0; j < KEYS; j++) assert_int_equal(picks[j], share[j]);
    }
}

/* How many of the 2^32 uniforms pick a key up to j: the pick rises with the uniform, so bisection counts them. */
static uint64_t uniforms_up_to(const uint64_t *cumulative, size_t keys, size_t j)
{
    uint64_t low = 0, high = UINT64_C(1) << 32;
    while (low < high) {
        const uint64_t middle = (low + high) / 2;
        if (t2t_kde_pick(cumulative, keys, (uint32_t)middle) <= j)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* key <= j exactly when uniform * total < cumulative[j] * 2^32, also for totals above 2^32. */
static void picks_split_the_uniforms(void **state)
{
    (void)state;
    enum { KEYS = 1000 };
    float probability[KEYS];
    uint64_t cumulative[KEYS];
    for (int excess = 0; excess < 2; excess++) {
        synthetic_uniform("p", 1, KEYS, probability);
        for (size_t j = 0; j < KEYS; j++) probability[j] = (probability[j] + 1 + (float)excess) / KEYS;
        t2t_kde_cumulate(probability, KEYS, cumulative);
        const uint64_t total = cumulative[KEYS - 1];
        if (excess) assert_true(total > UINT64_C(1) << 32);
        for (size_t j = 0; j < KEYS; j++) {
            /* ceil(cumulative * 2^32 / total), in two steps that fit */
            const uint64_t whole = (cumulative[j] << 31) / total, left = (cumulative[j] << 31) % total;
            assert_int_equal(uniforms_up_to(cumulative, KEYS, j), 2 * whole + (2 * left + total - 1) / total);
        }
        assert_int_equal(t2t_kde_pick(cumulative, KEYS, UINT32_MAX), KEYS - 1);
    }
}

static void cumulates_whatever_comes(void **state)
{
    (void)state;
    const float odd[] = {NAN, 0, 0.5F, -1, 1e-12F, 0x1p-32F, 0x1.8p-31F, 0.25F, INFINITY, -INFINITY};
    const uint64_t share[] = {1, 1, UINT64_C(1) << 31, 1, 1, 1, 3, UINT64_C(1) << 30, UINT64_C(1) << 32, 1};
    enum { KEYS = sizeof odd / sizeof *odd };
    uint64_t cumulative[KEYS], sum = 0;
    t2t_kde_cumulate(odd, KEYS, cumulative);
    for (size_t j = 0; j < KEYS; j++) assert_int_equal(cumulative[j], sum += share[j]);
    assert_int_equal(uniforms_up_to(cumulative, KEYS, KEYS - 1), UINT64_C(1) << 32);
    t2t_kde_cumulate((const float[]){1}, 1, cumulative);
    assert_int_equal(cumulative[0], UINT64_C(1) << 32);
    assert_int_equal(t2t_kde_pick(cumulative, 1, UINT32_MAX), 0);
}

/* ---- Gray order ---- */

static void gray_rank_inverts_the_gray_code(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1 << 16; i++) assert_int_equal(t2t_gray_rank((uint16_t)(i ^ i >> 1)), i);
}

/* ---- the table ---- */

static void refuses_what_is_out_of_range(void **state)
{
    (void)state;
    const struct attention_method *method = attention_method_named("kdeformer");
    assert_non_null(method);
    assert_int_equal(method->kind, ATTENTION_KDEFORMER);
    assert_null(attention_method_named("kdeforme"));
    static const struct {
        size_t projections, bucket, samples, keys;
        const char *sentence; /* NULL: fits */
    } cases[] = {
        {7, 32, 98, 3136, NULL},
        {1, 1, 0, 1, NULL},
        {16, 65536, 65536, 1 << 20, NULL},
        {0, 32, 98, 3136, "1 to 16 projections, not 0"},
        {17, 32, 98, 3136, "1 to 16 projections, not 17"},
        {7, 0, 98, 3136, "1 to 65536 keys, not 0"},
        {7, 65537, 98, 3136, "1 to 65536 keys, not 65537"},
        {7, 32, 65537, 3136, "0 to 65536 samples, not 65537"},
        {7, 32, SIZE_MAX, 3136, "samples, not 18446744073709551615"},
        {7, 32, 98, (1 << 20) + 1, "2^20 keys, not 1048577"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct attention_shape shape = {.heads = 1, .queries = 10, .keys = cases[i].keys, .head_dim = 64};
        const struct attention_config config = {.kind = ATTENTION_KDEFORMER,
            .projections = cases[i].projections,
            .bucket = cases[i].bucket,
            .samples = cases[i].samples};
        assert_int_equal(method->check(&shape, &config), cases[i].sentence ? T2T_BAD_USAGE : T2T_OK);
        if (cases[i].sentence && !strstr(t2t_last_error(), cases[i].sentence))
            fail_msg("\"%s\" does not say \"%s\"", t2t_last_error(), cases[i].sentence);
    }
}

/* Products of layer 1 of t2t_vit_t_14 at 224 px, counted by hand. */
static void counts_products(void **state)
{
    (void)state;
    const struct attention_shape shape = {.heads = 1, .queries = 3136, .keys = 3136, .head_dim = 64, .value_dim = 64};
    const struct attention_config config = {.projections = 7, .bucket = 32, .samples = 98};
    const double exact = attention_method(ATTENTION_EXACT)->macs(&shape, &config);
    const double kdeformer = attention_method(ATTENTION_KDEFORMER)->macs(&shape, &config);
    assert_true(fabs(exact - 2.0 * 3136 * 3136 * 64) < 1);
    assert_true(fabs(kdeformer - (2.0 * 3136 * 64 * 7 + 3136.0 * 130 * 128 + 3136 * 65)) < 1);
    /* systematic samples are no more than there are keys; a block of all keys has none */
    struct attention_config made = {
        .projections = 7, .bucket = 32, .samples = 60000, .sampling = KDE_SYSTEMATIC, .probability = KDE_UNIFORM};
    const double hashes = 2.0 * 3136 * 64 * 7;
    assert_true(fabs(attention_method(ATTENTION_KDEFORMER)->macs(&shape, &made) - hashes - 3136.0 * 3168 * 128) < 1);
    made.bucket = 4000;
    assert_true(fabs(attention_method(ATTENTION_KDEFORMER)->macs(&shape, &made) - hashes - 3136.0 * 3136 * 128) < 1);
    const struct attention_taken taken = {.units = 4, .bucket = 4 * 16, .samples = 4 * 30.5};
    made.kind = ATTENTION_KDEFORMER;
    assert_true(fabs(attention_macs(&shape, &made, &taken) - hashes - 3136.0 * 46.5 * 128) < 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(streams_are_keyed_as_documented),
        cmocka_unit_test(normals_have_their_moments),
        cmocka_unit_test(draws_follow_seed_layer_image_and_head),
        cmocka_unit_test(picks_follow_integer_shares),
        cmocka_unit_test(picks_split_the_uniforms),
        cmocka_unit_test(cumulates_whatever_comes),
        cmocka_unit_test(gray_rank_inverts_the_gray_code),
        cmocka_unit_test(refuses_what_is_out_of_range),
        cmocka_unit_test(counts_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
