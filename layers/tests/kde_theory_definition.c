/* kde-theory in float64, step by step as layers/kde-theory.md says. The signs of the hash and the norms of v are the
 * engine's own; tests hold these against their definitions elsewhere. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layers/tests/kde_definition.h"

/* One side of an estimate: rows in their sorted order, cut into blocks of `rows`. */
struct side {
    uint32_t *order;
    size_t count, rows;
};

struct theory {
    const struct problem *problem;
    struct side queries, keys;
    size_t samples;
    const uint32_t *uniform;
};

static double log_add(double a, double b)
{
    const double high = a > b ? a : b;
    return high == -INFINITY ? high : high + log(exp(a - high) + exp(b - high));
}

/* log a_ij, or 2 log(a_ij / sum_i) where sums are given. */
static double log_term(const struct theory *theory, size_t query, size_t key, const double *log_sum)
{
    const double score = problem_score(theory->problem, query, key);
    return log_sum ? 2 * (score - log_sum[query]) : score;
}

/* log of the estimated sum over points, for the row at sorted position `position`. */
static double log_estimate(const struct theory *theory, const struct side *points, const struct side *rows,
    size_t position, uint32_t uniform, const double *log_sum)
{
    const size_t block = position / rows->rows, first = block * points->rows, last = first + points->rows;
    const size_t samples = theory->samples < points->count ? theory->samples : points->count;
    const uint32_t row = rows->order[position];
    const bool points_are_keys = points == &theory->keys;
    double sum = -INFINITY;
    for (size_t i = first; i < last && i < points->count; i++)
        sum = log_add(sum, points_are_keys ? log_term(theory, row, points->order[i], log_sum)
                                           : log_term(theory, points->order[i], row, log_sum));
    for (size_t s = 0; s < samples; s++) {
        const size_t i = (size_t)(((double)s + uniform * 0x1p-32) / (double)samples * (double)points->count);
        if (i >= first && i < last) continue;
        const double term = points_are_keys ? log_term(theory, row, points->order[i], log_sum)
                                            : log_term(theory, points->order[i], row, log_sum);
        sum = log_add(sum, term + log((double)points->count / (double)samples));
    }
    return sum;
}

static void define_probability(
    const struct attention_kernels *kernels, const struct theory *theory, struct theory_definition *definition)
{
    const struct problem *problem = theory->problem;
    const size_t keys = theory->keys.count, dim = problem->shape.value_dim;
    const double queries = (double)theory->queries.count;
    float *norm = allocate(keys * sizeof *norm);
    double *vectors = allocate(T2T_KDE_VECTORS * (dim + 1) * sizeof *vectors), sum = 0;
    double whole = t2t_kde_value_norms(kernels, problem->v, dim, keys, dim, norm, vectors);
    for (size_t j = 0; j < keys; j++) {
        double squares = 1;
        for (size_t c = 0; c < dim; c++) squares += pow((double)problem->v[j * dim + c], 2);
        if (j == 0) whole *= sqrt(squares) / (double)norm[0]; /* norms may have come in a unit of their own */
        definition->probability[j] =
            fmin(definition->column[j], queries) + queries / (double)keys * squares / (whole * whole);
        sum += definition->probability[j];
    }
    for (size_t j = 0; j < keys; j++) definition->probability[j] /= sum;
    free(norm);
    free(vectors);
}

static void define_output(const struct theory *theory, struct theory_definition *definition)
{
    const struct problem *problem = theory->problem;
    const size_t keys = theory->keys.count, dim = problem->shape.value_dim;
    uint64_t *cumulative = allocate(keys * sizeof *cumulative);
    float *rounded = allocate(keys * sizeof *rounded);
    for (size_t j = 0; j < keys; j++) rounded[j] = (float)definition->probability[j];
    t2t_kde_cumulate(rounded, keys, cumulative);
    double rarest = 1;
    for (size_t s = 0; s < theory->samples; s++)
        rarest = fmin(rarest, definition->probability[t2t_kde_pick(cumulative, keys, theory->uniform[2 + s])]);
    for (size_t i = 0; i < theory->queries.count; i++) {
        double *out = definition->out + i * dim, mass = 0;
        memset(out, 0, dim * sizeof *out);
        for (size_t s = 0; s < theory->samples; s++) {
            const size_t key = t2t_kde_pick(cumulative, keys, theory->uniform[2 + s]);
            const double weight = exp(log_term(theory, i, key, NULL) - definition->log_sum[i]) /
                                  ((double)theory->samples * definition->probability[key]);
            mass += weight;
            for (size_t c = 0; c < dim; c++) out[c] += weight * (double)problem->v[key * dim + c];
        }
        for (size_t c = 0; c < dim && mass > 1 / rarest; c++) out[c] /= mass * rarest;
    }
    free(cumulative);
    free(rounded);
}

struct theory_definition define_kde_theory(const struct attention_kernels *kernels, const struct problem *problem,
    const struct attention_config *config, const struct drawn *drawn)
{
    const struct attention_shape *shape = &problem->shape;
    const size_t bucket = config->bucket < shape->keys ? config->bucket : shape->keys;
    const size_t blocks = (shape->keys + bucket - 1) / bucket, bits = config->projections;
    struct theory theory = {.problem = problem, .samples = config->samples, .uniform = drawn->sample_uniform};
    theory.queries =
        (struct side){sorted_rows(kernels, problem->q, shape->queries, shape->head_dim, drawn->projection, bits),
            shape->queries, (shape->queries + blocks - 1) / blocks};
    theory.keys = (struct side){
        sorted_rows(kernels, problem->k, shape->keys, shape->head_dim, drawn->projection, bits), shape->keys, bucket};
    struct theory_definition definition = {.log_sum = allocate(shape->queries * sizeof(double)),
        .column = allocate(shape->keys * sizeof(double)),
        .probability = allocate(shape->keys * sizeof(double)),
        .out = allocate(shape->queries * shape->value_dim * sizeof(double))};
    for (size_t i = 0; i < shape->queries; i++)
        definition.log_sum[theory.queries.order[i]] =
            log_estimate(&theory, &theory.keys, &theory.queries, i, theory.uniform[0], NULL);
    for (size_t j = 0; j < shape->keys; j++)
        definition.column[theory.keys.order[j]] =
            exp(log_estimate(&theory, &theory.queries, &theory.keys, j, theory.uniform[1], definition.log_sum));
    define_probability(kernels, &theory, &definition);
    define_output(&theory, &definition);
    free(theory.queries.order);
    free(theory.keys.order);
    return definition;
}

void free_theory_definition(struct theory_definition *definition)
{
    free(definition->log_sum);
    free(definition->column);
    free(definition->probability);
    free(definition->out);
}
