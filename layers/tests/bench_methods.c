/* How fast every method is against our own exact attention on one thread: the processor time of a layer's attention and
 * of its draws. Methods take turns; each line has medians with the quartiles of all rounds.
 *
 *   bench_methods [ROUNDS]    T2TVIT_CPU=c|avx2|avx512 chooses the kernels
 *
 * Rows are those of a qkv product: q, k and v are columns of one matrix, as in the network. Data are normal.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "layers/base/random.h"
#include "layers/cpu/cpu_attention.h"
#include "layers/tests/bench_support.h"

enum { MOST_ROUNDS = 1001, METHODS = 5 };

struct bench_case {
    const char *name;
    struct attention_shape shape;
    struct attention_config config[METHODS]; /* the first is exact */
};

static const struct bench_case cases[] = {
    {"layer 1, n 3136", {1, 3136, 3136, 64, 64, 0.0825F},
        {{ATTENTION_EXACT}, {ATTENTION_KDEFORMER, .projections = 7, .bucket = 32, .samples = 98},
            {ATTENTION_PERFORMER, .features = 49}, {ATTENTION_REFORMER, .bucket = 49, .rounds = 2},
            {ATTENTION_SCATTERBRAIN, .window = 49, .features = 48}}},
    {"layer 2, n 784", {1, 784, 784, 64, 64, 0.0417F},
        {{ATTENTION_EXACT}, {ATTENTION_KDEFORMER, .projections = 7, .bucket = 32, .samples = 24},
            {ATTENTION_PERFORMER, .features = 49}, {ATTENTION_REFORMER, .bucket = 49, .rounds = 2},
            {ATTENTION_SCATTERBRAIN, .window = 49, .features = 48}}},
    {"block, n 197, 6 heads of 64", {6, 197, 197, 64, 64, 0.125F},
        {{ATTENTION_EXACT}, {ATTENTION_KDEFORMER, .projections = 4, .bucket = 16, .samples = 32},
            {ATTENTION_PERFORMER, .features = 49}, {ATTENTION_REFORMER, .bucket = 16, .rounds = 2},
            {ATTENTION_SCATTERBRAIN, .window = 17, .features = 24}}},
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

struct turn {
    struct attention_call call;
    struct attention_draw_memory draws;
    double seconds[MOST_ROUNDS], draw_seconds[MOST_ROUNDS], ratio[MOST_ROUNDS];
};

static void run_case(const struct attention_kernels *kernels, const struct bench_case *bench, size_t rounds)
{
    static struct turn turns[METHODS];
    const struct attention_shape *shape = &bench->shape;
    const size_t width = shape->heads * shape->head_dim;
    const uint64_t image = 0;
    float *qkv = bench_allocate(shape->queries * 3 * width * sizeof *qkv);
    float *out = bench_allocate(shape->queries * width * sizeof *out);
    t2t_random_normal((struct t2t_random_key){.seed = 1, .purpose = T2T_RANDOM_TEST}, shape->queries * 3 * width, qkv);
    for (size_t i = 0; i < METHODS; i++) {
        const struct attention_method *method = attention_method(bench->config[i].kind);
        struct attention_draw_counts counts = {0};
        if (method->draw_counts) counts = method->draw_counts(shape, &bench->config[i]);
        struct attention_draw_memory *draws = &turns[i].draws;
        draws->projection = bench_allocate(shape->heads * counts.projection * sizeof(float));
        draws->sample_uniform = bench_allocate(shape->heads * counts.sample_uniform * sizeof(uint32_t));
        draws->features = bench_allocate(shape->heads * counts.features * sizeof(float));
        draws->rotation = bench_allocate(shape->heads * counts.rotation * sizeof(float));
        turns[i].call = (struct attention_call){.shape = *shape,
            .config = bench->config[i],
            .draws = {.projection = draws->projection,
                .sample_uniform = draws->sample_uniform,
                .features = draws->features,
                .rotation = draws->rotation},
            .batch = 1,
            .q = qkv,
            .k = qkv + width,
            .v = qkv + 2 * width,
            .q_stride = 3 * width,
            .k_stride = 3 * width,
            .v_stride = 3 * width,
            .out = out,
            .out_stride = width,
            .scratch = bench_allocate(t2t_cpu_attention_scratch(kernels, 1, shape, &bench->config[i], 1))};
    }
    for (size_t round = 0; round < rounds; round++)
        for (size_t i = 0; i < METHODS; i++) {
            struct turn *turn = &turns[i];
            double begin = now();
            attention_draw(shape, &turn->call.config, 1, 0, &image, 1, &turn->draws);
            turn->draw_seconds[round] = now() - begin;
            t2t_cpu_attention(kernels, 1, &turn->call); /* brings q, k, v into the cache, as their product would */
            begin = now();
            t2t_cpu_attention(kernels, 1, &turn->call);
            turn->seconds[round] = now() - begin;
            turn->ratio[round] = turns[0].seconds[round] / turn->seconds[round];
        }
    printf("%s\n", bench->name);
    for (size_t i = 0; i < METHODS; i++) {
        const struct attention_method *method = attention_method(bench->config[i].kind);
        printf("  %-12s %7.1f MMAC", method->name, method->macs(shape, &bench->config[i]) / 1e6);
        bench_print_spread("ms", turns[i].seconds, rounds, 1e3, "");
        bench_print_spread("draws ms", turns[i].draw_seconds, rounds, 1e3, "");
        bench_print_spread("exact / it", turns[i].ratio, rounds, 1, "");
        printf("\n");
        free(turns[i].draws.projection);
        free(turns[i].draws.sample_uniform);
        free(turns[i].draws.features);
        free(turns[i].draws.rotation);
        free(turns[i].call.scratch);
    }
    free(qkv);
    free(out);
}

int main(int argc, char **argv)
{
    const long wanted = argc > 1 ? strtol(argv[1], NULL, 10) : 31;
    const size_t rounds = wanted < 1 || wanted > MOST_ROUNDS ? 31 : (size_t)wanted;
    const struct attention_kernels *kernels;
    if (t2t_kernels_choose(&kernels)) {
        fprintf(stderr, "%s\n", t2t_last_error());
        return 2;
    }
    printf("%s kernels, one thread; medians (quartiles) of %zu rounds in turns\n", kernels->name, rounds);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run_case(kernels, &cases[i], rounds);
    return 0;
}
