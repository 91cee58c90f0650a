/* How the cost of a picture grows with its size: exact attention and KDEformer in both tokens-to-token layers.
 *
 *   bench_growth [ROUNDS [THREADS [CHART.svg [SIDE ...]]]]    5 rounds, 2 threads, 224 384 512 768 px
 *
 * A t2t_vit_t_14 with random weights, one picture of noise at a time; the methods take turns. `layer 1` is the whole
 * first tokens-to-token layer (products, norms, attention), `attention` its attention alone. The exponent e is that of
 * time = c n^e, n = tokens of layer 1, by least squares on the logarithms.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval/chart.h"
#include "layers/base/random.h"
#include "layers/tests/bench_support.h"
#include "vit/t2t_vit.h"

enum { MOST_SIDES = 12, MOST_ROUNDS = 101, METHODS = 2, TIMES = 3 };
static const char *const time_names[TIMES] = {"forward", "layer 1", "attention"};

struct growth {
    size_t sides, rounds, threads;
    size_t side[MOST_SIDES];
    double sample[MOST_SIDES][METHODS][TIMES][MOST_ROUNDS]; /* ms; sorted in the end */
};

static double median_of(const struct growth *growth, size_t s, size_t method, size_t time)
{
    return growth->sample[s][method][time][growth->rounds / 2];
}

static double tokens_of(size_t side)
{
    return (double)(side / 4) * (double)(side / 4);
}

static int fail(void)
{
    fprintf(stderr, "bench_growth: %s\n", t2t_last_error());
    return EXIT_FAILURE;
}

static enum t2t_status time_forwards(struct growth *growth, size_t s, struct t2t_session *session)
{
    const size_t count = 3 * growth->side[s] * growth->side[s];
    float *images = bench_allocate(count * sizeof *images), *logits = bench_allocate(1000 * sizeof *logits);
    t2t_random_normal((struct t2t_random_key){.seed = 1, .purpose = T2T_RANDOM_TEST}, count, images);
    enum t2t_status status = T2T_OK;
    /* The first round warms up. */
    for (size_t round = 0; round <= growth->rounds && !status; round++)
        for (size_t method = 0; method < METHODS && !status; method++) {
            const uint64_t index = round;
            t2t_session_use(session, method);
            status = t2t_forward(session, images, &index, 1, logits);
            if (round == 0) continue;
            const struct t2t_costs *costs = t2t_session_costs(session);
            growth->sample[s][method][0][round - 1] = 1e3 * costs->seconds;
            growth->sample[s][method][1][round - 1] = 1e3 * costs->layer[0].seconds;
            growth->sample[s][method][2][round - 1] = 1e3 * costs->layer[0].attention_seconds;
        }
    free(images);
    free(logits);
    return status;
}

static enum t2t_status measure(struct growth *growth, size_t s)
{
    struct t2t_config config = *t2t_variant_named("t2t_vit_t_14");
    config.image_size = growth->side[s];
    struct t2t_model *model;
    struct t2t_session *session = NULL;
    struct t2t_plan plans[METHODS];
    enum t2t_status status = t2t_model_random(&model, &config, 1);
    if (status) return status;
    t2t_plan_exact(model, &plans[0]);
    t2t_plan_exact(model, &plans[1]);
    for (size_t layer = 0; layer < 2 && !status; layer++)
        status = t2t_plan_set(model, &plans[1], layer, t2t_attention_defaults(model, ATTENTION_KDEFORMER, layer));
    const struct t2t_session_options options = {
        .batch = 1, .device = {.threads = growth->threads}, .plans = plans, .plan_count = METHODS};
    if (!status) status = t2t_session_open(&session, model, &options);
    if (!status && s == 0) printf("t2t_vit_t_14, random weights, batch 1; %s\n\n", t2t_session_describe(session));
    if (!status) status = time_forwards(growth, s, session);
    t2t_session_close(session);
    t2t_model_free(model);
    return status;
}

/* The e of time = c n^e. */
static double exponent(const struct growth *growth, size_t method, size_t time)
{
    double x = 0, y = 0, xx = 0, xy = 0;
    const double count = (double)growth->sides;
    for (size_t s = 0; s < growth->sides; s++) {
        const double log_n = log(tokens_of(growth->side[s])), log_t = log(median_of(growth, s, method, time));
        x += log_n, y += log_t, xx += log_n * log_n, xy += log_n * log_t;
    }
    return (count * xy - x * y) / (count * xx - x * x);
}

static void print_table(const struct growth *growth)
{
    printf("%6s %8s", "px", "tokens");
    for (size_t time = 0; time < TIMES; time++)
        printf("  %10s exact  %10s kdeformer   ratio", time_names[time], time_names[time]);
    printf("   (ms a picture, median of %zu rounds)\n", growth->rounds);
    for (size_t s = 0; s < growth->sides; s++) {
        printf("%6zu %8.0f", growth->side[s], tokens_of(growth->side[s]));
        for (size_t time = 0; time < TIMES; time++) {
            const double exact = median_of(growth, s, 0, time), kdeformer = median_of(growth, s, 1, time);
            printf("  %16.2f  %20.2f  %5.2fx", exact, kdeformer, exact / kdeformer);
        }
        printf("\n");
    }
    if (growth->sides < 2) return;
    printf("%15s", "exponent in n");
    for (size_t time = 0; time < TIMES; time++)
        printf("  %16.2f  %20.2f  %6s", exponent(growth, 0, time), exponent(growth, 1, time), "");
    printf("\n");
}

static int draw_chart(const struct growth *growth, const char *path)
{
    struct chart_point points[METHODS * 2][MOST_SIDES];
    struct chart_series series[METHODS * 2];
    static const char *const names[METHODS * 2] = {
        "exact, forward", "kdeformer, forward", "exact, layer 1", "kdeformer, layer 1"};
    for (size_t i = 0; i < METHODS * 2; i++) {
        for (size_t s = 0; s < growth->sides; s++) {
            const double *sample = growth->sample[s][i % METHODS][i / METHODS];
            points[i][s] = (struct chart_point){.x = tokens_of(growth->side[s]),
                .y = sample[growth->rounds / 2],
                .low = sample[growth->rounds / 4],
                .high = sample[growth->rounds - 1 - growth->rounds / 4]};
            snprintf(points[i][s].label, sizeof points[i][s].label, "%zu px", growth->side[s]);
        }
        series[i] = (struct chart_series){names[i], points[i], growth->sides};
    }
    const struct chart chart = {.title = "Cost of a picture against its size",
        .subtitle = "t2t_vit_t_14, batch 1; bars: quartiles of the rounds",
        .x = {"tokens of layer 1", true},
        .y = {"ms a picture", true},
        .series = series,
        .count = METHODS * 2};
    FILE *out = fopen(path, "w");
    if (out) t2t_chart_svg(&chart, out);
    if (out && fclose(out) == 0) return EXIT_SUCCESS;
    perror(path);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static const size_t usual[] = {224, 384, 512, 768};
    static struct growth growth;
    growth.rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 5;
    growth.threads = argc > 2 ? strtoul(argv[2], NULL, 10) : 2;
    growth.sides = argc > 4 ? (size_t)argc - 4 : sizeof usual / sizeof *usual;
    bool usable = growth.rounds >= 1 && growth.rounds <= MOST_ROUNDS && growth.sides <= MOST_SIDES;
    for (size_t s = 0; s < growth.sides && usable; s++) {
        growth.side[s] = argc > 4 ? strtoul(argv[4 + s], NULL, 10) : usual[s];
        usable = growth.side[s] >= 32 && growth.side[s] % 16 == 0;
    }
    if (!usable) {
        fprintf(stderr, "usage: bench_growth [ROUNDS [THREADS [CHART.svg [SIDE ...]]]]    sides: multiples of 16\n");
        return 2;
    }
    for (size_t s = 0; s < growth.sides; s++) {
        if (measure(&growth, s)) return fail();
        for (size_t method = 0; method < METHODS; method++)
            for (size_t time = 0; time < TIMES; time++) bench_sort(growth.sample[s][method][time], growth.rounds);
    }
    print_table(&growth);
    return argc > 3 && *argv[3] ? draw_chart(&growth, argv[3]) : EXIT_SUCCESS;
}
