/* A roofline for attention on a GPU; see predict.h. */
#include "eval/predict.h"

#include <math.h>
#include <string.h>

#include "eval/table.h"

enum { SHOWN_LAYERS = 3 };

/* NVIDIA H100 SXM5. Tensor cores 989.4 TFLOP/s and memory 3.35 TB/s: NVIDIA's data sheet. The first is 132
 * multiprocessors at 4096 a clock, so the clock is 1.83 GHz; a multiprocessor has 128 float32 units and 16 exponentials
 * a clock (NVIDIA H100 whitepaper; CUDA C++ programming guide, arithmetic instructions). The launch is assumed. */
static const struct gpu gpus[] = {{.name = "h100",
    .title = "NVIDIA H100 SXM5 (132 multiprocessors at 1.83 GHz)",
    .float32_flop = 132 * 256 * 1.83e9,
    .half_flop = 132 * 4096 * 1.83e9,
    .bytes = 3.35e12,
    .exponentials = 132 * 16 * 1.83e9,
    .launch = 3e-6}};

const struct gpu *t2t_gpu_named(const char *name)
{
    for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++)
        if (strcmp(gpus[i].name, name) == 0) return &gpus[i];
    return NULL;
}

/* ---- one attention ---- */

/* Queries whose softmax the device computes, twice: its sums, then its squares. */
static double pilots_of(const struct attention_shape *shape, const struct attention_config *config)
{
    if (!config->samples) return 0;
    if (config->probability == KDE_COLUMN_NORM) return (double)shape->queries;
    return config->probability == KDE_PILOT ? (double)config->pilot : 0;
}

/* Multiply-accumulates of one head that the device adds to the method's: a whole Gram matrix in the place of a few steps
 * towards its norm, pilots once more. */
static double device_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double keys = (double)shape->keys, width = (double)shape->value_dim + 1;
    if (config->kind != ATTENTION_KDEFORMER || !config->samples) return 0;
    const double gram = config->probability == KDE_VALUE ? keys * width * (width - 1) : 0;
    return gram + keys * pilots_of(shape, config) * (double)shape->head_dim;
}

/* Of one head, what runs on attend_half. */
static double tensor_macs(const struct attention_shape *shape, const struct attention_config *config)
{
    const double queries = (double)shape->queries, keys = (double)shape->keys, bucket = (double)config->bucket;
    const double width = (double)(shape->head_dim + shape->value_dim);
    switch (config->kind) {
    case ATTENTION_EXACT: return queries * keys * width;
    case ATTENTION_KDEFORMER: return queries * fmin(keys, bucket + (double)config->samples) * width;
    case ATTENTION_REFORMER:
        return (double)config->rounds * (double)attention_buckets(shape->queries, config->bucket) * bucket * 2 *
               bucket * width;
    case ATTENTION_SCATTERBRAIN: return queries * fmin(keys, (double)config->window) * width;
    case ATTENTION_PERFORMER:
    case ATTENTION_KDE_THEORY:
    case ATTENTION_MEAN:
    case ATTENTION_KINDS: break;
    }
    return 0;
}

/* Exponentials of one head, beside those of the scores that the method computes: layers/methods.md. */
static double exponentials_of(const struct attention_shape *shape, const struct attention_config *config)
{
    const double n = (double)shape->queries, m = (double)shape->keys, features = (double)config->features;
    const double window = (double)config->window, bucket = (double)config->bucket;
    switch (config->kind) {
    case ATTENTION_EXACT: return n * m;
    case ATTENTION_KDEFORMER: {
        return n * (bucket + (double)config->samples) + 2 * pilots_of(shape, config) * m;
    }
    case ATTENTION_PERFORMER: return features * (n + m);
    case ATTENTION_REFORMER: return (double)config->rounds * n * 2 * bucket;
    case ATTENTION_SCATTERBRAIN: return n * window + features * (m + 2 * n + n * window);
    case ATTENTION_KDE_THEORY:
    case ATTENTION_MEAN:
    case ATTENTION_KINDS: break;
    }
    return 0;
}

/* Kernels that layers/cuda queues. KDEformer: hash, sort and positions 5, two more for codes of more than 8 bits; blocks;
 * with samples, value norms 3, or a pilot's softmax, its sums, the mean of v and distances 4; probabilities, draws. Exact
 * attention is one kernel, as where cuDNN runs it on numbers that it finds in half precision. */
static size_t kernels_of(const struct attention_config *config)
{
    static const size_t kernels[ATTENTION_KINDS] = {[ATTENTION_EXACT] = 1,
        [ATTENTION_PERFORMER] = 3,
        [ATTENTION_REFORMER] = 5,
        [ATTENTION_SCATTERBRAIN] = 12,
        [ATTENTION_MEAN] = 1};
    if (config->kind != ATTENTION_KDEFORMER) return kernels[config->kind];
    const size_t probabilities = config->probability == KDE_VALUE ? 3 : config->probability == KDE_UNIFORM ? 0 : 4;
    return (config->projections > 8 ? 8 : 6) + (config->samples ? 2 + probabilities : 0);
}

struct attention_work t2t_attention_work(
    const struct attention_shape *shape, const struct attention_config *config, size_t batch)
{
    const double images = (double)batch, heads = (double)shape->heads;
    const double q = (double)(shape->queries * shape->head_dim), k = (double)(shape->keys * shape->head_dim);
    const double v = (double)(shape->keys * shape->value_dim), out = (double)(shape->queries * shape->value_dim);
    double numbers = q + k + v + out;
    if (config->kind == ATTENTION_KDEFORMER) numbers += q + k + v; /* hashed and weighed before they are gathered */
    const double macs = attention_method(config->kind)->macs(shape, config) + heads * device_macs(shape, config);
    return (struct attention_work){.flop = 2 * images * macs,
        .tensor_flop = 2 * images * heads * tensor_macs(shape, config),
        .exponentials = images * heads * exponentials_of(shape, config),
        .numbers = images * heads * numbers,
        .kernels = kernels_of(config)};
}

double t2t_predict(const struct gpu *gpu, const struct attention_work *work, bool half, int *bound)
{
    const double tensor_flop = half ? work->tensor_flop : 0;
    const double times[] = {tensor_flop / gpu->half_flop + (work->flop - tensor_flop) / gpu->float32_flop,
        work->numbers * (half ? 2 : 4) / gpu->bytes, work->exponentials / gpu->exponentials};
    int longest = 0;
    for (int i = 1; i < 3; i++)
        if (times[i] > times[longest]) longest = i;
    const double launches = (double)work->kernels * gpu->launch;
    if (bound) *bound = launches > times[longest] ? BOUND_BY_LAUNCHES : longest;
    return times[longest] + launches;
}

size_t t2t_predict_crossover(const struct gpu *gpu, const struct attention_shape *shape,
    const struct attention_config *config, size_t batch, bool half)
{
    const struct attention_config exact = {.kind = ATTENTION_EXACT};
    struct attention_shape at = *shape;
    size_t from = 0;
    for (double n = 64; n <= 1048576; n *= 1.02) {
        at.queries = at.keys = (size_t)n;
        const struct attention_work of_exact = t2t_attention_work(&at, &exact, batch);
        const struct attention_work of_method = t2t_attention_work(&at, config, batch);
        if (t2t_predict(gpu, &of_method, half, NULL) >= t2t_predict(gpu, &of_exact, half, NULL))
            from = 0;
        else if (!from)
            from = at.queries;
    }
    return from;
}

/* ---- the table ---- */

static void time_cells(struct table *table, const struct gpu *gpu, const struct attention_work *work,
    const struct attention_work *exact, bool half)
{
    static const char *const bounds[] = {"products", "memory", "exponentials", "launches"};
    int bound;
    const double seconds = t2t_predict(gpu, work, half, &bound);
    t2t_table_cell(table, "%.1f (%s)", 1e6 * seconds, bounds[bound]);
    t2t_table_cell(table, "%.2fx", t2t_predict(gpu, exact, half, NULL) / seconds);
}

static enum t2t_status print_batch(
    const struct gpu *gpu, const struct t2t_model *model, const struct attention_runs *runs, size_t batch, FILE *out)
{
    struct table table = {.columns = 11};
    static const char *const headings[] = {"layer", "attention", "tokens", "GFLOP", "M exponentials", "MB in float32",
        "kernels", "float32 us (bound by)", "exact / it", "half us (bound by)", "exact / it"};
    for (size_t i = 0; i < table.columns; i++) t2t_table_cell(&table, "%s", headings[i]);
    const bool softmax_tokens = t2t_model_config(model)->tokens_type == T2T_TOKENS_TRANSFORMER;
    for (size_t layer = softmax_tokens ? 0 : T2T_TOKEN_LAYERS; layer < SHOWN_LAYERS; layer++)
        for (size_t run = 0; run < runs->count; run++) {
            const struct attention_config exact_config = {.kind = ATTENTION_EXACT};
            const struct attention_config *config = &runs->plan[run].layer[layer];
            const struct attention_shape shape = t2t_layer_shape(model, layer);
            const struct attention_work work = t2t_attention_work(&shape, config, batch);
            const struct attention_work exact = t2t_attention_work(&shape, &exact_config, batch);
            char name[T2T_NAME_BYTES];
            t2t_layer_name(layer, name);
            if (config->kind == ATTENTION_EXACT && runs->run[run].method->kind != ATTENTION_EXACT) continue;
            t2t_table_cell(&table, "%s", name);
            t2t_table_cell(&table, "%s", runs->run[run].name);
            t2t_table_cell(&table, "%zu", shape.queries);
            t2t_table_cell(&table, "%.3f", 1e-9 * work.flop);
            t2t_table_cell(&table, "%.2f", 1e-6 * work.exponentials);
            t2t_table_cell(&table, "%.1f", 4e-6 * work.numbers);
            if (!work.kernels) {
                for (size_t i = 0; i < 5; i++) t2t_table_cell(&table, "-");
                continue;
            }
            t2t_table_cell(&table, "%zu", work.kernels);
            time_cells(&table, gpu, &work, &exact, false);
            time_cells(&table, gpu, &work, &exact, true);
        }
    fprintf(out, "\nbatch %zu, prediction\n\n", batch);
    if (!t2t_table_print(&table, out, false)) return t2t_fail_memory("a table", 1);
    return T2T_OK;
}

/* ---- what it implies ---- */

static void print_verdict(const struct gpu *gpu, const struct attention_shape *shape, const struct attention_run *run,
    const struct attention_config *config, size_t batch, bool half, FILE *out)
{
    const struct attention_config exact_config = {.kind = ATTENTION_EXACT};
    const struct attention_work work = t2t_attention_work(shape, config, batch);
    const struct attention_work exact = t2t_attention_work(shape, &exact_config, batch);
    const double own = t2t_predict(gpu, &work, half, NULL), other = t2t_predict(gpu, &exact, half, NULL);
    const size_t from = t2t_predict_crossover(gpu, shape, config, batch, half);
    fprintf(out, "prediction %s in %s, batch %zu: at n = %zu %s than a fused exact kernel (%.1f against %.1f us); ",
        run->name, half ? "half precision" : "float32", batch, shape->queries,
        own < other ? "at best faster" : "slower even at best", 1e6 * own, 1e6 * other);
    if (from)
        fprintf(out, "it can win from about n = %zu on\n", from);
    else
        fprintf(out, "it never wins up to n = 1048576\n");
}

enum t2t_status t2t_predict_print(const struct gpu *gpu, const struct t2t_model *model,
    const struct attention_runs *runs, const size_t *batches, size_t batch_count, FILE *out)
{
    const struct t2t_config *config = t2t_model_config(model);
    fprintf(out, "prediction for an %s: nothing here was measured\nmodel      %s, %zu px, attention replaced in %s\n",
        gpu->title, config->name, config->image_size, runs->layers);
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < batch_count && !status; i++) status = print_batch(gpu, model, runs, batches[i], out);
    if (status) return status;
    fprintf(out,
        "\nformula    max(FLOP / peak, bytes / memory, exponentials / their rate) + kernels x launch\n"
        "assumed    peak %.1f TFLOP/s in float32 and %.1f with tensor cores in half precision, memory %.2f TB/s,\n"
        "           %.2f T exponentials/s, %.0f us a kernel; every number moved once; kernels as this program's CUDA\n"
        "           device queues them, but for exact attention in half precision: a fused kernel alone, without the\n"
        "           two that round q, k and v for it and widen its results; hashes, probabilities and features are\n"
        "           float32 in every format. A bound from below: sorting and drawing, which few threads can share,\n"
        "           take longer, and no kernel reaches its peak.\n",
        1e-12 * gpu->float32_flop, 1e-12 * gpu->half_flop, 1e-12 * gpu->bytes, 1e-12 * gpu->exponentials,
        1e6 * gpu->launch);
    const struct attention_shape shape = t2t_layer_shape(model, 0);
    for (size_t i = 0; i < batch_count && config->tokens_type == T2T_TOKENS_TRANSFORMER; i++)
        for (size_t run = 0; run < runs->count; run++)
            for (int half = 0; half < 2; half++) {
                const struct attention_config *of_run = &runs->plan[run].layer[0];
                if (of_run->kind == ATTENTION_KDEFORMER)
                    print_verdict(gpu, &shape, &runs->run[run], of_run, batches[i], half, out);
            }
    return T2T_OK;
}
