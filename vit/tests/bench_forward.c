/* Times whole forwards on request, so that another program can take turns with it.
 *
 *   bench_forward WEIGHTS BATCH THREADS METHOD    METHOD: exact, kdeformer ... in the tokens-to-token layers
 *
 * Prints "ready DEVICE", then for every line on standard input runs one forward of BATCH noise pictures and prints its
 * milliseconds. Ends with its input. With LOGITS as a fifth argument it writes the first forward's logits there, as
 * little-endian float32, so that both sides can be seen to compute the same; a sixth, bfloat16, is the number format.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/base/clock.h"
#include "layers/base/random.h"
#include "vit/t2t_vit.h"

static int fail(void)
{
    fprintf(stderr, "bench_forward: %s\n", t2t_last_error());
    return EXIT_FAILURE;
}

static enum t2t_status make_plan(const struct t2t_model *model, const char *name, struct t2t_plan *plan)
{
    const struct attention_method *method = attention_method_named(name);
    if (!method) return t2t_fail(T2T_BAD_USAGE, "%s: no such attention", name);
    t2t_plan_exact(model, plan);
    enum t2t_status status = T2T_OK;
    for (size_t layer = 0; layer < 2 && method->kind != ATTENTION_EXACT && !status; layer++)
        status = t2t_plan_set(model, plan, layer, t2t_attention_defaults(model, method->kind, layer));
    return status;
}

static int serve(struct t2t_session *session, const float *images, const uint64_t *index, size_t batch, float *logits,
    size_t count, const char *file)
{
    char line[64];
    printf("ready %s\n", t2t_session_describe(session));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        const double begin = 1e3 * t2t_now();
        if (t2t_forward(session, images, index, batch, logits)) return fail();
        printf("%.4f\n", 1e3 * t2t_now() - begin);
        fflush(stdout);
        FILE *out = file ? fopen(file, "wb") : NULL;
        if (out && (fwrite(logits, sizeof *logits, count, out) != count || fclose(out) != 0)) return EXIT_FAILURE;
        file = NULL;
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: bench_forward WEIGHTS BATCH THREADS METHOD [LOGITS [FORMAT]]\n");
        return 2;
    }
    struct t2t_model *model;
    struct t2t_session *session;
    struct t2t_plan plan;
    const size_t batch = strtoul(argv[2], NULL, 10), threads = strtoul(argv[3], NULL, 10);
    if (t2t_model_load(&model, NULL, argv[1]) || make_plan(model, argv[4], &plan)) return fail();
    const bool bfloat16 = argc > 6 && strcmp(argv[6], number_format_name(FORMAT_BFLOAT16)) == 0;
    const struct t2t_session_options options = {.batch = batch,
        .device = {.threads = threads, .format = bfloat16 ? FORMAT_BFLOAT16 : FORMAT_FLOAT32},
        .plans = &plan,
        .plan_count = 1};
    if (t2t_session_open(&session, model, &options)) return fail();
    const struct t2t_config *config = t2t_model_config(model);
    const size_t pixels = batch * 3 * config->image_size * config->image_size, count = batch * config->num_classes;
    float *images = malloc(pixels * sizeof *images), *logits = malloc(count * sizeof *logits);
    uint64_t *index = calloc(batch, sizeof *index);
    if (!images || !logits || !index) return EXIT_FAILURE;
    const struct t2t_random_key key = {.seed = 1, .purpose = T2T_RANDOM_TEST};
    t2t_random_normal(key, pixels, images);
    const int code = serve(session, images, index, batch, logits, count, argc > 5 ? argv[5] : NULL);
    free(images);
    free(logits);
    free(index);
    t2t_session_close(session);
    t2t_model_free(model);
    return code;
}
