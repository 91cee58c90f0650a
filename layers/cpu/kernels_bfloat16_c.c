/* Attention in bfloat16 in plain C: what every slot means. */
#include <math.h>
#include <string.h>

#include "layers/base/half.h"
#include "layers/cpu/kernels.h"

enum { LANES = 16 };

static bfloat16_pair pair_of(float first, float second)
{
    return t2t_float_to_bfloat16(first) | (bfloat16_pair)t2t_float_to_bfloat16(second) << 16;
}

static float first_of(bfloat16_pair pair)
{
    return t2t_bfloat16_to_float((uint16_t)(pair & 0xffff));
}

static float second_of(bfloat16_pair pair)
{
    return t2t_bfloat16_to_float((uint16_t)(pair >> 16));
}

static void load_queries(const float *const *rows, size_t count, size_t head_dim, float factor, bfloat16_pair *query)
{
    memset(query, 0, t2t_pairs(head_dim) * LANES * sizeof *query);
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < head_dim; c += 2)
            query[c / 2 * LANES + i] = pair_of(factor * rows[i][c], c + 1 < head_dim ? factor * rows[i][c + 1] : 0);
}

static void pack_keys(const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, bfloat16_pair *out)
{
    for (size_t i = 0; i < rows; i++) {
        const float *row = x + (order ? order[i] : i) * stride;
        for (size_t c = 0; c < dim; c += 2) *out++ = pair_of(row[c], c + 1 < dim ? row[c + 1] : 0);
    }
}

/* Where the pair of keys `pair` has its values in channel c. */
static size_t value_place(size_t pair, size_t c, size_t dim)
{
    return (pair / T2T_PAIR_BLOCK * dim + c) * T2T_PAIR_BLOCK + pair % T2T_PAIR_BLOCK;
}

static void pack_values(
    const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, size_t at, bfloat16_pair *out)
{
    size_t pair = at / 2;
    for (size_t i = 0; i < rows; i += 2, pair++) {
        const float *first = x + (order ? order[i] : i) * stride;
        const float *second = i + 1 < rows ? x + (order ? order[i + 1] : i + 1) * stride : NULL;
        for (size_t c = 0; c < dim; c++) out[value_place(pair, c, dim)] = pair_of(first[c], second ? second[c] : 0);
    }
    for (; pair % T2T_PAIR_BLOCK; pair++)
        for (size_t c = 0; c < dim; c++) out[value_place(pair, c, dim)] = 0;
}

static void attend_block(const struct query_tile *tile, const struct bfloat16_run *run, size_t first, size_t count)
{
    const bfloat16_pair *query = (const bfloat16_pair *)(const void *)tile->query;
    const size_t pairs = t2t_pairs(tile->head_dim);
    float *scores = tile->scores;
    for (size_t i = 0; i < LANES; i++) {
        float maximum = tile->maximum[i], sum = 0;
        for (size_t j = 0; j < count; j++) {
            float score = run->bias ? run->bias[first + j] : 0;
            for (size_t p = 0; p < pairs; p++) {
                const bfloat16_pair k = run->k[(first + j) * pairs + p], q = query[p * LANES + i];
                score += first_of(k) * first_of(q) + second_of(k) * second_of(q);
            }
            scores[j * LANES + i] = score;
            if (score > maximum) maximum = score;
        }
        for (size_t j = 0; j < count; j++) {
            const float weight = t2t_weight(scores[j * LANES + i] - maximum);
            sum += weight;
            scores[j * LANES + i] = t2t_bfloat16_to_float(t2t_float_to_bfloat16(weight));
        }
        const float rescale = t2t_weight(tile->maximum[i] - maximum);
        tile->maximum[i] = maximum;
        tile->sum[i] = tile->sum[i] * rescale + sum;
        for (size_t c = 0; c < tile->value_dim; c++) {
            float added = 0;
            for (size_t j = 0; j < count; j++) {
                const bfloat16_pair v = run->v[value_place((first + j) / 2, c, tile->value_dim)];
                added += scores[j * LANES + i] * (j % 2 ? second_of(v) : first_of(v));
            }
            tile->value[c * LANES + i] = tile->value[c * LANES + i] * rescale + added;
        }
    }
}

static void attend(const struct query_tile *tile, const struct bfloat16_run *run)
{
    for (size_t first = 0, count; first < run->keys; first += count) {
        count = t2t_pairs_together(run->keys - first);
        attend_block(tile, run, first, count);
    }
}

static void round_numbers(const float *x, size_t count, uint16_t *out)
{
    for (size_t i = 0; i < count; i++) out[i] = t2t_float_to_bfloat16(x[i]);
}

const struct bfloat16_kernels t2t_bfloat16_c = {
    .load_queries = load_queries,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
    .attend = attend,
    .round = round_numbers,
};
