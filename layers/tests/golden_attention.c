/* Exact attention and KDEformer on the inputs and draws of the golden files, against the definition in float64 and
 * against the stored outputs.
 *
 * KDEformer's order follows from signs of products; where a product is within 1e-4 of zero float32 may see the other
 * sign. So the definition here is held against the stored output with float64's bits, and the engine against the
 * definition with its own bits, which may differ only there.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/cpu/kde_attention.h"
#include "layers/tests/golden_inputs.h"

static const double output_tolerance = 1e-5, probability_tolerance = 1e-4;
/* The definition on inputs that are rounded like the reference's, up to the last place of log and cos. */
static const double definition_tolerance = 2e-6, borderline = 1e-4;

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
    double *defined = malloc(outputs * sizeof *defined);
    assert_non_null(defined);
    for (size_t with = 0; with < 2; with++) {
        const size_t samples = with ? golden->samples : 0;
        const char *name = with ? "kdeformer" : "kdeformer_no_samples";
        double *expected = golden_output(golden, name);
        define_kdeformer(golden, exact[0], exact[1], samples, defined);
        golden_expect(golden, "the definition of kdeformer", defined, expected, definition_tolerance);
        if (differing) define_kdeformer(golden, own[0], own[1], samples, defined);
        double *found = golden_run(kernels, golden,
            &(struct attention_config){
                ATTENTION_KDEFORMER, .projections = golden->projections, .bucket = golden->bucket, .samples = samples},
            &(struct attention_draws){.projection = golden->projection,
                .sample_key = golden->sample_key,
                .sample_probability = golden->probability});
        const double error = golden_expect(golden, name, found, defined, output_tolerance);
        if (error > *worst) *worst = error;
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

static void compare_file(const struct attention_kernels *kernels, const struct golden *golden)
{
    double kdeformer_error = 0;
    double *expected = golden_output(golden, "exact");
    double *found =
        golden_run(kernels, golden, &(struct attention_config){.kind = ATTENTION_EXACT}, &(struct attention_draws){0});
    const double exact_error = golden_expect(golden, "exact", found, expected, output_tolerance);
    compare_kdeformer(kernels, golden, &kdeformer_error);
    const double probability_error = compare_probability(kernels, golden);
    print_message("  exact %.1e, kdeformer %.1e, probability %.1e\n", exact_error, kdeformer_error, probability_error);
    free(expected);
    free(found);
}

static void golden_attention(void **state)
{
    (void)state;
    golden_each(compare_file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
