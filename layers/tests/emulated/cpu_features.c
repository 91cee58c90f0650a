/* What the processor has, and AVX-512, which here stands for its emulation: t2t_cpu_features() for programs linked with
 * --wrap. */
#include "layers/base/cpu_features.h"

struct t2t_cpu_features __real_t2t_cpu_features(void);
struct t2t_cpu_features __wrap_t2t_cpu_features(void);

struct t2t_cpu_features __wrap_t2t_cpu_features(void)
{
    struct t2t_cpu_features features = __real_t2t_cpu_features();
    features.avx512 = true;
    return features;
}
