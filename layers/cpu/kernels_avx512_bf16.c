/* The kernels with AVX-512 on processors that also multiply bfloat16: an instruction takes a pair of numbers from each
 * of sixteen lanes, so both products of attention keep the shape that they have in float32, in half as many steps.
 */
#include "layers/base/cpu_features.h"
#include "layers/cpu/avx512_vector.h"

#define LEVEL(name) name##_avx512_bf16
#define LEVEL_NAME "avx512_bf16"
#define LEVEL_BFLOAT16 bfloat16_kernels
#define LEVEL_SLOW slow

static bool supported(void)
{
    return t2t_cpu_features().avx512bf16;
}

static bool slow(void)
{
    return t2t_cpu_features().slow_bf16;
}

static const struct bfloat16_kernels bfloat16_kernels;

#include "layers/cpu/attention_vector.h"

#include "layers/cpu/bfloat16_vector.h"

INLINE void pair_attend_halves(const size_t halves, const struct query_tile *tile, const struct bfloat16_run *run)
{
    for (size_t first = 0, count; first < run->keys; first += count) {
        count = t2t_pairs_together(run->keys - first);
        vec maximum[2], rescale[2], sum[2] = {vec_set(0), vec_set(0)};
        for (size_t h = 0; h < halves; h++) maximum[h] = vec_load(tile->maximum + h * WIDTH);
        pair_score_block(halves, tile, run, first, count, maximum);
        pair_weights(halves, tile->scores, count, maximum, sum);
        raise_maximum(halves, tile, maximum, sum, rescale);
        pair_value_block(halves, tile, run->v + first / 2 * tile->value_dim, t2t_pairs(count), rescale);
    }
}

static void pair_attend_all(const struct query_tile *tile, const struct bfloat16_run *run)
{
    pair_attend_halves(2, tile, run);
}

static void pair_attend_narrow(const struct query_tile *tile, const struct bfloat16_run *run)
{
    pair_attend_halves(1, tile, run);
}

static void pair_attend(const struct query_tile *tile, const struct bfloat16_run *run)
{
    (run->narrow ? pair_attend_narrow : pair_attend_all)(tile, run);
}

static const struct bfloat16_kernels bfloat16_kernels = {
    .load_queries = load_query_pairs,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
    .attend = pair_attend,
    .round = round_numbers,
};
