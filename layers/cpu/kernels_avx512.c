/* The kernels with AVX-512: sixteen floats a vector, tiles of 32 queries. */
#include "layers/base/cpu_features.h"
#include "layers/cpu/avx512_vector.h"

#define LEVEL(name) name##_avx512
#define LEVEL_NAME "avx512"

static bool supported(void)
{
    return t2t_cpu_features().avx512;
}

#include "layers/cpu/attention_vector.h"
