/* Times of every method on a CUDA device as ratios to exact attention, and how far their logits are from the CPU's, in a
 * JSON file that can be sent to the project.
 *
 *   gpu_timings FILE.json             t2t_vit_t_14 with random weights, batches of 1, 8 and 32
 *   gpu_timings FILE.json --small     a network of a few numbers: whether the program works
 *
 * Each method stands in every layer. Methods take turns; a time is the median of the rounds, a ratio the median of the
 * rounds' own ratios.
 */
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/cuda/cuda_ops.h"
#include "vit/tests/synthetic.h"

enum { METHODS = 7, MOST_ROUNDS = 21, MOST_BATCHES = 3, WARMUP = 3, PARTS = 4 };

static const char *const names[METHODS] = {
    "exact", "kdeformer", "kdeformer, published", "performer", "reformer", "scatterbrain", "mean"};
static const char *const parts[PARTS] = {
    "forward", "attention of t2t.1", "attention of t2t.2", "attention of the blocks"};

static struct {
    struct t2t_model *model;
    struct t2t_plan plans[METHODS];
    size_t batches[MOST_BATCHES], batch_count, rounds;
    float *pictures; /* of the largest batch */
    uint64_t *place;
    float *logits;
    char device[160];
} bench;

static void stop(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, t2t_last_error());
    exit(EXIT_FAILURE);
}

/* ---- the network ---- */

static void make_plans(void)
{
    static const enum attention_kind kinds[METHODS] = {ATTENTION_EXACT, ATTENTION_KDEFORMER, ATTENTION_KDEFORMER,
        ATTENTION_PERFORMER, ATTENTION_REFORMER, ATTENTION_SCATTERBRAIN, ATTENTION_MEAN};
    const size_t layers = T2T_TOKEN_LAYERS + t2t_model_config(bench.model)->depth;
    for (size_t i = 0; i < METHODS; i++) {
        t2t_plan_exact(bench.model, &bench.plans[i]);
        for (size_t layer = 0; layer < layers; layer++) {
            const struct attention_config config = i == 2 ? t2t_kdeformer_published(bench.model, layer)
                                                          : t2t_attention_defaults(bench.model, kinds[i], layer);
            if (t2t_plan_set(bench.model, &bench.plans[i], layer, config)) stop(names[i]);
        }
    }
}

static void open_bench(bool is_small)
{
    struct t2t_config config = *t2t_variant_named("t2t_vit_t_14");
    bench.batch_count = is_small ? 2 : 3;
    bench.rounds = is_small ? 3 : MOST_ROUNDS;
    const size_t sizes[MOST_BATCHES] = {1, is_small ? 2 : 8, 32};
    memcpy(bench.batches, sizes, sizeof sizes);
    if (is_small) {
        strcpy(config.name, "small");
        config.image_size = 32;
        config.embed_dim = 36;
        config.depth = 1;
        config.num_heads = 3;
        config.num_classes = 7;
        config.token_dim = 16;
    }
    if (t2t_model_random(&bench.model, &config, 1)) stop("the network");
    make_plans();
    const size_t most = bench.batches[bench.batch_count - 1], pixels = 3 * config.image_size * config.image_size;
    bench.pictures = malloc(most * pixels * sizeof *bench.pictures);
    bench.place = malloc(most * sizeof *bench.place);
    bench.logits = malloc(most * config.num_classes * sizeof *bench.logits);
    if (!bench.pictures || !bench.place || !bench.logits) exit(EXIT_FAILURE);
    for (size_t i = 0; i < most; i++) {
        bench.place[i] = i;
        synthetic_picture(config.image_size, i, bench.pictures + i * pixels);
    }
}

/* A way of running the network. */
struct way {
    const char *title;
    enum number_format format;
    bool graph, tf32;
};
static const struct way ways[] = {{"", FORMAT_FLOAT32, false, false}, {", graph", FORMAT_FLOAT32, true, false},
    {", TF32", FORMAT_FLOAT32, false, true}, {", float16, graph", FORMAT_FLOAT16, true, false}};

static struct t2t_session *open_session(const struct layer_ops *ops, size_t batch, const struct way *way)
{
    const struct t2t_session_options options = {.batch = batch,
        .ops = ops,
        .device = {.format = way->format, .graph = way->graph, .tf32 = way->tf32},
        .plans = bench.plans,
        .plan_count = METHODS};
    struct t2t_session *session;
    if (t2t_session_open(&session, bench.model, &options)) stop("a session");
    return session;
}

static void forward(struct t2t_session *session, size_t method, size_t batch)
{
    t2t_session_use(session, method);
    if (t2t_forward(session, bench.pictures, bench.place, batch, bench.logits)) stop(names[method]);
}

/* ---- numbers ---- */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, size_t count)
{
    double sorted[MOST_ROUNDS];
    memcpy(sorted, values, count * sizeof *values);
    qsort(sorted, count, sizeof *sorted, by_size);
    return sorted[count / 2];
}

/* Milliseconds of each part of the forward that was. */
static void parts_of(const struct t2t_costs *costs, double ms[PARTS])
{
    ms[0] = 1e3 * costs->seconds;
    ms[1] = 1e3 * costs->layer[0].attention_seconds;
    ms[2] = 1e3 * costs->layer[1].attention_seconds;
    ms[3] = 0;
    for (size_t layer = 2; layer < costs->layers; layer++) ms[3] += 1e3 * costs->layer[layer].attention_seconds;
}

/* One batch size in one way of running; results are appended. */
static void measure(json_t *results, size_t batch, const struct way *way)
{
    static double ms[METHODS][PARTS][MOST_ROUNDS];
    struct t2t_session *session = open_session(t2t_cuda_ops(), batch, way);
    if (way == ways) snprintf(bench.device, sizeof bench.device, "%s", t2t_session_describe(session));
    for (size_t i = 0; i < WARMUP * METHODS; i++) forward(session, i % METHODS, batch);
    for (size_t round = 0; round < bench.rounds; round++)
        for (size_t turn = 0; turn < METHODS; turn++) {
            const size_t method = (turn + round) % METHODS;
            double now[PARTS];
            forward(session, method, batch);
            parts_of(t2t_session_costs(session), now);
            for (size_t part = 0; part < PARTS; part++) ms[method][part][round] = now[part];
        }
    for (size_t method = 0; method < METHODS; method++)
        for (size_t part = 0; part < PARTS; part++) {
            double ratio[MOST_ROUNDS];
            for (size_t round = 0; round < bench.rounds; round++)
                ratio[round] = ms[method][part][round] / ms[0][part][round];
            json_array_append_new(
                results, json_pack("{s:i, s:s, s:b, s:b, s:s, s:s, s:f, s:f}", "batch", (int)batch, "dtype",
                             number_format_name(way->format), "cuda_graph", way->graph, "tf32", way->tf32, "method",
                             names[method], "part", parts[part], "ms", median(ms[method][part], bench.rounds),
                             "ratio_to_exact", median(ratio, bench.rounds)));
        }
    t2t_session_close(session);
    printf("batch %zu%s:", batch, way->title);
    for (size_t i = 0; i < METHODS; i++) printf("  %s %.3f ms", names[i], median(ms[i][0], bench.rounds));
    printf("\n");
}

/* Logits of one picture: the largest difference from the CPU's over their standard deviation. */
static json_t *deviations(void)
{
    const size_t classes = t2t_model_config(bench.model)->num_classes;
    struct t2t_session *host = open_session(NULL, 1, ways), *cuda = open_session(t2t_cuda_ops(), 1, ways);
    json_t *all = json_object();
    float *wanted = malloc(classes * sizeof *wanted);
    if (!wanted) exit(EXIT_FAILURE);
    for (size_t method = 0; method < METHODS; method++) {
        double largest = 0, mean = 0, squares = 0;
        forward(host, method, 1);
        memcpy(wanted, bench.logits, classes * sizeof *wanted);
        forward(cuda, method, 1);
        for (size_t i = 0; i < classes; i++) {
            largest = fmax(largest, fabs((double)bench.logits[i] - (double)wanted[i]));
            mean += (double)wanted[i] / (double)classes;
        }
        for (size_t i = 0; i < classes; i++) squares += pow((double)wanted[i] - mean, 2) / (double)classes;
        json_object_set_new(all, names[method], json_real(largest / sqrt(squares)));
    }
    free(wanted);
    t2t_session_close(host);
    t2t_session_close(cuda);
    return all;
}

int main(int argc, char **argv)
{
    const bool is_small = argc == 3 && strcmp(argv[2], "--small") == 0;
    if (argc != 2 && !is_small) {
        fprintf(stderr, "usage: %s FILE.json [--small]\n", argv[0]);
        return 2;
    }
    t2t_cuda_ops(); /* ends here where there is no device */
    open_bench(is_small);
    json_t *results = json_array();
    for (size_t i = 0; i < bench.batch_count; i++)
        for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) measure(results, bench.batches[i], &ways[way]);
    json_t *off = deviations();
    json_t *report = json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:o}", "kind", "t2tvit: times on a CUDA device",
        "version", T2T_VERSION, "device", bench.device, "model", t2t_model_config(bench.model)->name, "rounds",
        (int)bench.rounds, "logits_off_in_deviations", off, "results", results);
    const int failed = json_dump_file(report, argv[1], JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    if (failed)
        fprintf(stderr, "%s: cannot be written\n", argv[1]);
    else
        printf("%s is written: please send it to the project\n", argv[1]);
    json_decref(report);
    t2t_model_free(bench.model);
    free(bench.pictures);
    free(bench.place);
    free(bench.logits);
    return failed ? 6 : 0;
}
