/* KDEformer's sampling probabilities on inputs that are hard for an iteration, against the operator norm of [V, 1] from
 * its whole Gram matrix in float64.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "layers/cpu/kde_attention.h"
#include "layers/tests/guarded_memory.h"
#include "layers/tests/synthetic_numbers.h"

static const double tolerance = 1e-4;

enum { MAX_WIDTH = 65, SQUARINGS = 40 };

/* Largest eigenvalue of a positive semidefinite matrix from the trace of its power 2^40, which holds nothing else
 * however close the next one is. */
static double largest_eigenvalue(double matrix[MAX_WIDTH][MAX_WIDTH], size_t n)
{
    static double square[MAX_WIDTH][MAX_WIDTH];
    double logarithm = 0, power = 1;
    for (size_t step = 0; step < SQUARINGS; step++, power *= 2) {
        double trace = 0;
        for (size_t i = 0; i < n; i++) trace += matrix[i][i];
        logarithm += log(trace) / power;
        memset(square, 0, sizeof square);
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < n; k++)
                for (size_t j = 0; j < n; j++) square[i][j] += matrix[i][k] / trace * (matrix[k][j] / trace);
        memcpy(matrix, square, sizeof square);
    }
    return exp(logarithm);
}

/* p_j proportional to |[v_j, 1]| / |[V, 1]| + 1 / keys. */
static void define_probability(const float *v, size_t stride, size_t keys, size_t dim, double *probability)
{
    static double gram[MAX_WIDTH][MAX_WIDTH];
    double row[MAX_WIDTH], sum = 0;
    memset(gram, 0, sizeof gram);
    for (size_t j = 0; j < keys; j++) {
        for (size_t c = 0; c <= dim; c++) row[c] = c < dim ? (double)v[j * stride + c] : 1;
        for (size_t a = 0; a <= dim; a++)
            for (size_t b = 0; b <= dim; b++) gram[a][b] += row[a] * row[b];
        probability[j] = 0;
        for (size_t c = 0; c <= dim; c++) probability[j] += row[c] * row[c];
    }
    const double norm = sqrt(largest_eigenvalue(gram, dim + 1));
    for (size_t j = 0; j < keys; j++) sum += probability[j] = sqrt(probability[j]) / norm + 1 / (double)keys;
    for (size_t j = 0; j < keys; j++) probability[j] /= sum;
}

/* ---- hard values; x is uniform in (-1, 1) when a rule is called ---- */

static float as_it_is(size_t j, size_t c, float x)
{
    (void)j, (void)c;
    return x;
}

static float zero(size_t j, size_t c, float x)
{
    (void)j, (void)c, (void)x;
    return 0;
}

static float constant(size_t j, size_t c, float x)
{
    (void)j, (void)c, (void)x;
    return -3.5F;
}

static float large(size_t j, size_t c, float x)
{
    (void)j, (void)c;
    return 1e8F * x;
}

static float tiny(size_t j, size_t c, float x)
{
    (void)j, (void)c;
    return 1e-6F * x;
}

static float heavy_tailed(size_t j, size_t c, float x) /* a few rows reach 1e4 */
{
    (void)c;
    return x / (0.0001F + (float)(j * 7919 % 1009) / 1009);
}

static float heavy_tailed_elements(size_t j, size_t c, float x)
{
    (void)j, (void)c;
    return x / (fabsf(x * 37 - floorf(x * 37)) + 1e-4F);
}

static float one_huge_row(size_t j, size_t c, float x)
{
    (void)c;
    return j == 5 ? 1e5F * x : x;
}

static float one_moderate_row(size_t j, size_t c, float x) /* its singular value is close to that of the rest */
{
    (void)c;
    return j == 5 ? 30 * x : x;
}

static float one_huge_element(size_t j, size_t c, float x)
{
    return j == 3 && c == 1 ? 1e6F : x;
}

static float equal_singular_values(size_t j, size_t c, float x)
{
    (void)x;
    return j % 12 == c ? (j / 12 % 2 ? -4 : 4) : 0;
}

static float nearly_equal_singular_values(size_t j, size_t c, float x)
{
    (void)x;
    return j % 12 == c ? (j / 12 % 2 ? -4.0F : 4.0F) * (1 + 0.001F * (float)c) : 0;
}

static float falling_columns(size_t j, size_t c, float x)
{
    (void)j;
    return x * powf(0.7F, (float)c);
}

static float low_rank(size_t j, size_t c, float x)
{
    return 10 * sinf((float)j) * cosf(3 * (float)c) + 7 * cosf(2 * (float)j) * sinf((float)c) + 0.001F * x;
}

/* The sum of rows and the longest row are both orthogonal to the strongest direction: an iteration that begins with
 * nothing else never meets it. */
static float hidden_direction(size_t j, size_t c, float x)
{
    (void)x;
    if (j == 0) return c == 1 ? 12 : 0;
    if (j == 1) return c == 1 ? -12 : 0;
    return c == 0 ? (j % 2 ? -10 : 10) : 0;
}

static float opposite_pairs(size_t j, size_t c, float x) /* rows cancel, some more strongly along one column */
{
    (void)x;
    const float one = sinf((float)(j / 2 * 31 + c * 17)) * (c == 2 ? 1.5F : 1);
    return j % 2 ? -one : one;
}

static const struct {
    const char *name;
    float (*value)(size_t j, size_t c, float x);
} rules[] = {{"uniform", as_it_is}, {"zero", zero}, {"constant", constant}, {"large", large}, {"tiny", tiny},
    {"heavy-tailed rows", heavy_tailed}, {"heavy-tailed elements", heavy_tailed_elements},
    {"one huge row", one_huge_row}, {"one moderate row", one_moderate_row}, {"one huge element", one_huge_element},
    {"equal singular values", equal_singular_values}, {"nearly equal singular values", nearly_equal_singular_values},
    {"falling columns", falling_columns}, {"low rank", low_rank}, {"hidden direction", hidden_direction},
    {"opposite pairs", opposite_pairs}};

enum { RULES = sizeof rules / sizeof *rules };

/* Largest relative error of the engine's probabilities; that they sum to one is checked on the way. */
static double error_of(const struct attention_kernels *set, size_t rule, size_t keys, size_t dim)
{
    float *v = strided_input(rules[rule].name, 1, keys, dim, 1), *found = guarded(keys);
    double *wanted = malloc(keys * sizeof *wanted), *vectors = malloc(T2T_KDE_VECTORS * (dim + 1) * sizeof *vectors);
    assert_true(wanted && vectors);
    double worst = 0, sum = 0;
    for (size_t j = 0; j < keys; j++)
        for (size_t c = 0; c < dim; c++) v[j * (dim + GAP) + c] = rules[rule].value(j, c, v[j * (dim + GAP) + c]);
    define_probability(v, dim + GAP, keys, dim, wanted);
    t2t_kde_probability(set, v, dim + GAP, keys, dim, found, vectors);
    for (size_t j = 0; j < keys; j++) {
        const double error = fabs((double)found[j] / wanted[j] - 1);
        if (!(error <= worst)) worst = error;
        sum += (double)found[j];
    }
    if (!(fabs(sum - 1) <= 1e-5)) fail_msg("%s, %s: probabilities sum to %g", set->name, rules[rule].name, sum);
    release(found, keys);
    free(v);
    free(wanted);
    free(vectors);
    return worst;
}

static void hard_values_of(const struct attention_kernels *set)
{
    static const struct {
        size_t keys, dim;
    } sizes[] = {{1, 4}, {2, 64}, {7, 12}, {49, 64}, {197, 12}, {197, 64}, {784, 64}, {3136, 64}};
    for (size_t rule = 0; rule < RULES; rule++) {
        double worst = 0;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const double error = error_of(set, rule, sizes[i].keys, sizes[i].dim);
            if (!(error <= tolerance))
                fail_msg("%s, %s: probabilities of [%zu, %zu] are off by %.1e", set->name, rules[rule].name,
                    sizes[i].keys, sizes[i].dim, error);
            if (error > worst) worst = error;
        }
        print_message("  %s, %s: %.1e\n", set->name, rules[rule].name, worst);
    }
}

static void hard_values(void **state)
{
    (void)state;
    for_every_set(hard_values_of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(hard_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
