/* Resampling with AVX2.
 *
 * A weight of 24 bits is split into high * 2^15 + low, both of which fit 16 bits with a sign, so that one instruction
 * multiplies two inputs and adds the products. Sums of 32 bits wrap alike however they are grouped, so the bytes are
 * those of plain C.
 */
#include <immintrin.h>
#include <string.h>

#include "layers/base/cpu_features.h"
#include "loaders/resample_kernels.h"

enum { LOW_BITS = 15, FOUR = 4 };

static bool supported(void)
{
    return t2t_cpu_features().avx2_fma;
}

/* high 2^15 + low, rounded to whole numbers. */
static inline __m256i finish(__m256i high, __m256i low)
{
    const __m256i half = _mm256_set1_epi32(1 << (RESAMPLE_FRACTION_BITS - 1));
    return _mm256_srai_epi32(
        _mm256_add_epi32(_mm256_add_epi32(_mm256_slli_epi32(high, LOW_BITS), low), half), RESAMPLE_FRACTION_BITS);
}

/* ---- along rows ---- */

/* Four weights as pairs: weights 0 and 1 in every place of the lower lane, 2 and 3 in the upper one. */
struct four_taps {
    __m256i high, low;
};

static inline struct four_taps load_taps(const int32_t *tap, size_t left)
{
    const __m128i mask = _mm_cmpgt_epi32(_mm_set1_epi32((int)(left < FOUR ? left : FOUR)), _mm_setr_epi32(0, 1, 2, 3));
    const __m128i four = _mm_maskload_epi32(tap, mask);
    const __m128i high = _mm_srai_epi32(four, LOW_BITS);
    const __m128i low = _mm_and_si128(four, _mm_set1_epi32((1 << LOW_BITS) - 1));
    const __m256i both = _mm256_castsi128_si256(_mm_packs_epi32(high, low)); /* high 0 ... 3, low 0 ... 3 */
    return (struct four_taps){_mm256_permutevar8x32_epi32(both, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1)),
        _mm256_permutevar8x32_epi32(both, _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3))};
}

/* Pixels 0 ... 3 at `from`, channel by channel as 16 bits: r0 r1 g0 g1 b0 b1 0 0, then the same of 2 and 3. */
static inline __m256i load_pixels(const uint8_t *from)
{
    const __m256i order = _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, /* 0 and 1 */
        6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)from)), order);
}

/* The lanes' sums of r, g, b to three bytes. */
static inline void store_pixel(__m256i high, __m256i low, uint8_t *out)
{
    high = _mm256_add_epi32(high, _mm256_permute2x128_si256(high, high, 1));
    low = _mm256_add_epi32(low, _mm256_permute2x128_si256(low, low, 1));
    const __m128i value = _mm256_castsi256_si128(finish(high, low));
    const __m128i words = _mm_packs_epi32(value, value), bytes = _mm_packus_epi16(words, words);
    const uint32_t pixel = (uint32_t)_mm_cvtsi128_si32(bytes);
    memcpy(out, &pixel, 2);
    out[2] = (uint8_t)(pixel >> 16);
}

/* Result i of ROWS rows at once: they share the weights. */
enum { ROWS = 4, READ = 16 /* bytes of a load */ };

static inline void results_of_rows(const uint8_t *in, size_t stride, const struct resample_weights *weights, size_t i,
    size_t rows, size_t out_stride, uint8_t *out)
{
    const uint8_t *from = in + weights->first[i] * 3;
    const int32_t *tap = weights->tap + i * weights->taps;
    __m256i high[ROWS], low[ROWS];
    for (size_t y = 0; y < rows; y++) high[y] = low[y] = _mm256_setzero_si256();
    for (size_t t = 0; t < weights->used[i]; t += FOUR) {
        const struct four_taps taps = load_taps(tap + t, weights->used[i] - t);
        for (size_t y = 0; y < rows; y++) {
            const __m256i pixels = load_pixels(from + y * stride + 3 * t);
            high[y] = _mm256_add_epi32(high[y], _mm256_madd_epi16(pixels, taps.high));
            low[y] = _mm256_add_epi32(low[y], _mm256_madd_epi16(pixels, taps.low));
        }
    }
    for (size_t y = 0; y < rows; y++) store_pixel(high[y], low[y], out + y * out_stride);
}

/* Result i of the row at `in`, of which `bytes` may be read. */
static void result_at_end(
    const uint8_t *in, size_t bytes, const struct resample_weights *weights, size_t i, uint8_t *out)
{
    const int32_t *tap = weights->tap + i * weights->taps;
    __m256i high = _mm256_setzero_si256(), low = high;
    for (size_t t = 0; t < weights->used[i]; t += FOUR) {
        const size_t at = (weights->first[i] + t) * 3, left = bytes - at;
        uint8_t pixels[READ] = {0};
        memcpy(pixels, in + at, left < READ ? left : READ);
        const struct four_taps taps = load_taps(tap + t, weights->used[i] - t);
        const __m256i loaded = load_pixels(pixels);
        high = _mm256_add_epi32(high, _mm256_madd_epi16(loaded, taps.high));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(loaded, taps.low));
    }
    store_pixel(high, low, out);
}

static void along_rows(
    const uint8_t *in, size_t stride, size_t rows, const struct resample_weights *weights, size_t count, uint8_t *out)
{
    const size_t out_stride = 3 * count;
    size_t whole = rows; /* rows behind which a load may reach into the next */
    while (whole && (rows - whole) * stride < READ) whole--;
    size_t y = 0;
    for (; y + ROWS <= whole; y += ROWS)
        for (size_t i = 0; i < count; i++)
            results_of_rows(in + y * stride, stride, weights, i, ROWS, out_stride, out + y * out_stride + 3 * i);
    for (; y < whole; y++)
        for (size_t i = 0; i < count; i++)
            results_of_rows(in + y * stride, stride, weights, i, 1, out_stride, out + y * out_stride + 3 * i);
    for (; y < rows; y++)
        for (size_t i = 0; i < count; i++)
            result_at_end(in + y * stride, (rows - y) * stride, weights, i, out + y * out_stride + 3 * i);
}

/* ---- along columns ---- */

/* RUN results, of which `left` are there. */
enum { RUN = 32, PARTS = 4 };

/* Bytes of two rows side by side, as 16 bits: results 0-3 and 16-19, 4-7 and 20-23, ... */
static inline void load_pairs(const uint8_t *one, const uint8_t *two, __m256i pair[PARTS])
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i a = _mm256_loadu_si256((const void *)one);
    const __m256i b = two ? _mm256_loadu_si256((const void *)two) : zero;
    const __m256i lower = _mm256_unpacklo_epi8(a, b), upper = _mm256_unpackhi_epi8(a, b);
    pair[0] = _mm256_unpacklo_epi8(lower, zero);
    pair[1] = _mm256_unpackhi_epi8(lower, zero);
    pair[2] = _mm256_unpacklo_epi8(upper, zero);
    pair[3] = _mm256_unpackhi_epi8(upper, zero);
}

static inline __m256i two_weights(int32_t one, int32_t two)
{
    return _mm256_set1_epi32((int)((uint32_t)(uint16_t)one | (uint32_t)two << 16));
}

static void run_of_columns(const uint8_t *in, size_t bytes, const int32_t *tap, size_t used, uint8_t *out)
{
    __m256i high[PARTS], low[PARTS], pair[PARTS];
    for (size_t p = 0; p < PARTS; p++) high[p] = low[p] = _mm256_setzero_si256();
    for (size_t t = 0; t < used; t += 2) {
        const bool two = t + 1 < used;
        const int32_t next = two ? tap[t + 1] : 0, mask = (1 << LOW_BITS) - 1;
        const __m256i high_weights = two_weights(tap[t] >> LOW_BITS, next >> LOW_BITS);
        const __m256i low_weights = two_weights(tap[t] & mask, next & mask);
        load_pairs(in + t * bytes, two ? in + (t + 1) * bytes : NULL, pair);
        for (size_t p = 0; p < PARTS; p++) {
            high[p] = _mm256_add_epi32(high[p], _mm256_madd_epi16(pair[p], high_weights));
            low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(pair[p], low_weights));
        }
    }
    __m256i value[PARTS];
    for (size_t p = 0; p < PARTS; p++) value[p] = finish(high[p], low[p]);
    const __m256i words[2] = {_mm256_packs_epi32(value[0], value[1]), _mm256_packs_epi32(value[2], value[3])};
    _mm256_storeu_si256((void *)out, _mm256_packus_epi16(words[0], words[1]));
}

static void along_columns(const uint8_t *in, size_t bytes, const int32_t *tap, size_t used, uint8_t *out)
{
    size_t x = 0;
    for (; x + RUN <= bytes; x += RUN) run_of_columns(in + x, bytes, tap, used, out + x);
    if (x == bytes) return;
    if (bytes >= RUN) { /* the last run again takes some of the one before */
        run_of_columns(in + bytes - RUN, bytes, tap, used, out + bytes - RUN);
        return;
    }
    for (; x < bytes; x++) {
        int32_t sum = 1 << (RESAMPLE_FRACTION_BITS - 1);
        for (size_t t = 0; t < used; t++) sum += in[t * bytes + x] * tap[t];
        out[x] = t2t_resample_rounded(sum);
    }
}

const struct resample_kernels t2t_resample_avx2 = {
    .name = "avx2", .supported = supported, .along_rows = along_rows, .along_columns = along_columns};
