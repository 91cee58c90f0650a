/* The kernels for any vector width: included once by each instruction set's file, which defines before
 *   WIDTH, vec, LEVEL(name), LEVEL_NAME, supported(), vec_load, vec_store, vec_set, vec_fma, vec_add, vec_sub, vec_max,
 *   vec_mul, vec_exp2, vec_any_above(a, b) (is a > b in some lane?), vec_quarters (four sums, each over the lanes that are
 *   equal modulo 4), vec_keep (holds a value in a register: compilers otherwise fold loads into every use).
 * A tile is two vectors wide. Both products of attention are one inner loop: broadcast one operand from where it lies,
 * multiply with two vectors of lanes, six rows at a time, which fills 16 registers.
 */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "layers/cpu/kernels.h"

enum { LANES = 2 * WIDTH, ROWS = 6, QUAD = 8 };

#define INLINE static inline __attribute__((always_inline))

/* out[r][lanes] = start[r] + sum over t < depth of a[r * row_step + t * depth_step] * b[t][lanes], r < rows <= ROWS;
 * rows is a constant wherever this is called. */
INLINE void product_rows(
    const size_t rows, const float *a, size_t row_step, size_t depth_step, size_t depth, const float *b, vec (*out)[2])
{
    for (size_t t = 0; t < depth; t++) {
        vec left = vec_load(b + t * LANES), right = vec_load(b + t * LANES + WIDTH);
        vec_keep(left);
        vec_keep(right);
        for (size_t r = 0; r < rows; r++) {
            const vec factor = vec_set(a[r * row_step + t * depth_step]);
            out[r][0] = vec_fma(factor, left, out[r][0]);
            out[r][1] = vec_fma(factor, right, out[r][1]);
        }
    }
}

/* ---- scores ---- */

INLINE void score_rows(const size_t rows, const struct query_tile *tile, const struct key_run *run, size_t first,
    float *scores, vec maximum[2])
{
    vec sum[ROWS][2];
    for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] = run->bias ? vec_set(run->bias[first + r]) : vec_set(0);
    if (run->lane_bias)
        for (size_t r = 0; r < rows; r++)
            for (size_t h = 0; h < 2; h++)
                sum[r][h] = vec_add(sum[r][h], vec_load(run->lane_bias + (first + r) * LANES + h * WIDTH));
    product_rows(rows, run->k + first * run->k_stride, run->k_stride, 1, tile->head_dim, tile->query, sum);
    for (size_t r = 0; r < rows; r++) {
        maximum[0] = vec_max(maximum[0], sum[r][0]);
        maximum[1] = vec_max(maximum[1], sum[r][1]);
        vec_store(scores + r * LANES, sum[r][0]);
        vec_store(scores + r * LANES + WIDTH, sum[r][1]);
    }
}

static void score_block(
    const struct query_tile *tile, const struct key_run *run, size_t first, size_t count, float *scores, vec maximum[2])
{
    size_t j = 0;
    for (; j + ROWS <= count; j += ROWS) score_rows(ROWS, tile, run, first + j, scores + j * LANES, maximum);
    for (; j + 2 <= count; j += 2) score_rows(2, tile, run, first + j, scores + j * LANES, maximum);
    if (j < count) score_rows(1, tile, run, first + j, scores + j * LANES, maximum);
}

static void score(const struct query_tile *tile, const struct key_run *run, float *scores)
{
    vec maximum[2] = {vec_set(0), vec_set(0)}; /* not asked for */
    score_block(tile, run, 0, run->keys, scores, maximum);
}

/* scores = 2^(scores - maximum), added to sum. */
static void exponentials(float *scores, size_t count, const vec maximum[2], vec sum[2])
{
    for (size_t j = 0; j < count; j++, scores += LANES) {
        const vec left = vec_exp2(vec_sub(vec_load(scores), maximum[0]));
        const vec right = vec_exp2(vec_sub(vec_load(scores + WIDTH), maximum[1]));
        vec_store(scores, left);
        vec_store(scores + WIDTH, right);
        sum[0] = vec_add(sum[0], left);
        sum[1] = vec_add(sum[1], right);
    }
}

/* ---- values ---- */

INLINE void value_rows(const size_t rows, const struct query_tile *tile, const float *v, size_t v_stride, size_t count,
    size_t column, const vec rescale[2])
{
    vec sum[ROWS][2];
    for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] = vec_set(0);
    product_rows(rows, v + column, 1, v_stride, count, tile->scores, sum);
    for (size_t r = 0; r < rows; r++) {
        float *value = tile->value + (column + r) * LANES;
        vec_store(value, vec_fma(vec_load(value), rescale[0], sum[r][0]));
        vec_store(value + WIDTH, vec_fma(vec_load(value + WIDTH), rescale[1], sum[r][1]));
    }
}

static void value_block(
    const struct query_tile *tile, const float *v, size_t v_stride, size_t count, const vec rescale[2])
{
    size_t c = 0;
    for (; c + ROWS <= tile->value_dim; c += ROWS) value_rows(ROWS, tile, v, v_stride, count, c, rescale);
    if (c + 4 <= tile->value_dim) {
        value_rows(4, tile, v, v_stride, count, c, rescale);
        c += 4;
    }
    for (; c < tile->value_dim; c++) value_rows(1, tile, v, v_stride, count, c, rescale);
}

/* Raises the tile's maximum and adds `count` keys whose weights, of that maximum, are in tile->scores and sum to `sum`. */
static void take_block(const struct query_tile *tile, const float *v, size_t v_stride, size_t count,
    const vec maximum[2], const vec sum[2])
{
    vec rescale[2];
    for (size_t h = 0; h < 2; h++) {
        rescale[h] = vec_exp2(vec_sub(vec_load(tile->maximum + h * WIDTH), maximum[h]));
        vec_store(tile->maximum + h * WIDTH, maximum[h]);
        vec_store(tile->sum + h * WIDTH, vec_fma(vec_load(tile->sum + h * WIDTH), rescale[h], sum[h]));
    }
    value_block(tile, v, v_stride, count, rescale);
}

static void attend(const struct query_tile *tile, const struct key_run *run)
{
    for (size_t first = 0; first < run->keys; first += T2T_KEY_BLOCK) {
        const size_t count = run->keys - first < T2T_KEY_BLOCK ? run->keys - first : T2T_KEY_BLOCK;
        vec maximum[2], sum[2] = {vec_set(0), vec_set(0)};
        for (size_t h = 0; h < 2; h++) maximum[h] = vec_load(tile->maximum + h * WIDTH);
        score_block(tile, run, first, count, tile->scores, maximum);
        exponentials(tile->scores, count, maximum, sum);
        take_block(tile, run->v + first * run->v_stride, run->v_stride, count, maximum, sum);
    }
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
        take_block(tile, run->v + first * run->v_stride, run->v_stride, count, maximum, sum);
    }
}

/* ---- column norms of a few queries' softmax ---- */

/* Scores of the tile's first vector of queries alone, [rows][WIDTH]. */
INLINE void narrow_rows(
    const size_t rows, const struct query_tile *tile, const struct key_run *run, size_t first, float *scores)
{
    const float *k = run->k + first * run->k_stride;
    vec sum[2 * ROWS];
    for (size_t r = 0; r < rows; r++) sum[r] = vec_set(0);
    for (size_t t = 0; t < tile->head_dim; t++) {
        vec left = vec_load(tile->query + t * LANES);
        vec_keep(left);
        for (size_t r = 0; r < rows; r++) sum[r] = vec_fma(vec_set(k[r * run->k_stride + t]), left, sum[r]);
    }
    for (size_t r = 0; r < rows; r++) vec_store(scores + r * WIDTH, sum[r]);
}

/* Softmax of scores [keys, halves * WIDTH] and the sums of its squares; the lanes of weight 0 do not count. */
INLINE void add_squares(const size_t halves, float *scores, size_t keys, const bool *used, float *squares)
{
    vec maximum[2], sum[2], weight[2];
    float sums[LANES];
    for (size_t h = 0; h < halves; h++) {
        maximum[h] = vec_set(-INFINITY);
        sum[h] = vec_set(0);
    }
    for (size_t j = 0; j < keys; j++)
        for (size_t h = 0; h < halves; h++)
            maximum[h] = vec_max(maximum[h], vec_load(scores + (j * halves + h) * WIDTH));
    for (size_t j = 0; j < keys; j++)
        for (size_t h = 0; h < halves; h++) {
            float *score = scores + (j * halves + h) * WIDTH;
            const vec power = vec_exp2(vec_sub(vec_load(score), maximum[h]));
            vec_store(score, power);
            sum[h] = vec_add(sum[h], power);
        }
    for (size_t h = 0; h < halves; h++) vec_store(sums + h * WIDTH, sum[h]);
    for (size_t i = 0; i < halves * WIDTH; i++) sums[i] = used[i] ? 1 / sums[i] : 0;
    for (size_t h = 0; h < halves; h++) weight[h] = vec_load(sums + h * WIDTH);
    for (size_t j = 0; j < keys; j++, squares += T2T_QUARTERS) {
        vec added = vec_set(0);
        for (size_t h = 0; h < halves; h++) {
            const vec a = vec_mul(vec_load(scores + (j * halves + h) * WIDTH), weight[h]);
            added = vec_fma(a, a, added);
        }
        _mm_storeu_ps(squares, _mm_add_ps(_mm_loadu_ps(squares), vec_quarters(added)));
    }
}

static void column_squares(
    const struct query_tile *tile, const struct key_run *run, const bool *used, float *scores, float *squares)
{
    bool both = false;
    for (size_t i = WIDTH; i < LANES; i++) both |= used[i];
    if (both) {
        vec maximum[2] = {vec_set(-INFINITY), vec_set(-INFINITY)}; /* not asked for */
        score_block(tile, run, 0, run->keys, scores, maximum);
        add_squares(2, scores, run->keys, used, squares);
        return;
    }
    size_t j = 0;
    for (; j + 2 * ROWS <= run->keys; j += 2 * ROWS) narrow_rows(2 * ROWS, tile, run, j, scores + j * WIDTH);
    for (; j < run->keys; j++) narrow_rows(1, tile, run, j, scores + j * WIDTH);
    add_squares(1, scores, run->keys, used, squares);
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
        const __m256 sums = _mm256_loadu_ps(tile->sum + lane);
        for (size_t c = 0; c < whole; c += QUAD) {
            __m256 square[QUAD];
            for (size_t i = 0; i < QUAD; i++)
                square[i] = _mm256_div_ps(_mm256_loadu_ps(tile->value + (c + i) * LANES + lane), sums);
            transpose8(square);
            for (size_t i = 0; i < QUAD && lane + i < count; i++) _mm256_storeu_ps(rows[lane + i] + c, square[i]);
        }
    }
    for (size_t c = whole; c < tile->value_dim; c++)
        for (size_t i = 0; i < count; i++) rows[i][c] = tile->value[c * LANES + i] / tile->sum[i];
}

/* ---- KDEformer's hash and row norms: always eight floats wide ---- */

enum { TOGETHER = 6 };

/* Eight bits' products of `rows` rows; projection [dim, 8]. */
INLINE void hash_rows(const size_t rows, const float *x, size_t stride, size_t dim, const float *projection,
    unsigned shift, uint16_t *code)
{
    __m256 sum[TOGETHER];
    for (size_t r = 0; r < rows; r++) sum[r] = _mm256_setzero_ps();
    for (size_t c = 0; c < dim; c++) {
        const __m256 column = _mm256_loadu_ps(projection + c * QUAD);
        for (size_t r = 0; r < rows; r++) sum[r] = _mm256_fmadd_ps(_mm256_set1_ps(x[r * stride + c]), column, sum[r]);
    }
    for (size_t r = 0; r < rows; r++) {
        const int positive = _mm256_movemask_ps(_mm256_cmp_ps(sum[r], _mm256_setzero_ps(), _CMP_GT_OQ));
        code[r] = (uint16_t)(code[r] | (unsigned)positive << shift);
    }
}

static void sign_hash(
    const float *x, size_t stride, size_t rows, size_t dim, const float *projection, size_t bits, uint16_t *code)
{
    enum { MOST_DIM = 256 };
    float padded[MOST_DIM * QUAD];
    memset(code, 0, rows * sizeof *code);
    if (dim > MOST_DIM) { /* wider heads than any model has: as plain C does it */
        for (size_t row = 0; row < rows; row++)
            for (size_t b = 0; b < bits; b++) {
                float dot = 0;
                for (size_t c = 0; c < dim; c++) dot += x[row * stride + c] * projection[c * bits + b];
                code[row] = (uint16_t)(code[row] | (dot > 0) << b);
            }
        return;
    }
    for (size_t begin = 0; begin < bits; begin += QUAD) {
        for (size_t c = 0; c < dim; c++)
            for (size_t b = 0; b < QUAD; b++)
                padded[c * QUAD + b] = begin + b < bits ? projection[c * bits + begin + b] : 0;
        size_t row = 0;
        for (; row + TOGETHER <= rows; row += TOGETHER)
            hash_rows(TOGETHER, x + row * stride, stride, dim, padded, (unsigned)begin, code + row);
        for (; row < rows; row++) hash_rows(1, x + row * stride, stride, dim, padded, (unsigned)begin, code + row);
    }
}

INLINE float sum_of(__m256 x)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

/* v . x */
INLINE float dot_product(const float *v, const float *x, size_t dim)
{
    __m256 even = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
    size_t c = 0;
    for (; c + 2 * QUAD <= dim; c += 2 * QUAD) {
        even = _mm256_fmadd_ps(_mm256_loadu_ps(v + c), _mm256_loadu_ps(x + c), even);
        odd = _mm256_fmadd_ps(_mm256_loadu_ps(v + c + QUAD), _mm256_loadu_ps(x + c + QUAD), odd);
    }
    float dot = sum_of(_mm256_add_ps(even, odd));
    for (; c < dim; c++) dot += v[c] * x[c];
    return dot;
}

/* The sums of eight vectors. */
INLINE __m256 sums_of(const __m256 x[QUAD])
{
    const __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    const __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(x[4], x[5]), _mm256_hadd_ps(x[6], x[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

/* dot[r] = v_r . x of eight rows; with `squares`, |v_r - x|^2. */
INLINE void eight_rows(const bool squares, const float *v, size_t stride, size_t dim, const float *x, float dot[QUAD])
{
    __m256 sum[QUAD];
    size_t c = 0;
    for (size_t r = 0; r < QUAD; r++) sum[r] = _mm256_setzero_ps();
    for (; c + QUAD <= dim; c += QUAD) {
        const __m256 column = _mm256_loadu_ps(x + c);
        for (size_t r = 0; r < QUAD; r++) {
            const __m256 row = _mm256_loadu_ps(v + r * stride + c);
            const __m256 difference = _mm256_sub_ps(row, column);
            sum[r] = squares ? _mm256_fmadd_ps(difference, difference, sum[r]) : _mm256_fmadd_ps(row, column, sum[r]);
        }
    }
    _mm256_storeu_ps(dot, sums_of(sum));
    for (; c < dim; c++)
        for (size_t r = 0; r < QUAD; r++) {
            const float row = v[r * stride + c], difference = row - x[c];
            dot[r] += squares ? difference * difference : row * x[c];
        }
}

/* run += w_r dot[r] of eight rows w_r = [v_r, 1]. */
INLINE void add_eight_rows(const float *v, size_t stride, size_t dim, const float dot[QUAD], float *run)
{
    size_t c = 0;
    for (; c + QUAD <= dim; c += QUAD) {
        __m256 even = _mm256_loadu_ps(run + c), odd = _mm256_setzero_ps();
        for (size_t r = 0; r < QUAD; r += 2) {
            even = _mm256_fmadd_ps(_mm256_set1_ps(dot[r]), _mm256_loadu_ps(v + r * stride + c), even);
            odd = _mm256_fmadd_ps(_mm256_set1_ps(dot[r + 1]), _mm256_loadu_ps(v + (r + 1) * stride + c), odd);
        }
        _mm256_storeu_ps(run + c, _mm256_add_ps(even, odd));
    }
    for (size_t r = 0; r < QUAD; r++) {
        for (size_t rest = c; rest < dim; rest++) run[rest] += dot[r] * v[r * stride + rest];
        run[dim] += dot[r];
    }
}

static void gram_times(const float *v, size_t stride, size_t rows, size_t dim, const float *x, float *run, double *out)
{
    for (size_t first = 0; first < rows; first += T2T_KEY_BLOCK) {
        const size_t end = first + T2T_KEY_BLOCK < rows ? first + T2T_KEY_BLOCK : rows;
        size_t row = first;
        memset(run, 0, (dim + 1) * sizeof *run);
        for (; row + QUAD <= end; row += QUAD) {
            float dot[QUAD];
            eight_rows(false, v + row * stride, stride, dim, x, dot);
            for (size_t r = 0; r < QUAD; r++) dot[r] += x[dim];
            add_eight_rows(v + row * stride, stride, dim, dot, run);
        }
        for (; row < end; row++) {
            const float *w = v + row * stride, dot = dot_product(w, x, dim) + x[dim];
            for (size_t c = 0; c < dim; c++) run[c] += dot * w[c];
            run[dim] += dot;
        }
        for (size_t c = 0; c <= dim; c++) out[c] += (double)run[c];
    }
}

static void row_norms(const float *v, size_t stride, size_t rows, size_t dim, float *norm)
{
    for (size_t row = 0; row < rows; row++) norm[row] = sqrtf(1 + dot_product(v + row * stride, v + row * stride, dim));
}

static void row_distances(const float *v, size_t stride, size_t rows, size_t dim, const float *centre, float *distance)
{
    size_t row = 0;
    for (; row + QUAD <= rows; row += QUAD) eight_rows(true, v + row * stride, stride, dim, centre, distance + row);
    for (; row < rows; row++) {
        distance[row] = 0;
        for (size_t c = 0; c < dim; c++)
            distance[row] += (v[row * stride + c] - centre[c]) * (v[row * stride + c] - centre[c]);
    }
    for (row = 0; row < rows; row++) distance[row] = sqrtf(distance[row]);
}

const struct attention_kernels LEVEL(t2t_kernels);
const struct attention_kernels LEVEL(t2t_kernels) = {
    .name = LEVEL_NAME,
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
    .row_distances = row_distances,
};
