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

/* ---- hash and sums over rows ---- */

/* Rows of any width: calls of a library function a row would take longer than the copies. */
static void gather_rows(const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, float *out)
{
    for (size_t i = 0; i < rows; i++, out += dim) {
        const float *row = x + order[i] * stride;
        size_t c = 0;
        for (; c + WIDTH <= dim; c += WIDTH) vec_store(out + c, vec_load(row + c));
        for (; c < dim; c++) out[c] = row[c];
    }
}

/* Rows hashed together: their sums do not wait for each other and fit the registers. */
enum { TOGETHER = 10, LINE = 16 /* floats of a cache line */ };

/* Channels of a row that a vector multiplies at a time, each by eight bits' projections: lane CHANNELS b + i has bit b and
 * channel i. */
enum { CHANNELS = WIDTH / QUAD };

/* Asks for rows that are wanted soon: rows of a strided matrix are not foreseen by the processor. */
INLINE void prefetch_rows(const float *x, size_t stride, size_t dim, size_t first, size_t rows)
{
    for (size_t r = first; r < first + TOGETHER && r < rows; r++)
        for (size_t c = 0; c < dim; c += LINE) _mm_prefetch((const char *)(x + r * stride + c), _MM_HINT_T0);
}

/* Eight bits' products of `rows` rows; projection [dim / CHANNELS rounded up, lanes], 0 behind the last channel. */
INLINE void hash_rows(const size_t rows, const float *x, size_t stride, size_t dim, const float *projection,
    unsigned shift, uint16_t *code)
{
    vec sum[TOGETHER];
    size_t c = 0;
    for (size_t r = 0; r < rows; r++) sum[r] = vec_set(0);
    for (; c + CHANNELS <= dim; c += CHANNELS) {
        vec column = vec_load(projection + c * QUAD);
        vec_keep(column);
        for (size_t r = 0; r < rows; r++) sum[r] = vec_fma(vec_channels(x + r * stride + c), column, sum[r]);
    }
    if (c < dim)
        for (size_t r = 0; r < rows; r++)
            sum[r] = vec_fma(vec_set(x[r * stride + c]), vec_load(projection + c * QUAD), sum[r]);
    for (size_t r = 0; r < rows; r++) {
        const int positive = _mm256_movemask_ps(_mm256_cmp_ps(vec_fold(sum[r]), _mm256_setzero_ps(), _CMP_GT_OQ));
        code[r] = (uint16_t)(code[r] | (unsigned)positive << shift);
    }
}

static void sign_hash(
    const float *x, size_t stride, size_t rows, size_t dim, const float *projection, size_t bits, uint16_t *code)
{
    enum { MOST_DIM = 256 };
    float padded[MOST_DIM * QUAD];
    const size_t whole = (dim + CHANNELS - 1) / CHANNELS * CHANNELS;
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
        for (size_t c = 0; c < whole; c++)
            for (size_t b = 0; b < QUAD; b++)
                padded[c / CHANNELS * WIDTH + b * CHANNELS + c % CHANNELS] =
                    begin + b < bits && c < dim ? projection[c * bits + begin + b] : 0;
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

/* Where eight rows begin: of each three the first, the others are one and two steps from it. */
INLINE void find_rows(const float *x, size_t stride, const float *row[(QUAD + 2) / 3])
{
    for (size_t i = 0; i < (QUAD + 2) / 3; i++) {
        row[i] = x + 3 * i * stride;
        __asm__("" : "+r"(row[i])); /* compilers otherwise remember the place of each row's every vector */
    }
}

/* run += W^T W x over eights of rows, as many as there are, with sums in registers: a row is `chunks` vectors, a constant
 * wherever this is called. Returns how many rows that were. */
INLINE size_t gram_of_chunks(
    const size_t chunks, const float *v, size_t stride, size_t rows, const float *x, float *run)
{
    enum { MOST_CHUNKS = 8 };
    const size_t dim = chunks * WIDTH;
    __m256 total = _mm256_setzero_ps();
    vec sum[MOST_CHUNKS];
    size_t first = 0;
    for (size_t i = 0; i < chunks; i++) sum[i] = vec_load(run + i * WIDTH);
    for (; first + QUAD <= rows; first += QUAD) {
        const float *row[(QUAD + 2) / 3];
        __m256 eight[QUAD];
        float dot[QUAD];
        find_rows(v + first * stride, stride, row);
        for (size_t r = 0; r < QUAD; r++) {
            vec product = vec_mul(vec_load(row[r / 3] + r % 3 * stride), vec_load(x));
            for (size_t i = 1; i < chunks; i++)
                product = vec_fma(vec_load(row[r / 3] + r % 3 * stride + i * WIDTH), vec_load(x + i * WIDTH), product);
            eight[r] = vec_eight(product);
        }
        const __m256 dots = _mm256_add_ps(sums_of(eight), _mm256_set1_ps(x[dim]));
        total = _mm256_add_ps(total, dots);
        _mm256_storeu_ps(dot, dots);
        for (size_t r = 0; r < QUAD; r++)
            for (size_t i = 0; i < chunks; i++)
                sum[i] = vec_fma(vec_load(row[r / 3] + r % 3 * stride + i * WIDTH), vec_set(dot[r]), sum[i]);
    }
    for (size_t i = 0; i < chunks; i++) vec_store(run + i * WIDTH, sum[i]);
    run[dim] += sum_of(total);
    return first;
}

static void gram_times(const float *v, size_t stride, size_t rows, size_t dim, const float *x, float *run, double *out)
{
    for (size_t first = 0; first < rows; first += T2T_KEY_BLOCK) {
        const size_t end = first + T2T_KEY_BLOCK < rows ? first + T2T_KEY_BLOCK : rows;
        size_t row = first;
        memset(run, 0, (dim + 1) * sizeof *run);
        if (dim == 64) row += gram_of_chunks(64 / WIDTH, v + row * stride, stride, end - row, x, run); /* T2T-ViT's */
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
    size_t row = 0;
    for (; row + QUAD <= rows && dim % WIDTH == 0; row += QUAD) {
        const float *first[(QUAD + 2) / 3];
        __m256 eight[QUAD];
        find_rows(v + row * stride, stride, first);
        for (size_t r = 0; r < QUAD; r++) {
            vec squares = vec_set(0);
            for (size_t c = 0; c < dim; c += WIDTH) {
                const vec part = vec_load(first[r / 3] + r % 3 * stride + c);
                squares = vec_fma(part, part, squares);
            }
            eight[r] = vec_eight(squares);
        }
        _mm256_storeu_ps(norm + row, _mm256_sqrt_ps(_mm256_add_ps(_mm256_set1_ps(1), sums_of(eight))));
    }
    for (; row < rows; row++) norm[row] = sqrtf(1 + dot_product(v + row * stride, v + row * stride, dim));
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
