/* KDEformer's kernels for any vector width: what attention_vector.h includes besides the kernels of attention. */

/* ---- column norms of a few queries' softmax ---- */

/* Softmax of scores [keys, lanes] and the sums of its squares. */
INLINE void add_squares(
    const size_t halves, const vec maximum[2], float *scores, size_t keys, const bool *used, float *squares)
{
    vec sum[2] = {vec_set(0), vec_set(0)}, weight[2];
    float sums[LANES];
    exponentials(halves, scores, keys, maximum, sum);
    for (size_t h = 0; h < halves; h++) vec_store(sums + h * WIDTH, sum[h]);
    for (size_t i = 0; i < halves * WIDTH; i++) sums[i] = used[i] ? 1 / sums[i] : 0;
    for (size_t h = 0; h < halves; h++) weight[h] = vec_load(sums + h * WIDTH);
    for (size_t j = 0; j < keys; j++, squares += T2T_QUARTERS) {
        vec added = vec_set(0);
        for (size_t h = 0; h < halves; h++) {
            const vec a = vec_mul(vec_load(scores + j * LANES + h * WIDTH), weight[h]);
            added = vec_fma(a, a, added);
        }
        _mm_storeu_ps(squares, _mm_add_ps(_mm_loadu_ps(squares), vec_quarters(added)));
    }
}

static void column_squares(
    const struct query_tile *tile, const struct key_run *run, const bool *used, float *scores, float *squares)
{
    vec maximum[2] = {vec_set(-INFINITY), vec_set(-INFINITY)};
    if (run->narrow) {
        score_block(1, tile, run, 0, run->keys, scores, maximum);
        add_squares(1, maximum, scores, run->keys, used, squares);
    } else {
        score_block(2, tile, run, 0, run->keys, scores, maximum);
        add_squares(2, maximum, scores, run->keys, used, squares);
    }
}

/* ---- hash and sums over rows: always eight floats wide ---- */

/* Rows hashed together: their sums do not wait for each other and fit the registers. */
enum { TOGETHER = 10, LINE = 16 /* floats of a cache line */ };

/* Asks for rows that are wanted soon: rows of a strided matrix are not foreseen by the processor. */
INLINE void prefetch_rows(const float *x, size_t stride, size_t dim, size_t first, size_t rows)
{
    for (size_t r = first; r < first + TOGETHER && r < rows; r++)
        for (size_t c = 0; c < dim; c += LINE) _mm_prefetch((const char *)(x + r * stride + c), _MM_HINT_T0);
}

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
        for (; row + TOGETHER <= rows; row += TOGETHER) {
            prefetch_rows(x, stride, dim, row + 4 * TOGETHER, rows);
            hash_rows(TOGETHER, x + row * stride, stride, dim, padded, (unsigned)begin, code + row);
        }
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
