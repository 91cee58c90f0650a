/* KDEformer in float64, step by step as layers/kdeformer.md and layers/kdeformer-sampling.md say. Only the signs of the
 * hash and the integer draws are the engine's own; tests hold these against their definitions elsewhere. */
#include "layers/tests/kde_definition.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

double problem_score(const struct problem *problem, size_t query, size_t key)
{
    const size_t dim = problem->shape.head_dim;
    double dot = 0;
    for (size_t c = 0; c < dim; c++) dot += (double)problem->q[query * dim + c] * (double)problem->k[key * dim + c];
    return (double)problem->shape.scale * dot;
}

/* out = sum of expected^-1 exp(score) v over the same sum without v. */
static void weighted_mean(
    const struct problem *problem, size_t query, const struct kde_sample *sample, size_t count, double *out)
{
    const size_t dim = problem->shape.value_dim;
    double largest = -INFINITY, total = 0;
    for (size_t i = 0; i < count; i++) largest = fmax(largest, problem_score(problem, query, sample[i].key));
    memset(out, 0, dim * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        const double share = exp(problem_score(problem, query, sample[i].key) - largest) / sample[i].expected;
        total += share;
        for (size_t c = 0; c < dim; c++) out[c] += share * (double)problem->v[sample[i].key * dim + c];
    }
    for (size_t c = 0; c < dim; c++) out[c] /= total;
}

void define_exact(const struct problem *problem, double *out)
{
    const size_t keys = problem->shape.keys;
    struct kde_sample *all = allocate(keys * sizeof *all);
    for (size_t j = 0; j < keys; j++) all[j] = (struct kde_sample){.key = j, .expected = 1};
    for (size_t i = 0; i < problem->shape.queries; i++)
        weighted_mean(problem, i, all, keys, out + i * problem->shape.value_dim);
    free(all);
}

/* ---- the definition ---- */

uint32_t *sorted_rows(const struct attention_kernels *kernels, const float *x, size_t rows, size_t dim,
    const float *projection, size_t bits)
{
    uint16_t *code = allocate(rows * sizeof *code);
    uint32_t *order = allocate(rows * sizeof *order);
    size_t at = 0;
    kernels->sign_hash(x, dim, rows, dim, projection, bits, code);
    for (size_t rank = 0; rank < (size_t)1 << bits; rank++)
        for (uint32_t i = 0; i < rows; i++)
            if (t2t_gray_rank(code[i]) == rank) order[at++] = i;
    assert_int_equal(at, rows);
    free(code);
    return order;
}

struct sizes {
    size_t bucket, blocks, rows, groups;
};

static struct sizes sizes_of(const struct problem *problem, const struct attention_config *config)
{
    const size_t keys = problem->shape.keys, bucket = config->bucket < keys ? config->bucket : keys;
    const size_t blocks = (keys + bucket - 1) / bucket;
    return (struct sizes){bucket, blocks, (problem->shape.queries + blocks - 1) / blocks, config->sample_groups};
}

/* Sorted positions first ... last - 1 of a group's queries. */
static void group_queries(const struct sizes *sizes, size_t queries, size_t group, size_t *first, size_t *last)
{
    *first = group * sizes->blocks / sizes->groups * sizes->rows;
    *last = (group + 1) * sizes->blocks / sizes->groups * sizes->rows;
    if (*first > queries) *first = queries;
    if (*last > queries) *last = queries;
}

static void add_squares(const struct problem *problem, size_t query, double *squares)
{
    const size_t keys = problem->shape.keys;
    double *a = allocate(keys * sizeof *a), largest = -INFINITY, total = 0;
    for (size_t j = 0; j < keys; j++) largest = fmax(largest, a[j] = problem_score(problem, query, j));
    for (size_t j = 0; j < keys; j++) total += a[j] = exp(a[j] - largest);
    for (size_t j = 0; j < keys; j++) squares[j] += a[j] / total * (a[j] / total);
    free(a);
}

/* sqrt(sum of squares over the pilots of a group) |v - mean v|, 30 % spread evenly. */
static void pilot_probability(const struct problem *problem, const struct attention_config *config,
    const struct sizes *sizes, const uint32_t *q_order, const uint32_t *uniform, size_t group, float *probability)
{
    const size_t keys = problem->shape.keys, dim = problem->shape.value_dim;
    const size_t pilots = config->pilot / sizes->groups;
    double *squares = allocate(keys * sizeof *squares), *mean = allocate(dim * sizeof *mean), sum = 0;
    size_t first, last;
    group_queries(sizes, problem->shape.queries, group, &first, &last);
    memset(squares, 0, keys * sizeof *squares);
    if (config->probability == KDE_COLUMN_NORM)
        for (size_t position = first; position < last; position++) add_squares(problem, q_order[position], squares);
    else
        for (size_t i = 0; i < pilots && first < last; i++) {
            const double place = ((double)i + uniform[group * pilots + i] * 0x1p-32) / (double)pilots;
            add_squares(problem, q_order[first + (size_t)(place * (double)(last - first))], squares);
        }
    memset(mean, 0, dim * sizeof *mean);
    for (size_t j = 0; j < keys; j++)
        for (size_t c = 0; c < dim; c++) mean[c] += (double)problem->v[j * dim + c] / (double)keys;
    for (size_t j = 0; j < keys; j++) {
        double distance = 0;
        for (size_t c = 0; c < dim; c++) distance += pow((double)problem->v[j * dim + c] - mean[c], 2);
        squares[j] = sqrt(squares[j] * distance);
        sum += squares[j];
    }
    for (size_t j = 0; j < keys; j++)
        probability[j] = (float)(sum > 0 ? 0.7 * squares[j] / sum + 0.3 / (double)keys : 1 / (double)keys);
    free(squares);
    free(mean);
}

void probability_of(const struct attention_kernels *kernels, const struct problem *problem,
    const struct attention_config *config, const uint32_t *q_order, const uint32_t *pilot_uniform, size_t group,
    float *probability)
{
    const size_t keys = problem->shape.keys, dim = problem->shape.value_dim;
    const struct sizes sizes = sizes_of(problem, config);
    if (config->probability == KDE_UNIFORM) {
        for (size_t j = 0; j < keys; j++) probability[j] = 1 / (float)keys;
    } else if (config->probability == KDE_VALUE) {
        double *vectors = allocate(T2T_KDE_VECTORS * (dim + 1) * sizeof *vectors);
        t2t_kde_probability(kernels, problem->v, dim, keys, dim, probability, vectors);
        free(vectors);
    } else {
        pilot_probability(problem, config, &sizes, q_order, pilot_uniform, group, probability);
    }
}

size_t sample_group(const struct problem *problem, const struct attention_config *config, const uint32_t *k_order,
    const struct drawn *drawn, size_t group, const float *probability, struct kde_sample *sample)
{
    const size_t keys = problem->shape.keys;
    uint64_t *weight = allocate(keys * sizeof *weight);
    size_t taken = config->samples;
    if (config->sampling == KDE_SYSTEMATIC) {
        const uint64_t offset = drawn->sample_uniform[0] + ((uint64_t)group << 32) / config->sample_groups;
        t2t_kde_weigh(probability, keys, weight);
        taken = t2t_kde_systematic(k_order, keys, config->samples, (uint32_t)offset, weight, sample);
    } else {
        t2t_kde_cumulate(probability, keys, weight);
        for (size_t s = 0; s < taken; s++) {
            const size_t key = t2t_kde_pick(weight, keys, drawn->sample_uniform[group * taken + s]);
            const double share = (double)(weight[key] - (key ? weight[key - 1] : 0)) / (double)weight[keys - 1];
            sample[s] = (struct kde_sample){.key = key, .expected = share * (double)taken};
        }
    }
    free(weight);
    return taken;
}

void define_kdeformer(const struct attention_kernels *kernels, const struct problem *problem,
    const struct attention_config *config, const struct drawn *drawn, double *out)
{
    const struct attention_shape *shape = &problem->shape;
    const struct sizes sizes = sizes_of(problem, config);
    uint32_t *q_order =
        sorted_rows(kernels, problem->q, shape->queries, shape->head_dim, drawn->projection, config->projections);
    uint32_t *k_order =
        sorted_rows(kernels, problem->k, shape->keys, shape->head_dim, drawn->projection, config->projections);
    uint32_t *k_place = allocate(shape->keys * sizeof *k_place);
    for (uint32_t i = 0; i < shape->keys; i++) k_place[k_order[i]] = i;
    float *probability = allocate(shape->keys * sizeof *probability);
    struct kde_sample *sample = allocate((config->samples + 1) * sizeof *sample);
    struct kde_sample *seen = allocate((config->samples + sizes.bucket) * sizeof *seen);
    for (size_t group = 0; group < sizes.groups; group++) {
        size_t first, last;
        group_queries(&sizes, shape->queries, group, &first, &last);
        probability_of(kernels, problem, config, q_order, drawn->pilot_uniform, group, probability);
        const size_t taken = sample_group(problem, config, k_order, drawn, group, probability, sample);
        for (size_t position = first; position < last; position++) {
            const size_t begin = position / sizes.rows * sizes.bucket;
            const size_t end = begin + sizes.bucket < shape->keys ? begin + sizes.bucket : shape->keys;
            size_t count = 0;
            for (size_t i = begin; i < end; i++) seen[count++] = (struct kde_sample){.key = k_order[i], .expected = 1};
            for (size_t s = 0; s < taken; s++)
                if (k_place[sample[s].key] < begin || k_place[sample[s].key] >= end) seen[count++] = sample[s];
            weighted_mean(problem, q_order[position], seen, count, out + q_order[position] * shape->value_dim);
        }
    }
    free(q_order);
    free(k_order);
    free(k_place);
    free(probability);
    free(sample);
    free(seen);
}

void problem_probability(
    const struct problem *problem, const struct attention_config *config, uint64_t seed, float *probability)
{
    const struct attention_kernels *kernels = t2t_kernel_sets[0];
    for (size_t i = 0; !kernels->supported(); i++) kernels = t2t_kernel_sets[i];
    const uint64_t image = 0;
    struct drawn drawn = draw_samples(&problem->shape, config, seed, &image, 1);
    uint32_t *q_order = sorted_rows(
        kernels, problem->q, problem->shape.queries, problem->shape.head_dim, drawn.projection, config->projections);
    probability_of(kernels, problem, config, q_order, drawn.pilot_uniform, 0, probability);
    free(q_order);
    free_drawn(&drawn);
}
