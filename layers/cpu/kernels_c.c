/* The kernels in plain C: what every slot means. Loops over lanes are left to the compiler. */
#include <math.h>
#include <string.h>

#include "layers/cpu/kernels.h"

enum { LANES = 16 };

static bool supported(void)
{
    return true;
}

static void load_queries(const float *const *rows, size_t count, size_t head_dim, float factor, float *query)
{
    memset(query, 0, head_dim * LANES * sizeof *query);
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < head_dim; c++) query[c * LANES + i] = factor * rows[i][c];
}

static void score(const struct query_tile *tile, const struct key_run *run, float *restrict scores)
{
    for (size_t j = 0; j < run->keys; j++, scores += LANES) {
        const float *k = run->k + j * run->k_stride;
        for (size_t i = 0; i < LANES; i++) scores[i] = run->bias ? run->bias[j] : 0;
        for (size_t i = 0; i < LANES && run->lane_bias; i++) scores[i] += run->lane_bias[j * LANES + i];
        for (size_t c = 0; c < tile->head_dim; c++)
            for (size_t i = 0; i < LANES; i++) scores[i] += k[c] * tile->query[c * LANES + i];
    }
}

static void column_squares(
    const struct query_tile *tile, const struct key_run *run, const bool *used, float *scores, float *squares)
{
    const size_t keys = run->keys;
    score(tile, run, scores);
    float maximum[LANES], sum[LANES] = {0}, weight[LANES];
    for (size_t i = 0; i < LANES; i++) maximum[i] = -INFINITY;
    for (size_t j = 0; j < keys; j++)
        for (size_t i = 0; i < LANES; i++)
            if (scores[j * LANES + i] > maximum[i]) maximum[i] = scores[j * LANES + i];
    for (size_t j = 0; j < keys; j++)
        for (size_t i = 0; i < LANES; i++) {
            scores[j * LANES + i] = t2t_weight(scores[j * LANES + i] - maximum[i]);
            sum[i] += scores[j * LANES + i];
        }
    for (size_t i = 0; i < LANES; i++) weight[i] = used[i] ? 1 / sum[i] : 0;
    for (size_t j = 0; j < keys; j++)
        for (size_t i = 0; i < LANES; i++) {
            const float a = scores[j * LANES + i] * weight[i];
            squares[j * T2T_QUARTERS + i % T2T_QUARTERS] += a * a;
        }
}

/* Raises a tile's maximum to `maximum` and shrinks its sums accordingly. */
static void raise_maximum(const struct query_tile *tile, const float maximum[LANES])
{
    float rescale[LANES];
    for (size_t i = 0; i < LANES; i++) {
        rescale[i] = t2t_weight(tile->maximum[i] - maximum[i]);
        tile->maximum[i] = maximum[i];
        tile->sum[i] *= rescale[i];
    }
    for (size_t c = 0; c < tile->value_dim; c++)
        for (size_t i = 0; i < LANES; i++) tile->value[c * LANES + i] *= rescale[i];
}

/* Adds keys whose weights are in tile->scores. */
static void add_values(const struct query_tile *tile, const float *v, size_t v_stride, size_t count)
{
    const float *restrict weight = tile->scores;
    float sum[LANES] = {0};
    for (size_t j = 0; j < count; j++)
        for (size_t i = 0; i < LANES; i++) sum[i] += weight[j * LANES + i];
    for (size_t i = 0; i < LANES; i++) tile->sum[i] += sum[i];
    for (size_t c = 0; c < tile->value_dim; c++) {
        float added[LANES] = {0};
        for (size_t j = 0; j < count; j++)
            for (size_t i = 0; i < LANES; i++) added[i] += v[j * v_stride + c] * weight[j * LANES + i];
        for (size_t i = 0; i < LANES; i++) tile->value[c * LANES + i] += added[i];
    }
}

static void attend_block(const struct query_tile *tile, const struct key_run *run, size_t first, size_t count)
{
    const struct key_run block = {.k = run->k + first * run->k_stride,
        .k_stride = run->k_stride,
        .keys = count,
        .bias = run->bias ? run->bias + first : NULL,
        .lane_bias = run->lane_bias ? run->lane_bias + first * LANES : NULL};
    float *restrict scores = tile->scores;
    float maximum[LANES];
    score(tile, &block, scores);
    for (size_t i = 0; i < LANES; i++) {
        maximum[i] = tile->maximum[i];
        for (size_t j = 0; j < count; j++)
            if (scores[j * LANES + i] > maximum[i]) maximum[i] = scores[j * LANES + i];
    }
    raise_maximum(tile, maximum);
    for (size_t j = 0; j < count; j++)
        for (size_t i = 0; i < LANES; i++) scores[j * LANES + i] = t2t_weight(scores[j * LANES + i] - maximum[i]);
    add_values(tile, run->v + first * run->v_stride, run->v_stride, count);
}

static void attend(const struct query_tile *tile, const struct key_run *run)
{
    for (size_t first = 0, count; first < run->keys; first += count) {
        count = t2t_keys_together(run->keys - first);
        attend_block(tile, run, first, count);
    }
}

static void attend_features_block(
    const struct query_tile *tile, const struct feature_run *run, size_t first, size_t count)
{
    const float *key = run->key + first * run->features, *hidden = run->lane_bias + first * LANES;
    float maximum[LANES];
    memcpy(maximum, tile->maximum, sizeof maximum);
    for (size_t j = 0; j < count; j++)
        for (size_t f = 0; f < run->features; f++)
            for (size_t i = 0; i < LANES; i++) {
                const float score = run->query[f * LANES + i] + key[j * run->features + f];
                if (hidden[j * LANES + i] > T2T_HIDDEN && score > maximum[i]) maximum[i] = score;
            }
    raise_maximum(tile, maximum);
    memset(tile->scores, 0, count * LANES * sizeof *tile->scores);
    for (size_t j = 0; j < count; j++)
        for (size_t f = 0; f < run->features; f++)
            for (size_t i = 0; i < LANES; i++) {
                const float score = run->query[f * LANES + i] + key[j * run->features + f];
                if (hidden[j * LANES + i] > T2T_HIDDEN) tile->scores[j * LANES + i] += t2t_weight(score - maximum[i]);
            }
    add_values(tile, run->v + first * run->v_stride, run->v_stride, count);
}

static void attend_features(const struct query_tile *tile, const struct feature_run *run)
{
    for (size_t first = 0; first < run->keys; first += T2T_KEY_BLOCK)
        attend_features_block(tile, run, first, run->keys - first < T2T_KEY_BLOCK ? run->keys - first : T2T_KEY_BLOCK);
}

static void store_values(const struct query_tile *tile, float *const *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < tile->value_dim; c++) rows[i][c] = tile->value[c * LANES + i] / tile->sum[i];
}

static void gather_rows(const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, float *out)
{
    for (size_t i = 0; i < rows; i++) memcpy(out + i * dim, x + order[i] * stride, dim * sizeof *out);
}

static void sign_hash(
    const float *x, size_t stride, size_t rows, size_t dim, const float *projection, size_t bits, uint16_t *code)
{
    for (size_t row = 0; row < rows; row++) {
        float dot[T2T_MAX_BITS] = {0};
        for (size_t c = 0; c < dim; c++)
            for (size_t b = 0; b < bits; b++) dot[b] += x[row * stride + c] * projection[c * bits + b];
        code[row] = 0;
        for (size_t b = 0; b < bits; b++) code[row] = (uint16_t)(code[row] | (dot[b] > 0) << b);
    }
}

static void gram_times(const float *v, size_t stride, size_t rows, size_t dim, const float *x, float *run, double *out)
{
    for (size_t first = 0; first < rows; first += T2T_KEY_BLOCK) {
        const size_t end = first + T2T_KEY_BLOCK < rows ? first + T2T_KEY_BLOCK : rows;
        memset(run, 0, (dim + 1) * sizeof *run);
        for (size_t row = first; row < end; row++) {
            float dot = x[dim];
            for (size_t c = 0; c < dim; c++) dot += v[row * stride + c] * x[c];
            for (size_t c = 0; c < dim; c++) run[c] += dot * v[row * stride + c];
            run[dim] += dot;
        }
        for (size_t c = 0; c <= dim; c++) out[c] += (double)run[c];
    }
}

static void row_norms(const float *v, size_t stride, size_t rows, size_t dim, float *norm)
{
    for (size_t row = 0; row < rows; row++) {
        float squares = 1;
        for (size_t c = 0; c < dim; c++) squares += v[row * stride + c] * v[row * stride + c];
        norm[row] = sqrtf(squares);
    }
}

static void row_distances(const float *v, size_t stride, size_t rows, size_t dim, const float *centre, float *distance)
{
    for (size_t row = 0; row < rows; row++) {
        float squares = 0;
        for (size_t c = 0; c < dim; c++) {
            const float difference = v[row * stride + c] - centre[c];
            squares += difference * difference;
        }
        distance[row] = sqrtf(squares);
    }
}

/* Partial sums: the compiler may not reorder a single one, so these are what lets it use vectors. */
static float sum(const float *restrict x, size_t count)
{
    float partial[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++) partial[lane] += x[i + lane];
    for (size_t lane = 0; i < count; i++, lane++) partial[lane] += x[i];
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t lane = 0; lane < half; lane++) partial[lane] += partial[lane + half];
    return partial[0];
}

static float sum_of_squares_around(float mean, const float *restrict x, size_t count)
{
    float partial[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++) partial[lane] += (x[i + lane] - mean) * (x[i + lane] - mean);
    for (size_t lane = 0; i < count; i++, lane++) partial[lane] += (x[i] - mean) * (x[i] - mean);
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t lane = 0; lane < half; lane++) partial[lane] += partial[lane + half];
    return partial[0];
}

static void layer_norm(const float *x, size_t channels, const float *weight, const float *bias, float *y)
{
    const float mean = sum(x, channels) / (float)channels;
    const float variance = sum_of_squares_around(mean, x, channels) / (float)channels;
    const float scale = 1 / sqrtf(variance + T2T_LAYER_NORM_EPSILON);
    for (size_t c = 0; c < channels; c++) y[c] = (x[c] - mean) * scale * weight[c] + bias[c];
}

const struct attention_kernels t2t_kernels_c = {
    .name = "c",
    .supported = supported,
    .lanes = LANES,
    .load_queries = load_queries,
    .attend = attend,
    .score = score,
    .attend_features = attend_features,
    .column_squares = column_squares,
    .store_values = store_values,
    .sign_hash = sign_hash,
    .gram_times = gram_times,
    .row_norms = row_norms,
    .gather_rows = gather_rows,
    .layer_norm = layer_norm,
    .row_distances = row_distances,
    .bfloat16 = &t2t_bfloat16_c,
};
