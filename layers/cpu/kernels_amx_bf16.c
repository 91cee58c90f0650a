/* The kernels with AVX-512 on processors with a matrix unit, AMX, for bfloat16: a tile of sixteen rows of sixteen pairs
 * times another, two for the lanes of a tile of queries. Where queries, keys and values lie is what tiles are loaded from.
 * Keys that fill no tile, and heads whose dimensions are no multiple of one, are left to AVX-512.
 */
#include <string.h>

#include "layers/base/cpu_features.h"
#include "layers/cpu/avx512_vector.h"

#define LEVEL(name) name##_amx_bf16
#define LEVEL_NAME "amx_bf16"
#define LEVEL_BFLOAT16 bfloat16_kernels

static bool supported(void)
{
    return t2t_cpu_features().amx_bf16;
}

static const struct bfloat16_kernels bfloat16_kernels;

#include "layers/cpu/attention_vector.h"

#include "layers/cpu/bfloat16_vector.h"

/* A tile's side in rows, and in pairs or float32 numbers of a row. Numbers of the registers are part of instructions. */
enum { SIDE = T2T_PAIR_BLOCK };
#define FIRST_SUM 0
#define SECOND_SUM 1
#define LEFT 2
#define FIRST_RIGHT 3
#define SECOND_RIGHT 4

_Static_assert(SIDE == WIDTH, "half the lanes of a tile of queries are a tile's row");

/* Every tile is whole. Whoever used tiles before, as the library of products does, may have left others. */
static void configure_tiles(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } configuration = {.palette = 1};
    _Static_assert(sizeof configuration == 64, "as the processor reads it");
    for (size_t i = 0; i <= SECOND_RIGHT; i++) {
        configuration.row_bytes[i] = SIDE * sizeof(float);
        configuration.rows[i] = SIDE;
    }
    _tile_loadconfig(&configuration);
}

/* Adds to both sums left [16, 16 pairs], rows `left_step` pairs apart, times right [16 pairs, lanes]. */
INLINE void multiply_tiles(const size_t halves, const bfloat16_pair *left, size_t left_step, const bfloat16_pair *right)
{
    _tile_loadd(LEFT, left, left_step * sizeof *left);
    _tile_loadd(FIRST_RIGHT, right, LANES * sizeof *right);
    _tile_dpbf16ps(FIRST_SUM, LEFT, FIRST_RIGHT);
    if (halves == 1) return;
    _tile_loadd(SECOND_RIGHT, right + WIDTH, LANES * sizeof *right);
    _tile_dpbf16ps(SECOND_SUM, LEFT, SECOND_RIGHT);
}

INLINE void clear_sums(const size_t halves)
{
    _tile_zero(FIRST_SUM);
    if (halves == 2) _tile_zero(SECOND_SUM);
}

/* out [16, lanes] */
INLINE void store_sums(const size_t halves, float *out)
{
    _tile_stored(FIRST_SUM, out, LANES * sizeof *out);
    if (halves == 2) _tile_stored(SECOND_SUM, out + WIDTH, LANES * sizeof *out);
}

/* Scores of keys first ... first + count - 1. */
INLINE void tile_score_block(const size_t halves, const struct query_tile *tile, const struct bfloat16_run *run,
    size_t first, size_t count, vec maximum[2])
{
    const bfloat16_pair *query = (const bfloat16_pair *)(const void *)tile->query;
    const size_t pairs = t2t_pairs(tile->head_dim);
    float *scores = tile->scores;
    size_t j = 0;
    for (; j + SIDE <= count; j += SIDE) {
        clear_sums(halves);
        for (size_t p = 0; p < pairs; p += SIDE)
            multiply_tiles(halves, run->k + (first + j) * pairs + p, pairs, query + p * LANES);
        store_sums(halves, scores + j * LANES);
        for (size_t r = 0; r < SIDE; r++)
            for (size_t h = 0; h < halves; h++) {
                float *half = scores + (j + r) * LANES + h * WIDTH;
                const vec score = vec_add(vec_load(half), vec_set(run->bias ? run->bias[first + j + r] : 0));
                maximum[h] = vec_max(maximum[h], score);
                vec_store(half, score);
            }
    }
    for (; j + 4 <= count; j += 4) pair_score_rows(halves, 4, tile, run, first + j, scores + j * LANES, maximum);
    for (; j < count; j++) pair_score_rows(halves, 1, tile, run, first + j, scores + j * LANES, maximum);
}

/* v: blocks of the run from the first key on. Weights behind the last pair become 0, as values there are. */
INLINE void tile_value_block(
    const size_t halves, const struct query_tile *tile, const bfloat16_pair *v, size_t pairs, const vec rescale[2])
{
    bfloat16_pair *weights = (bfloat16_pair *)(void *)tile->scores;
    const size_t whole = (pairs + SIDE - 1) / SIDE * SIDE;
    float sums[SIDE * LANES];
    memset(weights + pairs * LANES, 0, (whole - pairs) * LANES * sizeof *weights);
    for (size_t c = 0; c < tile->value_dim; c += SIDE) {
        clear_sums(halves);
        for (size_t p = 0; p < pairs; p += SIDE)
            multiply_tiles(halves, v + p * tile->value_dim + c * SIDE, SIDE, weights + p * LANES);
        store_sums(halves, sums);
        for (size_t r = 0; r < SIDE; r++)
            for (size_t h = 0; h < halves; h++) {
                float *half = tile->value + (c + r) * LANES + h * WIDTH;
                vec_store(half, vec_fma(vec_load(half), rescale[h], vec_load(sums + r * LANES + h * WIDTH)));
            }
    }
}

static void begin_products(void)
{
    configure_tiles();
}

static void end_products(void)
{
    _tile_release();
}

INLINE void score_keys(const size_t halves, const struct query_tile *tile, const struct bfloat16_run *run, size_t first,
    size_t count, vec maximum[2])
{
    if (tile->head_dim % (2 * SIDE) == 0)
        tile_score_block(halves, tile, run, first, count, maximum);
    else
        pair_score_block(halves, tile, run, first, count, maximum);
}

INLINE void add_keys(
    const size_t halves, const struct query_tile *tile, const bfloat16_pair *v, size_t pairs, const vec rescale[2])
{
    if (tile->value_dim % SIDE == 0)
        tile_value_block(halves, tile, v, pairs, rescale);
    else
        pair_value_block(halves, tile, v, pairs, rescale);
}

#include "layers/cpu/bfloat16_attend.h"
