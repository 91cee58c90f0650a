/* Times one attention on request, so that another program can take turns with it.
 *
 *   bench_one METHOD TOKENS BATCH THREADS [OUTPUT [FORMAT]]    METHOD: exact, kdeformer, kdeformer:published;
 *                                                              FORMAT: float32, bfloat16
 *
 * One head of 64 channels, scale 147^-0.5 (layer 1 of T2T-ViT); q, k and v are columns of one matrix of normal numbers,
 * [BATCH * TOKENS, 192]. Prints "ready KERNELS", then for every line on standard input the milliseconds of one call
 * that an untimed one has warmed. With OUTPUT ("" for none) the matrix and the first call's output go there as float32.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/attention.h"
#include "layers/base/clock.h"
#include "layers/base/random.h"
#include "layers/cpu/cpu_attention.h"
#include "layers/tests/bench_support.h"

enum { WIDTH = 64, STRIDE = 3 * WIDTH };

/* The options that T2T-ViT's layers have: vit/model.c sets the same. */
static struct attention_config config_of(const char *method, size_t tokens)
{
    struct attention_config config = {.kind = ATTENTION_EXACT};
    if (strcmp(method, "exact") == 0) return config;
    const bool large = tokens >= 3136;
    config = (struct attention_config){
        .kind = ATTENTION_KDEFORMER, .projections = 7, .bucket = 32, .samples = large ? 98 : 24};
    if (strcmp(method, "kdeformer:published") == 0) return config;
    config.sampling = KDE_SYSTEMATIC;
    config.probability = KDE_PILOT;
    config.pilot = large ? 32 : 16;
    config.sample_groups = 4;
    config.bucket = 16;
    config.samples = large ? 96 : 28;
    return config;
}

static int write_numbers(const char *path, const float *qkv, const float *out, size_t rows)
{
    FILE *file = fopen(path, "wb");
    if (file && fwrite(qkv, sizeof *qkv, rows * STRIDE, file) == rows * STRIDE &&
        fwrite(out, sizeof *out, rows * WIDTH, file) == rows * WIDTH && fclose(file) == 0)
        return EXIT_SUCCESS;
    perror(path);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    const struct attention_kernels *kernels;
    if (argc < 5) {
        fprintf(stderr, "usage: bench_one METHOD TOKENS BATCH THREADS [OUTPUT [FORMAT]]\n");
        return 2;
    }
    if (t2t_kernels_choose(&kernels)) {
        fprintf(stderr, "bench_one: %s\n", t2t_last_error());
        return 2;
    }
    const size_t tokens = strtoul(argv[2], NULL, 10), batch = strtoul(argv[3], NULL, 10);
    const size_t threads = strtoul(argv[4], NULL, 10), rows = batch * tokens;
    const struct attention_shape shape = {1, tokens, tokens, WIDTH, WIDTH, 0.08247861F};
    float *qkv = bench_allocate(rows * STRIDE * sizeof *qkv), *out = bench_allocate(rows * WIDTH * sizeof *out);
    t2t_random_normal((struct t2t_random_key){.seed = 1, .purpose = T2T_RANDOM_TEST}, rows * STRIDE, qkv);
    struct attention_call call = {.shape = shape,
        .config = config_of(argv[1], tokens),
        .batch = batch,
        .q = qkv,
        .k = qkv + WIDTH,
        .v = qkv + 2 * WIDTH,
        .q_stride = STRIDE,
        .k_stride = STRIDE,
        .v_stride = STRIDE,
        .out = out,
        .out_stride = WIDTH};
    if (argc > 6 && strcmp(argv[6], number_format_name(FORMAT_BFLOAT16)) == 0) call.config.format = FORMAT_BFLOAT16;
    call.scratch = bench_allocate(t2t_cpu_attention_scratch(kernels, threads, &shape, &call.config, batch));
    float *projection = bench_allocate(batch * WIDTH * call.config.projections * sizeof *projection);
    uint32_t *uniform = bench_allocate(batch * call.config.samples * sizeof *uniform);
    uint32_t *pilot_uniform = bench_allocate(batch * call.config.pilot * sizeof *pilot_uniform);
    uint64_t *image = bench_allocate(batch * sizeof *image);
    for (size_t i = 0; i < batch; i++) image[i] = i;
    const struct attention_draw_memory draws = {
        .projection = projection, .sample_uniform = uniform, .pilot_uniform = pilot_uniform};
    attention_draw(&shape, &call.config, 1, 0, image, batch, &draws);
    call.draws =
        (struct attention_draws){.projection = projection, .sample_uniform = uniform, .pilot_uniform = pilot_uniform};
    t2t_cpu_attention(kernels, threads, &call);
    if (argc > 5 && *argv[5] && write_numbers(argv[5], qkv, out, rows)) return EXIT_FAILURE;
    printf("ready %s\n", kernels->name);
    fflush(stdout);
    for (char line[64]; fgets(line, sizeof line, stdin);) {
        t2t_cpu_attention(kernels, threads, &call);
        const double begin = 1e3 * t2t_now();
        t2t_cpu_attention(kernels, threads, &call);
        printf("%.5f\n", 1e3 * t2t_now() - begin);
        fflush(stdout);
    }
    free(qkv), free(out), free(call.scratch), free(projection), free(uniform), free(pilot_uniform), free(image);
    return EXIT_SUCCESS;
}
