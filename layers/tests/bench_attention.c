/* How fast attention is: exact against the measured peak of multiply-adds, KDEformer against our own exact attention of
 * the same threads, batch and rounds. Methods take turns; each line is a median with the quartiles of all rounds.
 *
 *   bench_attention [ROUNDS]    T2TVIT_CPU=c|avx2|avx512 chooses the kernels
 *
 * Rows are those of a qkv product: q, k and v are columns of one matrix, as in the network. Data are normal.
 */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/attention.h"
#include "layers/base/clock.h"
#include "layers/base/random.h"
#include "layers/cpu/cpu_attention.h"
#include "layers/tests/bench_support.h"

enum { MOST_ROUNDS = 1001 };

struct bench_case {
    const char *name;
    struct attention_shape shape;
    struct attention_config kdeformer;
    size_t batch, threads;
};

/* ---- the peak: independent chains of multiply-adds, enough of them to hide their latency ---- */

enum { CHAINS = 12, LINKS = 100000 };

#define EACH_CHAIN(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define BEGIN_CHAIN(i) chain[i] = SET(1.0F + i);
#define LINK_CHAIN(i)                                                                                                  \
    chain[i] = FMA(chain[i], factor, term);                                                                            \
    __asm__("" : "+v"(chain[i]));
#define END_CHAIN(i) __asm__ volatile("" : : "v"(chain[i]));
/* Flop per second of one core. */
#define PEAK_BODY(VECTOR)                                                                                              \
    VECTOR chain[CHAINS];                                                                                              \
    const VECTOR factor = SET(0.999F), term = SET(0.001F);                                                             \
    EACH_CHAIN(BEGIN_CHAIN)                                                                                            \
    const double begin = t2t_now();                                                                                    \
    for (size_t link = 0; link < LINKS; link++) {                                                                      \
        EACH_CHAIN(LINK_CHAIN)                                                                                         \
    }                                                                                                                  \
    EACH_CHAIN(END_CHAIN)                                                                                              \
    return 2.0 * sizeof(VECTOR) / sizeof(float) * CHAINS * LINKS / (t2t_now() - begin);

#define SET _mm256_set1_ps
#define FMA _mm256_fmadd_ps
__attribute__((target("avx2,fma"))) static double peak_avx2(void)
{
    PEAK_BODY(__m256)
}
#undef SET
#undef FMA
#define SET _mm512_set1_ps
#define FMA _mm512_fmadd_ps
__attribute__((target("avx512f"))) static double peak_avx512(void)
{
    PEAK_BODY(__m512)
}

static double peak_of(const struct attention_kernels *kernels)
{
    if (strncmp(kernels->name, "avx512", 6) == 0) return peak_avx512();
    return strcmp(kernels->name, "avx2") == 0 ? peak_avx2() : 0;
}

/* ---- one case ---- */

static double seconds_of(const struct attention_kernels *kernels, size_t threads, const struct attention_call *call)
{
    const double begin = t2t_now();
    t2t_cpu_attention(kernels, threads, call);
    return t2t_now() - begin;
}

static void run_case(const struct attention_kernels *kernels, const struct bench_case *bench, size_t rounds)
{
    const struct attention_shape *shape = &bench->shape;
    const size_t width = shape->heads * shape->head_dim, rows = bench->batch * shape->queries;
    float *qkv = bench_allocate(rows * 3 * width * sizeof *qkv), *out = bench_allocate(rows * width * sizeof *out);
    t2t_random_normal((struct t2t_random_key){.seed = 1, .purpose = T2T_RANDOM_TEST}, rows * 3 * width, qkv);
    struct attention_call exact = {.shape = *shape,
        .config = {.kind = ATTENTION_EXACT},
        .batch = bench->batch,
        .q = qkv,
        .k = qkv + width,
        .v = qkv + 2 * width,
        .q_stride = 3 * width,
        .k_stride = 3 * width,
        .v_stride = 3 * width,
        .out = out,
        .out_stride = width};
    struct attention_call kde = exact;
    kde.config = bench->kdeformer;
    const size_t units = bench->batch * shape->heads;
    float *projection = bench_allocate(units * shape->head_dim * kde.config.projections * sizeof *projection);
    uint32_t *uniform = bench_allocate(units * kde.config.samples * sizeof *uniform);
    uint32_t *pilot_uniform = bench_allocate(units * kde.config.pilot * sizeof *pilot_uniform);
    uint64_t image[64] = {0};
    for (size_t i = 0; i < bench->batch; i++) image[i] = i;
    const struct attention_draw_memory draws = {
        .projection = projection, .sample_uniform = uniform, .pilot_uniform = pilot_uniform};
    attention_draw(shape, &kde.config, 1, 0, image, bench->batch, &draws);
    kde.draws =
        (struct attention_draws){.projection = projection, .sample_uniform = uniform, .pilot_uniform = pilot_uniform};
    exact.scratch =
        bench_allocate(t2t_cpu_attention_scratch(kernels, bench->threads, shape, &exact.config, bench->batch));
    kde.scratch = bench_allocate(t2t_cpu_attention_scratch(kernels, bench->threads, shape, &kde.config, bench->batch));

    static double exact_time[MOST_ROUNDS], kde_time[MOST_ROUNDS], ratio[MOST_ROUNDS], share[MOST_ROUNDS];
    const double flop = 2 * (double)bench->batch * attention_method(ATTENTION_EXACT)->macs(shape, &exact.config);
    for (size_t round = 0; round < rounds + 1; round++) { /* the first warms up and is overwritten */
        const size_t i = round ? round - 1 : 0;
        const double peak = peak_of(kernels);
        exact_time[i] = seconds_of(kernels, bench->threads, &exact);
        seconds_of(kernels, bench->threads, &kde); /* brings q, k, v into the cache, as their product would */
        kde_time[i] = seconds_of(kernels, bench->threads, &kde);
        ratio[i] = exact_time[i] / kde_time[i];
        share[i] = peak > 0 ? flop / exact_time[i] / peak / (double)bench->threads : 0;
    }
    printf("%-34s batch %zu, %zu thread%s:", bench->name, bench->batch, bench->threads, bench->threads > 1 ? "s" : "");
    bench_print_spread("exact", exact_time, rounds, 1e3, " ms");
    if (share[0] > 0) bench_print_spread("=", share, rounds, 100, " % of peak");
    bench_print_spread("; kdeformer", kde_time, rounds, 1e3, " ms");
    bench_print_spread("; ratio", ratio, rounds, 1, "");
    printf("\n");
    fflush(stdout);
    free(qkv);
    free(out);
    free(projection);
    free(uniform);
    free(pilot_uniform);
    free(exact.scratch);
    free(kde.scratch);
}

/* The samples of T2T-ViT's default. */
static struct attention_config with_pilot(struct attention_config config, size_t pilot, size_t samples)
{
    config.sampling = KDE_SYSTEMATIC;
    config.probability = KDE_PILOT;
    config.pilot = pilot;
    config.sample_groups = 4;
    config.bucket = 16;
    config.samples = samples;
    return config;
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
    const struct attention_shape layer1 = {1, 3136, 3136, 64, 64, 0.0825F}, layer2 = {1, 784, 784, 64, 64, 0.0417F};
    const struct attention_shape block = {6, 197, 197, 64, 64, 0.125F}, narrow = {16, 197, 197, 32, 32, 0.177F},
                                 thin = {32, 197, 197, 12, 12, 0.289F};
    const struct attention_config kde1 = {.kind = ATTENTION_KDEFORMER, .projections = 7, .bucket = 32, .samples = 98},
                                  kde2 = {.kind = ATTENTION_KDEFORMER, .projections = 7, .bucket = 32, .samples = 24},
                                  kde3 = {.kind = ATTENTION_KDEFORMER, .projections = 4, .bucket = 16, .samples = 32};
    const struct attention_config pilot1 = with_pilot(kde1, 32, 96), pilot2 = with_pilot(kde2, 16, 28),
                                  pilot3 = with_pilot(kde3, 16, 26);
    const struct bench_case cases[] = {
        {"layer 1, n 3136, published", layer1, kde1, 1, 1},
        {"layer 1, n 3136, default", layer1, pilot1, 1, 1},
        {"layer 2, n 784, published", layer2, kde2, 1, 1},
        {"layer 2, n 784, default", layer2, pilot2, 1, 1},
        {"block, n 197, 6 heads of 64", block, pilot3, 1, 1},
        {"block, n 197, 16 heads of 32", narrow, pilot3, 1, 1},
        {"block, n 197, 32 heads of 12", thin, pilot3, 1, 1},
        {"layer 1, n 3136, published", layer1, kde1, 1, 2},
        {"layer 1, n 3136, default", layer1, pilot1, 1, 2},
        {"layer 1, n 3136, published", layer1, kde1, 8, 1},
        {"layer 1, n 3136, published", layer1, kde1, 8, 2},
        {"layer 1, n 3136, default", layer1, pilot1, 8, 2},
        {"layer 2, n 784, published", layer2, kde2, 8, 2},
        {"layer 2, n 784, default", layer2, pilot2, 8, 2},
        {"block, n 197, 6 heads of 64", block, pilot3, 8, 2},
    };
    printf("%s kernels; medians (quartiles) of %zu rounds in turns\n", kernels->name, rounds);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) run_case(kernels, &cases[i], rounds);
    return 0;
}
