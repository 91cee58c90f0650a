/* Attention in bfloat16 with AVX-512, for the files of kernels that have it: an instruction takes a pair of numbers from
 * each of sixteen lanes, so both products keep the shape that they have in float32, in half as many steps.
 */
/* Rows together: a block of keys and a head of 64 are multiples. */
enum { PAIR_ROWS = 8 };

/* Sixteen pairs from two vectors, one beside the other. */
INLINE __m512i pairs_of(__m512 first, __m512 second)
{
    const __m512i beside = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
        21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(beside, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

INLINE __mmask16 first_lanes(size_t count)
{
    return (__mmask16)(count >= WIDTH ? 0xffff : (1U << count) - 1);
}

/* 32 numbers of a row in their order, 0 behind the last of `count`. */
INLINE __m512i round_32(const float *x, size_t count)
{
    const __m512 low = _mm512_maskz_loadu_ps(first_lanes(count), x);
    const __m512 high =
        count > WIDTH ? _mm512_maskz_loadu_ps(first_lanes(count - WIDTH), x + WIDTH) : _mm512_setzero_ps();
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

static void round_numbers(const float *x, size_t count, uint16_t *out)
{
    size_t i = 0;
    for (; i + 2 * WIDTH <= count; i += 2 * WIDTH) _mm512_storeu_si512(out + i, round_32(x + i, 2 * WIDTH));
    if (i < count)
        _mm512_mask_storeu_epi16(out + i, (__mmask32)((UINT64_C(1) << (count - i)) - 1), round_32(x + i, count - i));
}

static void pack_keys(const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, bfloat16_pair *out)
{
    const size_t pairs = t2t_pairs(dim);
    for (size_t i = 0; i < rows; i++, out += pairs) {
        const float *row = x + (order ? order[i] : i) * stride;
        for (size_t c = 0; c < dim; c += 2 * WIDTH)
            _mm512_mask_storeu_epi32(out + c / 2, first_lanes(t2t_pairs(dim - c)), round_32(row + c, dim - c));
    }
}

/* A square of pairs, turned. */
INLINE void transpose16(__m512i row[T2T_PAIR_BLOCK])
{
    __m512i pair[T2T_PAIR_BLOCK], quad[T2T_PAIR_BLOCK];
    for (size_t i = 0; i < T2T_PAIR_BLOCK; i += 2) {
        pair[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        pair[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
    for (size_t i = 0; i < T2T_PAIR_BLOCK; i += 4)
        for (size_t h = 0; h < 2; h++) {
            quad[i + 2 * h] = _mm512_unpacklo_epi64(pair[i + h], pair[i + 2 + h]);
            quad[i + 2 * h + 1] = _mm512_unpackhi_epi64(pair[i + h], pair[i + 2 + h]);
        }
    /* A quad has four columns' numbers of four rows: 128 bits each of columns i, i + 4, i + 8 and i + 12. */
    for (size_t i = 0; i < 4; i++) {
        const __m512i low = _mm512_shuffle_i32x4(quad[i], quad[4 + i], 0x88);
        const __m512i high = _mm512_shuffle_i32x4(quad[8 + i], quad[12 + i], 0x88);
        const __m512i low_odd = _mm512_shuffle_i32x4(quad[i], quad[4 + i], 0xdd);
        const __m512i high_odd = _mm512_shuffle_i32x4(quad[8 + i], quad[12 + i], 0xdd);
        row[i] = _mm512_shuffle_i32x4(low, high, 0x88);
        row[i + 4] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
        row[i + 8] = _mm512_shuffle_i32x4(low, high, 0xdd);
        row[i + 12] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
    }
}

/* Pairs begin ... 15 of a block, of which rows fill the first; the rest becomes 0. */
INLINE void pack_value_block(
    const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, size_t begin, bfloat16_pair *block)
{
    for (size_t c = 0; c < dim; c += WIDTH) {
        const __mmask16 lanes = first_lanes(dim - c);
        __m512i square[T2T_PAIR_BLOCK];
        for (size_t p = 0; p < T2T_PAIR_BLOCK; p++) {
            const size_t i = 2 * (p - begin);
            square[p] = _mm512_setzero_si512();
            if (p < begin || i >= rows) continue;
            const float *first = x + (order ? order[i] : i) * stride + c;
            const float *second = i + 1 < rows ? x + (order ? order[i + 1] : i + 1) * stride + c : first;
            const __m512 beside = i + 1 < rows ? _mm512_maskz_loadu_ps(lanes, second) : _mm512_setzero_ps();
            square[p] = pairs_of(_mm512_maskz_loadu_ps(lanes, first), beside);
        }
        transpose16(square);
        for (size_t i = 0; i < WIDTH && c + i < dim; i++)
            _mm512_mask_storeu_epi32(block + (c + i) * T2T_PAIR_BLOCK, (__mmask16)(0xffff << begin), square[i]);
    }
}

static void pack_values(
    const float *x, size_t stride, const uint32_t *order, size_t rows, size_t dim, size_t at, bfloat16_pair *out)
{
    for (size_t done = 0, pair = at / 2; done < rows;) {
        const size_t begin = pair % T2T_PAIR_BLOCK, room = 2 * (T2T_PAIR_BLOCK - begin);
        const size_t count = rows - done < room ? rows - done : room;
        pack_value_block(order ? x : x + done * stride, stride, order ? order + done : NULL, count, dim, begin,
            out + pair / T2T_PAIR_BLOCK * dim * T2T_PAIR_BLOCK);
        done += count;
        pair += room / 2;
    }
}

/* 32 bits of a rounded row are a pair of channels: what remains is a transposition, eight queries and eight pairs at a
 * time. */
static void load_query_pairs(
    const float *const *rows, size_t count, size_t head_dim, float factor, bfloat16_pair *query)
{
    const __m512 factors = _mm512_set1_ps(factor);
    for (size_t lane = 0; lane < LANES; lane += QUAD)
        for (size_t c = 0; c < head_dim; c += WIDTH) {
            const size_t pairs = t2t_pairs(head_dim - c);
            __m256 square[QUAD];
            for (size_t i = 0; i < QUAD; i++) {
                const __mmask16 present = lane + i < count ? first_lanes(head_dim - c) : 0;
                const float *row = rows[lane + i < count ? lane + i : 0];
                square[i] = (__m256)_mm512_cvtneps_pbh(_mm512_mul_ps(factors, _mm512_maskz_loadu_ps(present, row + c)));
            }
            transpose8(square);
            for (size_t i = 0; i < QUAD && i < pairs; i++)
                _mm256_storeu_ps((float *)(void *)(query + (c / 2 + i) * LANES + lane), square[i]);
        }
}

/* out[r][lanes] += sum over t < depth of a[r * row_step + t * depth_step] . b[t][lanes], both of pairs. */
INLINE void pair_product_rows(const size_t halves, const size_t rows, const bfloat16_pair *a, size_t row_step,
    size_t depth_step, size_t depth, const bfloat16_pair *b, vec (*out)[2])
{
    for (size_t t = 0; t < depth; t++) {
        __m512i column[2];
        for (size_t h = 0; h < halves; h++) {
            column[h] = _mm512_loadu_si512(b + t * LANES + h * WIDTH);
            vec_keep(column[h]);
        }
        for (size_t r = 0; r < rows; r++) {
            const __m512bh factor = (__m512bh)_mm512_set1_epi32((int)a[r * row_step + t * depth_step]);
            for (size_t h = 0; h < halves; h++) out[r][h] = _mm512_dpbf16_ps(out[r][h], factor, (__m512bh)column[h]);
        }
    }
}

INLINE void pair_score_rows(const size_t halves, const size_t rows, const struct query_tile *tile,
    const struct bfloat16_run *run, size_t first, float *scores, vec maximum[2])
{
    const size_t pairs = t2t_pairs(tile->head_dim);
    vec sum[PAIR_ROWS][2];
    for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] = run->bias ? vec_set(run->bias[first + r]) : vec_set(0);
    pair_product_rows(
        halves, rows, run->k + first * pairs, pairs, 1, pairs, (const bfloat16_pair *)(const void *)tile->query, sum);
    keep_scores(halves, rows, sum, scores, maximum);
}

INLINE void pair_score_block(const size_t halves, const struct query_tile *tile, const struct bfloat16_run *run,
    size_t first, size_t count, vec maximum[2])
{
    float *scores = tile->scores;
    size_t j = 0;
    for (; j + PAIR_ROWS <= count; j += PAIR_ROWS)
        pair_score_rows(halves, PAIR_ROWS, tile, run, first + j, scores + j * LANES, maximum);
    for (; j + 4 <= count; j += 4) pair_score_rows(halves, 4, tile, run, first + j, scores + j * LANES, maximum);
    for (; j < count; j++) pair_score_rows(halves, 1, tile, run, first + j, scores + j * LANES, maximum);
}

/* Weights 2^(score - maximum) of two keys at a time: summed as they are, then rounded to pairs [pairs of keys, lanes]
 * at the beginning of the scores, behind which the reading is always ahead. */
INLINE void pair_weights(const size_t halves, float *scores, size_t count, const vec maximum[2], vec sum[2])
{
    bfloat16_pair *weights = (bfloat16_pair *)(void *)scores;
    for (size_t j = 0; j < count; j += 2)
        for (size_t h = 0; h < halves; h++) {
            const float *half = scores + j * LANES + h * WIDTH;
            const vec first = vec_exp2(vec_sub(vec_load(half), maximum[h]));
            const vec second = j + 1 < count ? vec_exp2(vec_sub(vec_load(half + LANES), maximum[h])) : vec_set(0);
            sum[h] = vec_add(sum[h], vec_add(first, second));
            _mm512_storeu_si512(weights + j / 2 * LANES + h * WIDTH, pairs_of(first, second));
        }
}

/* v: blocks of the run from the first key on. */
INLINE void pair_value_rows(const size_t halves, const size_t rows, const struct query_tile *tile,
    const bfloat16_pair *v, size_t pairs, size_t column, const vec rescale[2])
{
    const bfloat16_pair *weights = (const bfloat16_pair *)(const void *)tile->scores;
    vec sum[PAIR_ROWS][2];
    for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] = vec_set(0);
    for (size_t first = 0; first < pairs; first += T2T_PAIR_BLOCK) {
        const size_t depth = pairs - first < T2T_PAIR_BLOCK ? pairs - first : T2T_PAIR_BLOCK;
        pair_product_rows(halves, rows, v + first * tile->value_dim + column * T2T_PAIR_BLOCK, T2T_PAIR_BLOCK, 1, depth,
            weights + first * LANES, sum);
    }
    add_values(halves, rows, sum, tile->value + column * LANES, rescale);
}

INLINE void pair_value_block(
    const size_t halves, const struct query_tile *tile, const bfloat16_pair *v, size_t pairs, const vec rescale[2])
{
    size_t c = 0;
    for (; c + PAIR_ROWS <= tile->value_dim; c += PAIR_ROWS)
        pair_value_rows(halves, PAIR_ROWS, tile, v, pairs, c, rescale);
    for (; c + 4 <= tile->value_dim; c += 4) pair_value_rows(halves, 4, tile, v, pairs, c, rescale);
    for (; c < tile->value_dim; c++) pair_value_rows(halves, 1, tile, v, pairs, c, rescale);
}
