/* What an evaluation keeps resident at its peak, less what `t2tvit-eval --version` does, in units of the network's
 * float32 weights.
 *
 *   bench_memory T2TVIT-EVAL [VARIANT [BATCH ...]]    t2t_vit_t_14 with batches of 1 and 8 unless said otherwise
 *
 * The weights are random, in a file of their own (the programs map it); the pictures are drawn, two batches of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "eval/demo_pictures.h"
#include "eval/tests/command.h"
#include "loaders/jpeg_encode.h"
#include "vit/tests/synthetic.h"

enum { PATH_BYTES = 128 };

static int fail(const char *what)
{
    fprintf(stderr, "bench_memory: %s: %s\n", what, t2t_last_error());
    return EXIT_FAILURE;
}

static enum t2t_status draw_pictures(const char *folder, size_t count)
{
    char path[PATH_BYTES + 32];
    enum t2t_status status = T2T_OK;
    mkdir(folder, 0700);
    for (size_t i = 0; i < count && !status; i++) {
        struct demo_picture picture;
        status = t2t_demo_draw(1, i, &picture);
        if (status) break;
        snprintf(path, sizeof path, "%s/%zu.JPEG", folder, i);
        status = t2t_jpeg_write(path, picture.pixels, picture.width, picture.height, picture.quality);
        free(picture.pixels);
    }
    return status;
}

/* One evaluation's line. Every picture has label 0: the answers do not matter. */
static int measure(const char *program, const char *folder, const char *method, size_t batch, size_t version_bytes,
    double weights_bytes)
{
    char weights[PATH_BYTES], pictures[PATH_BYTES], labels[PATH_BYTES], batch_text[24], limit[24];
    snprintf(weights, sizeof weights, "%s/weights.safetensors", folder);
    snprintf(pictures, sizeof pictures, "%s/pictures", folder);
    snprintf(labels, sizeof labels, "%s/labels", folder);
    snprintf(batch_text, sizeof batch_text, "%zu", batch);
    snprintf(limit, sizeof limit, "%zu", 2 * batch);
    const struct result result = command_run(program,
        (const char *const[]){"--val-dir", pictures, "--labels", labels, "--label-kind", "index", "--weights", weights,
            "--attention", method, "--batch-size", batch_text, "--limit", limit, "--threads", "2", "--quiet", NULL});
    if (result.code != 0) {
        fprintf(stderr, "bench_memory: the evaluation failed: %s\n", result.error);
        return EXIT_FAILURE;
    }
    const double bytes = (double)(result.most_bytes - version_bytes);
    printf("%-24s batch %3zu:  %7.1f MB = %.2f of the float32 weights\n", method, batch, 1e-6 * bytes,
        bytes / weights_bytes);
    return EXIT_SUCCESS;
}

static int measure_all(const char *program, const char *folder, const struct t2t_config *config, char **batches)
{
    char path[PATH_BYTES];
    size_t most = 0;
    for (char **batch = batches; *batch; batch++)
        most = strtoul(*batch, NULL, 10) > most ? strtoul(*batch, NULL, 10) : most;
    snprintf(path, sizeof path, "%s/weights.safetensors", folder);
    struct t2t_model *model;
    if (synthetic_weights_write(path, config, 1) || t2t_model_load(&model, NULL, path)) return fail(path);
    const double weights_bytes = (double)(t2t_model_parameters(model) * sizeof(float));
    t2t_model_free(model);
    snprintf(path, sizeof path, "%s/pictures", folder);
    if (draw_pictures(path, 2 * most)) return fail(path);
    snprintf(path, sizeof path, "%s/labels", folder);
    FILE *labels = fopen(path, "w");
    for (size_t i = 0; labels && i < 2 * most; i++) fputs("0\n", labels);
    if (!labels || fclose(labels) != 0) return fail(path);

    const struct result version = command_run(program, (const char *const[]){"--version", NULL});
    const size_t version_bytes = version.most_bytes;
    printf("%s, weights %.1f MB in float32; peak of `--version` %.1f MB, taken off below\n", config->name,
        1e-6 * weights_bytes, 1e-6 * (double)version_bytes);
    int code = version.code;
    for (char **batch = batches; *batch && !code; batch++) {
        code = measure(program, folder, "exact", strtoul(*batch, NULL, 10), version_bytes, weights_bytes);
        if (!code)
            code = measure(program, folder, "exact,kdeformer", strtoul(*batch, NULL, 10), version_bytes, weights_bytes);
    }
    return code;
}

int main(int argc, char **argv)
{
    static char *usual[] = {"1", "8", NULL};
    const struct t2t_config *config = t2t_variant_named(argc > 2 ? argv[2] : "t2t_vit_t_14");
    char folder[] = "/tmp/t2tvit_memory_XXXXXX";
    if (argc < 2 || !config) {
        fprintf(stderr, "usage: bench_memory T2TVIT-EVAL [VARIANT [BATCH ...]]\n");
        return 2;
    }
    if (!mkdtemp(folder)) {
        perror("bench_memory: a temporary folder");
        return EXIT_FAILURE;
    }
    const int code = measure_all(argv[1], folder, config, argc > 3 ? argv + 3 : usual);
    remove_all(folder);
    return code;
}
