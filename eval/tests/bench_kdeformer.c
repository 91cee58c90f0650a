/* What KDEformer's samples are worth: error of the attention output and time of each way to draw them, relative to the
 * published way, on q, k and v of a network and its pictures. layers/kdeformer-sampling.md quotes it.
 *
 *   bench_kdeformer WEIGHTS PICTURES [COUNT [SEEDS [LAYER ...]]]     LAYER: 0 is t2t.1, 1 is t2t.2, 2 is block.0
 *
 * Error: spectral norm of the difference from exact attention over that of exact attention, all before `proj`, mean over
 * pictures, heads and seeds. Time: one thread, methods in turns on data that is in the cache; median of the ratios.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/base/clock.h"
#include "layers/cpu/cpu_attention.h"
#include "layers/tests/bench_support.h"
#include "loaders/batch_loader.h"
#include "vit/t2t_vit.h"

enum { MOST_ROUNDS = 4096 };

/* A way to draw: its samples are the published ones (bucket + samples) less its bucket and its pilot. */
struct way {
    const char *name;
    enum kde_sampling sampling;
    enum kde_probability probability;
    size_t sample_groups, pilot, bucket;
};

static const struct way ways[] = {
    {"published", KDE_MULTINOMIAL, KDE_VALUE, 1, 0, 32},
    {"systematic, value", KDE_SYSTEMATIC, KDE_VALUE, 1, 0, 32},
    {"systematic, uniform", KDE_SYSTEMATIC, KDE_UNIFORM, 1, 0, 32},
    {"multinomial, pilot 16", KDE_MULTINOMIAL, KDE_PILOT, 1, 16, 32},
    {"systematic, pilot 16", KDE_SYSTEMATIC, KDE_PILOT, 1, 16, 32},
    {"systematic, pilot 32", KDE_SYSTEMATIC, KDE_PILOT, 1, 32, 32},
    {"systematic, pilot 16, 2 groups", KDE_SYSTEMATIC, KDE_PILOT, 2, 16, 32},
    {"systematic, pilot 16, 4 groups", KDE_SYSTEMATIC, KDE_PILOT, 4, 16, 32},
    {"systematic, pilot 32, 4 groups", KDE_SYSTEMATIC, KDE_PILOT, 4, 32, 32},
    {"systematic, pilot 16, 4 groups", KDE_SYSTEMATIC, KDE_PILOT, 4, 16, 16},
    {"systematic, pilot 32, 4 groups", KDE_SYSTEMATIC, KDE_PILOT, 4, 32, 16},
    {"multinomial, column norm", KDE_MULTINOMIAL, KDE_COLUMN_NORM, 1, 0, 32},
    {"systematic, column norm, 4 groups", KDE_SYSTEMATIC, KDE_COLUMN_NORM, 4, 0, 32},
};
enum { WAYS = sizeof ways / sizeof *ways };

struct row {
    char name[64];
    struct attention_config config;
    double error, time[MOST_ROUNDS];
    size_t errors;
};

struct bench {
    const struct t2t_model *model;
    const struct attention_kernels *kernels;
    size_t layer, seeds, rounds, rows;
    uint64_t image_index;
    struct row row[WAYS + 1];
};

/* ---- errors ---- */

static void *allocate(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!memory) {
        fprintf(stderr, "out of memory\n");
        exit(5);
    }
    return memory;
}

/* Largest singular value of a [rows, columns], by power iteration on its Gram matrix. */
static double spectral_norm(const float *a, size_t rows, size_t columns, size_t stride)
{
    double *gram = calloc(columns * columns + 2 * columns, sizeof *gram), value = 0;
    if (!gram) exit(5);
    double *x = gram + columns * columns, *y = x + columns;
    for (size_t i = 0; i < rows; i++)
        for (size_t r = 0; r < columns; r++)
            for (size_t c = 0; c < columns; c++)
                gram[r * columns + c] += (double)a[i * stride + r] * (double)a[i * stride + c];
    for (size_t c = 0; c < columns; c++) x[c] = 1 + 0.1 * (double)c;
    for (size_t step = 0; step < 100; step++) {
        double length = 0;
        for (size_t r = 0; r < columns; r++) {
            y[r] = 0;
            for (size_t c = 0; c < columns; c++) y[r] += gram[r * columns + c] * x[c];
            length += y[r] * y[r];
        }
        value = sqrt(length);
        for (size_t c = 0; c < columns; c++) x[c] = value > 0 ? y[c] / value : 0;
    }
    free(gram);
    return sqrt(value);
}

/* ---- one layer of one picture ---- */

/* Runs a configuration into `out` and returns its seconds. */
static double run(const struct bench *bench, struct attention_call call, const struct attention_config *config,
    uint64_t seed, float *out)
{
    const struct attention_method *method = attention_method(config->kind);
    struct attention_draw_counts counts = {0};
    if (method->draw_counts) counts = method->draw_counts(&call.shape, config);
    const size_t heads = call.shape.heads;
    const struct attention_draw_memory draws = {
        .projection = allocate(heads * counts.projection * sizeof *draws.projection),
        .sample_uniform = allocate(heads * counts.sample_uniform * sizeof *draws.sample_uniform),
        .pilot_uniform = allocate(heads * counts.pilot_uniform * sizeof *draws.pilot_uniform)};
    attention_draw(&call.shape, config, seed, (uint32_t)bench->layer, &bench->image_index, 1, &draws);
    call.config = *config;
    call.draws = (struct attention_draws){
        .projection = draws.projection, .sample_uniform = draws.sample_uniform, .pilot_uniform = draws.pilot_uniform};
    call.batch = 1;
    call.out = out;
    call.out_stride = call.shape.heads * call.shape.value_dim;
    call.scratch = allocate(t2t_cpu_attention_scratch(bench->kernels, 1, &call.shape, config, 1));
    t2t_cpu_attention(bench->kernels, 1, &call); /* brings data into the cache, and scratch into memory */
    const double begin = t2t_now();
    t2t_cpu_attention(bench->kernels, 1, &call);
    const double seconds = t2t_now() - begin;
    free(call.scratch);
    free(draws.projection);
    free(draws.sample_uniform);
    free(draws.pilot_uniform);
    return seconds;
}

static void measure(void *context, size_t layer, size_t first_image, const struct attention_call *call)
{
    struct bench *bench = context;
    (void)first_image;
    if (layer != bench->layer) return;
    const struct attention_shape *shape = &call->shape;
    const size_t width = shape->heads * shape->value_dim, dim = shape->value_dim, count = shape->queries * width;
    float *exact = allocate(count * sizeof *exact), *out = allocate(count * sizeof *out);
    run(bench, *call, &(struct attention_config){.kind = ATTENTION_EXACT}, 1, exact);
    for (uint64_t seed = 1; seed <= bench->seeds; seed++, bench->rounds += bench->rounds + 1 < MOST_ROUNDS)
        for (size_t i = 0; i < bench->rows; i++) {
            struct row *row = &bench->row[i];
            row->time[bench->rounds] = run(bench, *call, &row->config, seed, out);
            for (size_t j = 0; j < count; j++) out[j] -= exact[j];
            for (size_t head = 0; head < shape->heads; head++, row->errors++)
                row->error += spectral_norm(out + head * dim, shape->queries, dim, width) /
                              spectral_norm(exact + head * dim, shape->queries, dim, width);
        }
    free(exact);
    free(out);
}

/* ---- table ---- */

static void make_rows(struct bench *bench)
{
    const struct attention_config published = t2t_kdeformer_published(bench->model, bench->layer);
    const struct attention_shape shape = t2t_layer_shape(bench->model, bench->layer);
    bench->rows = 0;
    for (size_t i = 0; i < WAYS; i++) {
        struct row *row = &bench->row[bench->rows];
        memset(row, 0, sizeof *row);
        row->config = published;
        row->config.sampling = ways[i].sampling;
        row->config.probability = ways[i].probability;
        row->config.sample_groups = ways[i].sample_groups;
        row->config.pilot = ways[i].pilot;
        row->config.bucket = ways[i].bucket * published.bucket / 32;
        const size_t pilot =
            ways[i].pilot * shape.head_dim * shape.keys / ((shape.head_dim + shape.value_dim) * shape.queries);
        const size_t spent = row->config.bucket + pilot, all = published.bucket + published.samples;
        if (spent >= all) continue;
        row->config.samples = all - spent;
        snprintf(row->name, sizeof row->name, "%s", ways[i].name);
        bench->rows++;
    }
    struct row *row = &bench->row[bench->rows++];
    memset(row, 0, sizeof *row);
    row->config = t2t_attention_defaults(bench->model, ATTENTION_KDEFORMER, bench->layer);
    snprintf(row->name, sizeof row->name, "default");
}

static void print_rows(const struct bench *bench)
{
    const struct attention_shape shape = t2t_layer_shape(bench->model, bench->layer);
    static double ratio[MOST_ROUNDS];
    const struct row *first = &bench->row[0];
    char name[T2T_NAME_BYTES];
    t2t_layer_name(bench->layer, name);
    printf("%s: %zu queries, %zu heads of %zu, %zu rounds\n  %-36s %6s %7s %7s %6s %6s %6s\n", name, shape.queries,
        shape.heads, shape.head_dim, bench->rounds, "", "bucket", "samples", "error", "ratio", "MACs", "time");
    for (size_t i = 0; i < bench->rows; i++) {
        const struct row *row = &bench->row[i];
        const struct attention_method *method = attention_method(ATTENTION_KDEFORMER);
        for (size_t r = 0; r < bench->rounds; r++) ratio[r] = row->time[r] / first->time[r];
        bench_sort(ratio, bench->rounds);
        printf("  %-36s %6zu %7zu %7.4f %6.3f %6.3f %6.3f (%.3f ... %.3f)\n", row->name, row->config.bucket,
            row->config.samples, row->error / (double)row->errors, row->error / first->error,
            method->macs(&shape, &row->config) / method->macs(&shape, &first->config), ratio[bench->rounds / 2],
            ratio[bench->rounds / 4], ratio[bench->rounds - 1 - bench->rounds / 4]);
    }
    fflush(stdout);
}

static enum t2t_status bench_layer(struct bench *bench, const struct t2t_dataset *pictures)
{
    const struct t2t_config *config = t2t_model_config(bench->model);
    const struct t2t_input_config *input = t2t_model_input(bench->model);
    struct t2t_loader_options loading = {.batch = 1,
        .workers = 1,
        .preprocess = {.image_size = config->image_size,
            .crop_pct = input->crop_pct,
            .interpolation = strcmp(input->interpolation, "bilinear") ? T2T_BICUBIC : T2T_BILINEAR}};
    memcpy(loading.preprocess.mean, input->mean, sizeof input->mean);
    memcpy(loading.preprocess.std, input->std, sizeof input->std);
    struct t2t_plan plan;
    t2t_plan_exact(bench->model, &plan);
    const struct t2t_session_options options = {.batch = 1,
        .device = {.threads = 1},
        .plans = &plan,
        .plan_count = 1,
        .attention_observer = measure,
        .observer_context = bench};
    struct t2t_session *session = NULL;
    struct t2t_loader *loader = NULL;
    float *logits = allocate(config->num_classes * sizeof *logits);
    make_rows(bench);
    bench->rounds = 0;
    enum t2t_status status = t2t_session_open(&session, bench->model, &options);
    if (!status) status = t2t_loader_open(&loader, pictures, &loading);
    for (const struct t2t_batch *batch; !status && (batch = t2t_loader_next(loader)) && batch->count;) {
        bench->image_index = batch->image_index[0];
        status = t2t_forward(session, batch->pixels, batch->image_index, 1, logits);
    }
    if (!status) print_rows(bench);
    t2t_loader_close(loader);
    t2t_session_close(session);
    free(logits);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: bench_kdeformer WEIGHTS PICTURES [COUNT [SEEDS [LAYER ...]]]\n");
        return 2;
    }
    static struct bench bench;
    struct t2t_model *model = NULL;
    struct t2t_dataset pictures = {0};
    enum t2t_status status = t2t_kernels_choose(&bench.kernels);
    if (!status) status = t2t_model_load(&model, NULL, argv[1]);
    if (!status)
        status = t2t_dataset_open(&pictures, &(struct t2t_dataset_options){.path = argv[2],
                                                 .layout = "auto",
                                                 .label_kind = "auto",
                                                 .class_names = t2t_model_class_names(model),
                                                 .num_classes = t2t_model_config(model)->num_classes,
                                                 .limit = argc > 3 ? strtoul(argv[3], NULL, 10) : 100});
    bench.model = model;
    bench.seeds = argc > 4 ? strtoul(argv[4], NULL, 10) : 5;
    printf("%s kernels, one thread, %zu pictures, %zu seeds\n", bench.kernels ? bench.kernels->name : "no",
        pictures.count, bench.seeds);
    for (int i = 5; !status && (i < argc || (argc <= 5 && i < 7)); i++) {
        bench.layer = i < argc ? strtoul(argv[i], NULL, 10) : (size_t)i - 5;
        if (bench.layer >= T2T_TOKEN_LAYERS + t2t_model_config(model)->depth)
            status = t2t_fail(T2T_BAD_USAGE, "layer %zu: the model has none of this number", bench.layer);
        else
            status = bench_layer(&bench, &pictures);
    }
    if (status) fprintf(stderr, "bench_kdeformer: %s\n", t2t_last_error());
    t2t_dataset_close(&pictures);
    t2t_model_free(model);
    return (int)status;
}
