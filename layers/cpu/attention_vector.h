/* The kernels for any vector width: included once by each instruction set's file, which defines before
 *   WIDTH, ROWS, LEVEL(name), LEVEL_NAME, supported(), and LEVEL_BFLOAT16, its kernels in bfloat16, and LEVEL_SLOW, its
 *   `slow`, where it has those,
 *   vec, vec_load, vec_store, vec_set, vec_fma, vec_add, vec_sub, vec_max, vec_mul, vec_exp2,
 *   vec_any_above(a, b): is a > b in some lane?
 *   vec_quarters, vec_eight: four or eight sums, each over the lanes that are equal modulo 4 or 8,
 *   vec_fold: eight sums, each over WIDTH / 8 neighbouring lanes,
 *   vec_channels: WIDTH / 8 floats from an address, repeated,
 *   vec_keep: holds a value in a register; compilers otherwise fold loads into every use.
 * A tile is two vectors wide. Both products of attention are one inner loop: broadcast one operand from where it lies,
 * multiply with two vectors of lanes, ROWS rows at a time, as many as there are registers for.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "layers/cpu/kernels.h"

enum { LANES = 2 * WIDTH, QUAD = 8 };

#define INLINE static inline __attribute__((always_inline))

/* out[r][lanes] = start[r] + sum over t < depth of a[r * row_step + t * depth_step] * b[t][lanes]. `halves`, how many of
 * the tile's two vectors are wanted, and `rows`, at most rows_of(halves), are constants wherever this is called. */
INLINE void product_rows(const size_t halves, const size_t rows, const float *a, size_t row_step, size_t depth_step,
    size_t depth, const float *b, vec (*out)[2])
{
    const float *row[(2 * ROWS + 2) / 3]; /* of each three rows the first: the others are one and two steps from it */
    for (size_t r = 0; r < rows; r += 3) row[r / 3] = a + r * row_step;
    for (size_t t = 0; t < depth; t++) {
        vec column[2];
        for (size_t h = 0; h < halves; h++) {
            column[h] = vec_load(b + t * LANES + h * WIDTH);
            vec_keep(column[h]);
        }
        for (size_t r = 0; r < rows; r++) {
            const vec factor = vec_set(row[r / 3][r % 3 * row_step]);
            for (size_t h = 0; h < halves; h++) out[r][h] = vec_fma(factor, column[h], out[r][h]);
        }
        for (size_t r = 0; r < rows; r += 3) row[r / 3] += depth_step;
    }
}

/* Rows whose sums fill the registers. */
INLINE size_t rows_of(const size_t halves)
{
    return halves == 1 ? 2 * ROWS : ROWS;
}

/* ---- scores ---- */

/* Stores the sums of some rows as scores and raises the maximum. */
INLINE void keep_scores(const size_t halves, const size_t rows, vec (*sum)[2], float *scores, vec maximum[2])
{
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < halves; h++) {
            maximum[h] = vec_max(maximum[h], sum[r][h]);
            vec_store(scores + r * LANES + h * WIDTH, sum[r][h]);
        }
}

INLINE void score_rows(const size_t halves, const size_t rows, const struct query_tile *tile, const struct key_run *run,
    size_t first, float *scores, vec maximum[2])
{
    vec sum[2 * ROWS][2];
    for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] = run->bias ? vec_set(run->bias[first + r]) : vec_set(0);
    if (run->lane_bias)
        for (size_t r = 0; r < rows; r++)
            for (size_t h = 0; h < halves; h++)
                sum[r][h] = vec_add(sum[r][h], vec_load(run->lane_bias + (first + r) * LANES + h * WIDTH));
    product_rows(halves, rows, run->k + first * run->k_stride, run->k_stride, 1, tile->head_dim, tile->query, sum);
    keep_scores(halves, rows, sum, scores, maximum);
}

INLINE void score_block(const size_t halves, const struct query_tile *tile, const struct key_run *run, size_t first,
    size_t count, float *scores, vec maximum[2])
{
    const size_t rows = rows_of(halves);
    size_t j = 0;
    for (; j + rows <= count; j += rows) score_rows(halves, rows, tile, run, first + j, scores + j * LANES, maximum);
    for (; j + 4 <= count; j += 4) score_rows(halves, 4, tile, run, first + j, scores + j * LANES, maximum);
    for (; j + 2 <= count; j += 2) score_rows(halves, 2, tile, run, first + j, scores + j * LANES, maximum);
    if (j < count) score_rows(halves, 1, tile, run, first + j, scores + j * LANES, maximum);
}

static void score(const struct query_tile *tile, const struct key_run *run, float *scores)
{
    vec maximum[2] = {vec_set(0), vec_set(0)}; /* not asked for */
    score_block(2, tile, run, 0, run->keys, scores, maximum);
}

/* scores = 2^(scores - maximum), added to sum. */
INLINE void exponentials(const size_t halves, float *scores, size_t count, const vec maximum[2], vec sum[2])
{
    for (size_t j = 0; j < count; j++)
        for (size_t h = 0; h < halves; h++) {
            float *half = scores + j * LANES + h * WIDTH;
            const vec power = vec_exp2(vec_sub(vec_load(half), maximum[h]));
            vec_store(half, power);
            sum[h] = vec_add(sum[h], power);
        }
}

/* ---- values ---- */

/* value = value * rescale + sum for some rows. */
INLINE void add_values(const size_t halves, const size_t rows, vec (*sum)[2], float *value, const vec rescale[2])
{
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < halves; h++) {
            float *half = value + r * LANES + h * WIDTH;
            vec_store(half, vec_fma(vec_load(half), rescale[h], sum[r][h]));
        }
}

INLINE void value_rows(const size_t halves, const size_t rows, const struct query_tile *tile, const float *v,
    size_t v_stride, size_t count, size_t column, const vec rescale[2])
{
    vec sum[2 * ROWS][2];
    for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] = vec_set(0);
    product_rows(halves, rows, v + column, 1, v_stride, count, tile->scores, sum);
    add_values(halves, rows, sum, tile->value + column * LANES, rescale);
}

INLINE void value_block(const size_t halves, const struct query_tile *tile, const float *v, size_t v_stride,
    size_t count, const vec rescale[2])
{
    const size_t rows = rows_of(halves);
    size_t c = 0;
    for (; c + rows <= tile->value_dim; c += rows) value_rows(halves, rows, tile, v, v_stride, count, c, rescale);
    for (; c + 4 <= tile->value_dim; c += 4) value_rows(halves, 4, tile, v, v_stride, count, c, rescale);
    for (; c < tile->value_dim; c++) value_rows(halves, 1, tile, v, v_stride, count, c, rescale);
}

/* Raises the tile's maximum and adds weights of that maximum, which sum to `sum`; what values then shrink by. */
INLINE void raise_maximum(
    const size_t halves, const struct query_tile *tile, const vec maximum[2], const vec sum[2], vec rescale[2])
{
    for (size_t h = 0; h < halves; h++) {
        rescale[h] = vec_exp2(vec_sub(vec_load(tile->maximum + h * WIDTH), maximum[h]));
        vec_store(tile->maximum + h * WIDTH, maximum[h]);
        vec_store(tile->sum + h * WIDTH, vec_fma(vec_load(tile->sum + h * WIDTH), rescale[h], sum[h]));
    }
}

/* Raises the tile's maximum and adds `count` keys whose weights, of that maximum, are in tile->scores and sum to `sum`. */
INLINE void take_block(const size_t halves, const struct query_tile *tile, const float *v, size_t v_stride,
    size_t count, const vec maximum[2], const vec sum[2])
{
    vec rescale[2];
    raise_maximum(halves, tile, maximum, sum, rescale);
    value_block(halves, tile, v, v_stride, count, rescale);
}

INLINE void attend_halves(const size_t halves, const struct query_tile *tile, const struct key_run *run)
{
    for (size_t first = 0, count; first < run->keys; first += count) {
        count = t2t_keys_together(run->keys - first);
        vec maximum[2], sum[2] = {vec_set(0), vec_set(0)};
        for (size_t h = 0; h < halves; h++) maximum[h] = vec_load(tile->maximum + h * WIDTH);
        score_block(halves, tile, run, first, count, tile->scores, maximum);
        exponentials(halves, tile->scores, count, maximum, sum);
        take_block(halves, tile, run->v + first * run->v_stride, run->v_stride, count, maximum, sum);
    }
}

static void attend_all(const struct query_tile *tile, const struct key_run *run)
{
    attend_halves(2, tile, run);
}

static void attend_narrow(const struct query_tile *tile, const struct key_run *run)
{
    attend_halves(1, tile, run);
}

static void attend(const struct query_tile *tile, const struct key_run *run)
{
    (run->narrow ? attend_narrow : attend_all)(tile, run);
}

/* ---- weights that are sums over features ---- */

/* The half of a tile that sees nothing of a key needs none of its exponentials. */
INLINE bool all_hidden(const float *lane_bias)
{
    return !vec_any_above(vec_load(lane_bias), vec_set(T2T_HIDDEN));
}

INLINE vec largest_feature(const struct feature_run *run, const float *key, size_t half, vec maximum)
{
    const float *query = run->query + half * WIDTH;
    for (size_t f = 0; f < run->features; f++)
        maximum = vec_max(maximum, vec_add(vec_load(query + f * LANES), vec_set(key[f])));
    return maximum;
}

/* Sum of 2^(query + key - maximum). */
INLINE vec sum_features(const struct feature_run *run, const float *key, size_t half, vec maximum)
{
    const float *query = run->query + half * WIDTH;
    vec sum = vec_set(0);
    for (size_t f = 0; f < run->features; f++)
        sum = vec_add(sum, vec_exp2(vec_sub(vec_add(vec_load(query + f * LANES), vec_set(key[f])), maximum)));
    return sum;
}

static void attend_features(const struct query_tile *tile, const struct feature_run *run)
{
    for (size_t first = 0; first < run->keys; first += T2T_KEY_BLOCK) {
        const size_t count = run->keys - first < T2T_KEY_BLOCK ? run->keys - first : T2T_KEY_BLOCK;
        const float *key = run->key + first * run->features, *hidden = run->lane_bias + first * LANES;
        vec maximum[2], sum[2] = {vec_set(0), vec_set(0)};
        for (size_t h = 0; h < 2; h++) {
            maximum[h] = vec_load(tile->maximum + h * WIDTH);
            for (size_t j = 0; j < count; j++) {
                const float *bias = hidden + j * LANES + h * WIDTH;
                if (all_hidden(bias)) continue;
                const vec largest = largest_feature(run, key + j * run->features, h, vec_set(2 * T2T_HIDDEN));
                maximum[h] = vec_max(maximum[h], vec_add(largest, vec_load(bias)));
            }
            for (size_t j = 0; j < count; j++) {
                const float *bias = hidden + j * LANES + h * WIDTH;
                vec weight = vec_set(0);
                if (!all_hidden(bias)) /* a hidden lane's shift is huge, also where its maximum is T2T_HIDDEN */
                    weight = sum_features(run, key + j * run->features, h,
                        vec_sub(vec_max(maximum[h], vec_set(T2T_HIDDEN / 2)), vec_load(bias)));
                vec_store(tile->scores + j * LANES + h * WIDTH, weight);
                sum[h] = vec_add(sum[h], weight);
            }
        }
        take_block(2, tile, run->v + first * run->v_stride, run->v_stride, count, maximum, sum);
    }
}

/* ---- tiles in and out: squares of eight, turned in registers ---- */

INLINE void transpose8(__m256 row[QUAD])
{
    __m256 pair[QUAD], quad[QUAD];
    for (size_t i = 0; i < QUAD; i += 2) {
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
    for (size_t i = 0; i < QUAD; i += 4)
        for (size_t j = 0; j < 2; j++) {
            quad[i + 2 * j] = _mm256_shuffle_ps(pair[i + j], pair[i + 2 + j], 0x44);
            quad[i + 2 * j + 1] = _mm256_shuffle_ps(pair[i + j], pair[i + 2 + j], 0xee);
        }
    for (size_t i = 0; i < 4; i++) {
        row[i] = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20);
        row[i + 4] = _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31);
    }
}

static void load_queries(const float *const *rows, size_t count, size_t head_dim, float factor, float *query)
{
    const __m256 factors = _mm256_set1_ps(factor);
    const size_t whole = head_dim / QUAD * QUAD;
    for (size_t lane = 0; lane < LANES; lane += QUAD)
        for (size_t c = 0; c < whole; c += QUAD) {
            __m256 square[QUAD];
            for (size_t i = 0; i < QUAD; i++)
                square[i] = lane + i < count ? _mm256_mul_ps(factors, _mm256_loadu_ps(rows[lane + i] + c))
                                             : _mm256_setzero_ps();
            transpose8(square);
            for (size_t i = 0; i < QUAD; i++) _mm256_storeu_ps(query + (c + i) * LANES + lane, square[i]);
        }
    for (size_t c = whole; c < head_dim; c++)
        for (size_t i = 0; i < LANES; i++) query[c * LANES + i] = i < count ? factor * rows[i][c] : 0;
}

static void store_values(const struct query_tile *tile, float *const *rows, size_t count)
{
    const size_t whole = tile->value_dim / QUAD * QUAD;
    for (size_t lane = 0; lane < count; lane += QUAD) {
        const __m256 shares = _mm256_div_ps(_mm256_set1_ps(1), _mm256_loadu_ps(tile->sum + lane));
        for (size_t c = 0; c < whole; c += QUAD) {
            __m256 square[QUAD];
            for (size_t i = 0; i < QUAD; i++)
                square[i] = _mm256_mul_ps(_mm256_loadu_ps(tile->value + (c + i) * LANES + lane), shares);
            transpose8(square);
            for (size_t i = 0; i < QUAD && lane + i < count; i++) _mm256_storeu_ps(rows[lane + i] + c, square[i]);
        }
    }
    for (size_t c = whole; c < tile->value_dim; c++)
        for (size_t i = 0; i < count; i++) rows[i][c] = tile->value[c * LANES + i] / tile->sum[i];
}

#include "layers/cpu/kde_vector.h"

/* ---- norms ---- */

/* Sum of x, or of squares around `centre`. */
INLINE float sum_row(const bool squares, const float *x, size_t count, float centre)
{
    vec even = vec_set(0), odd = vec_set(0);
    size_t i = 0;
    for (; i + 2 * WIDTH <= count; i += 2 * WIDTH) {
        const vec first = vec_sub(vec_load(x + i), vec_set(centre));
        const vec second = vec_sub(vec_load(x + i + WIDTH), vec_set(centre));
        even = squares ? vec_fma(first, first, even) : vec_add(first, even);
        odd = squares ? vec_fma(second, second, odd) : vec_add(second, odd);
    }
    float sum = sum_of(vec_eight(vec_add(even, odd)));
    for (; i < count; i++) sum += squares ? (x[i] - centre) * (x[i] - centre) : x[i];
    return sum;
}

static void layer_norm(const float *x, size_t channels, const float *weight, const float *bias, float *y)
{
    const float mean = sum_row(false, x, channels, 0) / (float)channels;
    const float variance = sum_row(true, x, channels, mean) / (float)channels;
    const float scale = 1 / sqrtf(variance + T2T_LAYER_NORM_EPSILON);
    size_t c = 0;
    for (; c + WIDTH <= channels; c += WIDTH) {
        const vec normed = vec_mul(vec_sub(vec_load(x + c), vec_set(mean)), vec_set(scale));
        vec_store(y + c, vec_fma(normed, vec_load(weight + c), vec_load(bias + c)));
    }
    for (; c < channels; c++) y[c] = (x[c] - mean) * scale * weight[c] + bias[c];
}

const struct attention_kernels LEVEL(t2t_kernels);
const struct attention_kernels LEVEL(t2t_kernels) = {
    .name = LEVEL_NAME,
    .supported = supported,
#ifdef LEVEL_SLOW
    .slow = LEVEL_SLOW,
#endif
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
#ifdef LEVEL_BFLOAT16
    .bfloat16 = &LEVEL_BFLOAT16,
#endif
};
