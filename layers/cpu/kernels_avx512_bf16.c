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

static void begin_products(void) {}

static void end_products(void) {}

#define score_keys pair_score_block
#define add_keys pair_value_block

#include "layers/cpu/bfloat16_attend.h"
