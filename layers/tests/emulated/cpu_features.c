/* What the processor has, and AVX-512 or tiles, which here stand for their emulation: t2t_cpu_features() for programs
 * linked with --wrap. */
#include "layers/base/cpu_features.h"

struct t2t_cpu_features __real_t2t_cpu_features(void);
struct t2t_cpu_features __wrap_t2t_cpu_features(void);

struct t2t_cpu_features __wrap_t2t_cpu_features(void)
{
    struct t2t_cpu_features features = __real_t2t_cpu_features();
#ifdef T2T_EMULATED_TILES
    features.amx_bf16 = features.avx512bf16;
#else
    features.avx512 = true;
#endif
    return features;
}
