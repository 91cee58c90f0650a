/* Reading golden files of attention; see golden_inputs.h. */
#include "layers/tests/golden_inputs.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/tests/synthetic_numbers.h"

enum { CLUSTERS = 24 };

double golden_number(const struct golden *golden, const char *key)
{
    const char *text = t2t_tensors_metadata(golden->file, key);
    if (!text) fail_msg("%s: no metadata %s", t2t_tensors_path(golden->file), key);
    return strtod(text, NULL);
}

const void *golden_stored(const struct golden *golden, const char *name, enum t2t_dtype dtype, size_t elements)
{
    const struct t2t_tensor *tensor = t2t_tensors_find(golden->file, name);
    if (!tensor) fail_msg("%s: no tensor %s", t2t_tensors_path(golden->file), name);
    assert_int_equal(tensor->dtype, dtype);
    if (elements) assert_int_equal(tensor->elements, elements);
    assert_int_equal((uintptr_t)tensor->data % 4, 0);
    return tensor->data;
}

/* factor * (0.8 centre of the row's cluster + 0.6 noise) */
static float *clustered(
    const char *tag, const char *centre, const char *noise, uint64_t seed, size_t n, size_t d, double factor)
{
    char name[128];
    double *centres = malloc(CLUSTERS * d * sizeof *centres), *noises = malloc(n * d * sizeof *noises);
    float *pick = malloc(n * sizeof *pick), *out = malloc(n * d * sizeof *out);
    assert_true(centres && noises && pick && out);
    snprintf(name, sizeof name, "%s%s", tag, centre);
    synthetic_normal(name, seed, CLUSTERS * d, centres);
    snprintf(name, sizeof name, "%s%s", tag, noise);
    synthetic_normal(name, seed, n * d, noises);
    snprintf(name, sizeof name, "%s.pick", tag);
    synthetic_uniform(name, seed, n, pick);
    for (size_t i = 0; i < n; i++) {
        const size_t cluster = (size_t)((pick[i] + 1) * CLUSTERS / 2);
        for (size_t c = 0; c < d; c++)
            out[i * d + c] = (float)(factor * (centres[cluster * d + c] * 0.8 + 0.6 * noises[i * d + c]));
    }
    free(centres);
    free(noises);
    free(pick);
    return out;
}

static void check_rows(const struct golden *golden, const char *name, const float *made)
{
    const float *expected = golden_stored(golden, name, T2T_F32, 2 * golden->d);
    for (size_t i = 0; i < 2 * golden->d; i++)
        if (!(fabsf(made[i] - expected[i]) <= 1e-6F * (1 + fabsf(expected[i]))))
            fail_msg("%s: input %s differs", t2t_tensors_path(golden->file), name);
}

/* `tag` is the name of the formula. */
static struct golden open_golden(const char *path, const char *tag)
{
    struct golden golden = {.file = NULL};
    if (t2t_tensors_open(&golden.file, path)) fail_msg("%s", t2t_last_error());
    golden.n = (size_t)golden_number(&golden, "n");
    golden.d = (size_t)golden_number(&golden, "d");
    golden.bucket = (size_t)golden_number(&golden, "bucket");
    golden.samples = (size_t)golden_number(&golden, "samples");
    golden.projections = (size_t)golden_number(&golden, "projections");
    golden.scale = golden_number(&golden, "scale");
    const uint64_t seed = (uint64_t)golden_number(&golden, "seed");
    const double spread = golden_number(&golden, "spread");
    golden.rows = t2t_tensors_find(golden.file, "rows") ? t2t_tensors_find(golden.file, "rows")->elements : 0;
    golden.row = golden_stored(&golden, "rows", T2T_I32, golden.rows);
    golden.sample_key = golden_stored(&golden, "sample_key", T2T_I32, golden.samples);
    golden.projection = golden_stored(&golden, "projection", T2T_F32, golden.d * golden.projections);
    golden.probability = golden_stored(&golden, "probability", T2T_F32, golden.n);
    golden.q = clustered(tag, ".centre", ".q", seed, golden.n, golden.d, spread);
    golden.k = clustered(tag, ".centre", ".k", seed, golden.n, golden.d, spread);
    golden.v = clustered(tag, ".value", ".v", seed, golden.n, golden.d, 1);
    check_rows(&golden, "q", golden.q);
    check_rows(&golden, "k", golden.k);
    check_rows(&golden, "v", golden.v);
    return golden;
}

static void close_golden(struct golden *golden)
{
    free(golden->q);
    free(golden->k);
    free(golden->v);
    t2t_tensors_close(golden->file);
}

double *golden_output(const struct golden *golden, const char *name)
{
    const size_t count = golden->rows * golden->d;
    const float *values = golden_stored(golden, name, T2T_F32, count);
    double *wide = malloc(count * sizeof *wide);
    assert_non_null(wide);
    for (size_t i = 0; i < count; i++) wide[i] = (double)values[i];
    return wide;
}

/* ---- running and comparing ---- */

double *golden_run(const struct attention_kernels *kernels, const struct golden *golden,
    const struct attention_config *config, const struct attention_draws *draws)
{
    const size_t n = golden->n, d = golden->d;
    float *out[2];
    for (size_t turn = 0; turn < 2; turn++) {
        const size_t threads = 1 + 2 * turn;
        out[turn] = malloc(n * d * sizeof(float));
        struct attention_call call = {.shape = {1, n, n, d, d, (float)golden->scale},
            .config = *config,
            .draws = *draws,
            .batch = 1,
            .q = golden->q,
            .k = golden->k,
            .v = golden->v,
            .q_stride = d,
            .k_stride = d,
            .v_stride = d,
            .out = out[turn],
            .out_stride = d};
        const size_t bytes = t2t_cpu_attention_scratch(kernels, threads, &call.shape, config, 1);
        call.scratch = aligned_alloc(64, (bytes + 64) / 64 * 64);
        assert_true(call.scratch && call.out);
        t2t_cpu_attention(kernels, threads, &call);
        free(call.scratch);
    }
    assert_memory_equal(out[0], out[1], n * d * sizeof(float));
    double *rows = malloc(golden->rows * d * sizeof *rows);
    assert_non_null(rows);
    for (size_t r = 0; r < golden->rows; r++)
        for (size_t c = 0; c < d; c++) rows[r * d + c] = (double)out[0][(size_t)golden->row[r] * d + c];
    free(out[0]);
    free(out[1]);
    return rows;
}

double golden_expect(
    const struct golden *golden, const char *what, const double *found, const double *wanted, double tolerance)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < golden->rows * golden->d; i++) {
        difference += (found[i] - wanted[i]) * (found[i] - wanted[i]);
        size += wanted[i] * wanted[i];
    }
    const double error = sqrt(difference / size);
    if (!(error <= tolerance))
        fail_msg("%s: %s is off by %.2e, allowed is %.0e", t2t_tensors_path(golden->file), what, error, tolerance);
    return error;
}

/* ---- files ---- */

static int is_golden(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && strcmp(dot, ".safetensors") == 0;
}

/* NAME_sSEED.safetensors has the inputs of the formula NAME. */
static void compare_file(void (*compare)(const struct attention_kernels *kernels, const struct golden *golden),
    const struct attention_kernels *kernels, const char *folder, const char *name)
{
    char path[2048], tag[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(tag, sizeof tag, "%s", name);
    char *end = strstr(tag, "_s");
    for (char *next = end; next; next = strstr(next + 1, "_s")) end = next;
    assert_non_null(end);
    *end = '\0';
    struct golden golden = open_golden(path, tag);
    golden.name = name;
    print_message("%s: n %zu, d %zu\n", name, golden.n, golden.d);
    compare(kernels, &golden);
    close_golden(&golden);
}

void golden_each(void (*compare)(const struct attention_kernels *kernels, const struct golden *golden))
{
    const struct attention_kernels *kernels;
    if (t2t_kernels_choose(&kernels)) fail_msg("%s", t2t_last_error());
    char folder[1024];
    const char *root = getenv("T2TVIT_GOLDEN");
    snprintf(folder, sizeof folder, "%s/attention", root ? root : "tests/golden");
    struct dirent **entries = NULL;
    const int count = scandir(folder, &entries, is_golden, alphasort);
    if (count <= 0) fail_msg("%s: no *.safetensors files there", folder);
    for (int i = 0; i < count; i++) {
        compare_file(compare, kernels, folder, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    print_message("compared %d files of %s with the %s kernels\n", count, folder, kernels->name);
}
