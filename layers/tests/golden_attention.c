/* Every attention method on the inputs and draws of the golden files, against the definition in float64 and against the
 * stored outputs.
 *
 * KDEformer's order follows from signs of products; where a product is within 1e-4 of zero float32 may see the other
 * sign. So the definition here is held against the stored output with float64's bits, and the engine against the
 * definition with its own bits, which may differ only there.
 * Reads the folder attention/ of $T2TVIT_GOLDEN, else tests/golden/attention.
 */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/cpu/cpu_attention.h"
#include "layers/cpu/kde_attention.h"
#include "layers/tests/synthetic_numbers.h"
#include "weights/safetensors.h"

static const double output_tolerance = 1e-5, probability_tolerance = 1e-4;
/* The definition on inputs that are rounded like the reference's, up to the last place of log and cos. */
static const double definition_tolerance = 2e-6, borderline = 1e-4;

enum { CLUSTERS = 24 };

struct golden {
    struct t2t_tensors *file;
    size_t n, d, bucket, samples, projections, rows;
    double scale;
    const int32_t *row, *sample_key;       /* [rows], [samples] */
    const float *projection, *probability; /* [d, projections], [n] */
    float *q, *k, *v;                      /* [n, d] */
};

/* ---- inputs ---- */

static double number(const struct t2t_tensors *file, const char *key)
{
    const char *text = t2t_tensors_metadata(file, key);
    if (!text) fail_msg("%s: no metadata %s", t2t_tensors_path(file), key);
    return strtod(text, NULL);
}

static const void *stored(const struct golden *golden, const char *name, enum t2t_dtype dtype, size_t elements)
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
    const float *expected = stored(golden, name, T2T_F32, 2 * golden->d);
    for (size_t i = 0; i < 2 * golden->d; i++)
        if (!(fabsf(made[i] - expected[i]) <= 1e-6F * (1 + fabsf(expected[i]))))
            fail_msg("%s: input %s differs", t2t_tensors_path(golden->file), name);
}

static struct golden open_golden(const char *path, const char *tag)
{
    struct golden golden = {.file = NULL};
    if (t2t_tensors_open(&golden.file, path)) fail_msg("%s", t2t_last_error());
    golden.n = (size_t)number(golden.file, "n");
    golden.d = (size_t)number(golden.file, "d");
    golden.bucket = (size_t)number(golden.file, "bucket");
    golden.samples = (size_t)number(golden.file, "samples");
    golden.projections = (size_t)number(golden.file, "projections");
    golden.scale = number(golden.file, "scale");
    const uint64_t seed = (uint64_t)number(golden.file, "seed");
    const double spread = number(golden.file, "spread");
    golden.rows = t2t_tensors_find(golden.file, "rows") ? t2t_tensors_find(golden.file, "rows")->elements : 0;
    golden.row = stored(&golden, "rows", T2T_I32, golden.rows);
    golden.sample_key = stored(&golden, "sample_key", T2T_I32, golden.samples);
    golden.projection = stored(&golden, "projection", T2T_F32, golden.d * golden.projections);
    golden.probability = stored(&golden, "probability", T2T_F32, golden.n);
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

/* ---- definitions in float64 ---- */

static double score(const struct golden *golden, size_t query, size_t key)
{
    double dot = 0;
    for (size_t c = 0; c < golden->d; c++)
        dot += (double)golden->q[query * golden->d + c] * (double)golden->k[key * golden->d + c];
    return golden->scale * dot;
}

/* out = sum of weight[i] exp(score[i]) v[key[i]] over the same sum without v. */
static void weighted_mean(const struct golden *golden, const double *scores, const double *weight, const size_t *key,
    size_t count, double *out)
{
    double largest = -INFINITY, total = 0;
    for (size_t i = 0; i < count; i++)
        if (scores[i] > largest) largest = scores[i];
    for (size_t c = 0; c < golden->d; c++) out[c] = 0;
    for (size_t i = 0; i < count; i++) {
        const double share = weight[i] * exp(scores[i] - largest);
        total += share;
        for (size_t c = 0; c < golden->d; c++) out[c] += share * (double)golden->v[key[i] * golden->d + c];
    }
    for (size_t c = 0; c < golden->d; c++) out[c] /= total;
}

static size_t gray_rank(size_t code)
{
    size_t rank = 0;
    for (; code; code >>= 1) rank ^= code;
    return rank;
}

/* order[i] = row at sorted position i; stable. */
static void sort_rows(const uint16_t *code, size_t n, size_t projections, size_t *order)
{
    size_t at = 0;
    for (size_t rank = 0; rank < (size_t)1 << projections; rank++)
        for (size_t i = 0; i < n; i++)
            if (gray_rank(code[i]) == rank) order[at++] = i;
    assert_int_equal(at, n);
}

/* The stored rows' outputs for given codes; samples 0 leaves the remainder out. */
static void define_kdeformer(
    const struct golden *golden, const uint16_t *q_code, const uint16_t *k_code, size_t samples, double *out)
{
    const size_t n = golden->n, bucket = golden->bucket, blocks = (n + bucket - 1) / bucket;
    const size_t rows = (n + blocks - 1) / blocks, most = bucket + samples;
    size_t *q_order = malloc(n * sizeof *q_order), *k_order = malloc(n * sizeof *k_order);
    size_t *q_place = malloc(n * sizeof *q_place), *k_place = malloc(n * sizeof *k_place);
    double *scores = malloc(most * sizeof *scores), *weight = malloc(most * sizeof *weight);
    size_t *key = malloc(most * sizeof *key);
    assert_true(q_order && k_order && q_place && k_place && scores && weight && key);
    sort_rows(q_code, n, golden->projections, q_order);
    sort_rows(k_code, n, golden->projections, k_order);
    for (size_t i = 0; i < n; i++) {
        q_place[q_order[i]] = i;
        k_place[k_order[i]] = i;
    }
    for (size_t r = 0; r < golden->rows; r++) {
        const size_t query = (size_t)golden->row[r], block = q_place[query] / rows;
        const size_t begin = block * bucket, end = begin + bucket < n ? begin + bucket : n;
        size_t count = 0;
        for (size_t i = begin; i < end; i++, count++) {
            key[count] = k_order[i];
            weight[count] = 1;
        }
        for (size_t s = 0; s < samples; s++) {
            const size_t sampled = (size_t)golden->sample_key[s];
            if (k_place[sampled] >= begin && k_place[sampled] < end) continue;
            key[count] = sampled;
            weight[count++] = 1 / ((double)samples * (double)golden->probability[sampled]);
        }
        for (size_t i = 0; i < count; i++) scores[i] = score(golden, query, key[i]);
        weighted_mean(golden, scores, weight, key, count, out + r * golden->d);
    }
    free(q_order);
    free(k_order);
    free(q_place);
    free(k_place);
    free(scores);
    free(weight);
    free(key);
}

/* ---- comparisons ---- */

static void expect_near(const struct golden *golden, const char *what, const double *found, const double *wanted,
    double tolerance, double *worst)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < golden->rows * golden->d; i++) {
        difference += (found[i] - wanted[i]) * (found[i] - wanted[i]);
        size += wanted[i] * wanted[i];
    }
    const double error = sqrt(difference / size);
    if (!(error <= tolerance))
        fail_msg("%s: %s is off by %.2e, allowed is %.0e", t2t_tensors_path(golden->file), what, error, tolerance);
    if (error > *worst) *worst = error;
}

static double *widened(const float *values, size_t count)
{
    double *wide = malloc(count * sizeof *wide);
    assert_non_null(wide);
    for (size_t i = 0; i < count; i++) wide[i] = (double)values[i];
    return wide;
}

/* The stored rows of what the engine makes of a method, with one thread and with two, which must agree bit for bit. */
static double *run_engine(
    const struct attention_kernels *kernels, const struct golden *golden, struct attention_config config)
{
    const size_t n = golden->n, d = golden->d;
    float *out[2];
    for (size_t threads = 1; threads <= 2; threads++) {
        out[threads - 1] = malloc(n * d * sizeof(float));
        struct attention_call call = {.shape = {1, n, n, d, d, (float)golden->scale},
            .config = config,
            .draws = {.projection = golden->projection,
                .sample_key = golden->sample_key,
                .sample_probability = golden->probability},
            .batch = 1,
            .q = golden->q,
            .k = golden->k,
            .v = golden->v,
            .q_stride = d,
            .k_stride = d,
            .v_stride = d,
            .out = out[threads - 1],
            .out_stride = d};
        const size_t bytes = t2t_cpu_attention_scratch(kernels, threads, &call.shape, &config, 1);
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

/* The engine's codes may differ from float64's only where a product is next to zero; both are returned. */
static void hash_rows(const struct attention_kernels *kernels, const struct golden *golden, const float *x,
    uint16_t *own, uint16_t *exact, size_t *differing)
{
    kernels->sign_hash(x, golden->d, golden->n, golden->d, golden->projection, golden->projections, own);
    for (size_t i = 0; i < golden->n; i++) {
        exact[i] = 0;
        for (size_t b = 0; b < golden->projections; b++) {
            double dot = 0;
            for (size_t c = 0; c < golden->d; c++)
                dot += (double)x[i * golden->d + c] * (double)golden->projection[c * golden->projections + b];
            exact[i] = (uint16_t)(exact[i] | (dot > 0) << b);
            const bool differs = (exact[i] ^ own[i]) >> b & 1;
            *differing += differs;
            if (differs && fabs(dot) > borderline)
                fail_msg(
                    "%s: row %zu, bit %zu: product %g has the wrong sign", t2t_tensors_path(golden->file), i, b, dot);
        }
    }
}

static void compare_kdeformer(const struct attention_kernels *kernels, const struct golden *golden, double *worst)
{
    const size_t n = golden->n, outputs = golden->rows * golden->d;
    uint16_t *own[2], *exact[2];
    size_t differing = 0;
    for (size_t side = 0; side < 2; side++) {
        own[side] = malloc(n * sizeof(uint16_t));
        exact[side] = malloc(n * sizeof(uint16_t));
        assert_true(own[side] && exact[side]);
        hash_rows(kernels, golden, side ? golden->k : golden->q, own[side], exact[side], &differing);
    }
    double *defined = malloc(outputs * sizeof *defined), ignored = 0;
    assert_non_null(defined);
    for (size_t with = 0; with < 2; with++) {
        const size_t samples = with ? golden->samples : 0;
        const char *name = with ? "kdeformer" : "kdeformer_no_samples";
        double *expected = widened(stored(golden, name, T2T_F32, outputs), outputs);
        define_kdeformer(golden, exact[0], exact[1], samples, defined);
        expect_near(golden, "the definition of kdeformer", defined, expected, definition_tolerance, &ignored);
        if (differing) define_kdeformer(golden, own[0], own[1], samples, defined);
        double *found = run_engine(kernels, golden,
            (struct attention_config){
                ATTENTION_KDEFORMER, .projections = golden->projections, .bucket = golden->bucket, .samples = samples});
        expect_near(golden, name, found, defined, output_tolerance, worst);
        free(expected);
        free(found);
    }
    print_message("  %zu of %zu signs differ from float64's, all of products within %g of 0\n", differing,
        2 * n * golden->projections, borderline);
    free(defined);
    for (size_t side = 0; side < 2; side++) {
        free(own[side]);
        free(exact[side]);
    }
}

static double compare_probability(const struct attention_kernels *kernels, const struct golden *golden)
{
    float *found = malloc(golden->n * sizeof *found);
    double *vectors = malloc(T2T_KDE_VECTORS * (golden->d + 1) * sizeof *vectors), worst = 0;
    assert_true(found && vectors);
    t2t_kde_probability(kernels, golden->v, golden->d, golden->n, golden->d, found, vectors);
    for (size_t i = 0; i < golden->n; i++) {
        const double error = fabs((double)found[i] / (double)golden->probability[i] - 1);
        if (!(error <= worst)) worst = error;
    }
    free(found);
    free(vectors);
    if (!(worst <= probability_tolerance))
        fail_msg("%s: probabilities are off by %.1e", t2t_tensors_path(golden->file), worst);
    return worst;
}

static void compare_file(const struct attention_kernels *kernels, const char *path, const char *name)
{
    char tag[256];
    snprintf(tag, sizeof tag, "%s", name);
    char *end = strstr(tag, "_s");
    for (char *next = end; next; next = strstr(next + 1, "_s")) end = next;
    assert_non_null(end); /* NAME_sSEED.safetensors */
    *end = '\0';
    struct golden golden = open_golden(path, tag);
    const size_t outputs = golden.rows * golden.d;
    double exact_error = 0, kdeformer_error = 0;
    double *expected = widened(stored(&golden, "exact", T2T_F32, outputs), outputs);
    double *found = run_engine(kernels, &golden, (struct attention_config){.kind = ATTENTION_EXACT});
    expect_near(&golden, "exact", found, expected, output_tolerance, &exact_error);
    print_message("%s: n %zu, d %zu\n", name, golden.n, golden.d);
    compare_kdeformer(kernels, &golden, &kdeformer_error);
    const double probability_error = compare_probability(kernels, &golden);
    print_message("  exact %.1e, kdeformer %.1e, probability %.1e\n", exact_error, kdeformer_error, probability_error);
    free(expected);
    free(found);
    close_golden(&golden);
}

static int is_golden(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && strcmp(dot, ".safetensors") == 0;
}

static void golden_attention(void **state)
{
    (void)state;
    const struct attention_kernels *kernels;
    if (t2t_kernels_choose(&kernels)) fail_msg("%s", t2t_last_error());
    char folder[1024];
    const char *root = getenv("T2TVIT_GOLDEN");
    snprintf(folder, sizeof folder, "%s/attention", root ? root : "tests/golden");
    struct dirent **entries = NULL;
    const int count = scandir(folder, &entries, is_golden, alphasort);
    if (count <= 0) fail_msg("%s: no *.safetensors files there", folder);
    for (int i = 0; i < count; i++) {
        char path[2048];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        compare_file(kernels, path, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    print_message("compared %d files of %s with the %s kernels\n", count, folder, kernels->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
