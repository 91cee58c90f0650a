/* Choosing among the sets of kernels at run time. */
#include "layers/cpu/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct attention_kernels t2t_kernels_c;
#ifdef __x86_64__
extern const struct attention_kernels t2t_kernels_avx2, t2t_kernels_avx512, t2t_kernels_avx512_bf16,
    t2t_kernels_amx_bf16;
#endif

const struct attention_kernels *const t2t_kernel_sets[] = {
#ifdef __x86_64__
    &t2t_kernels_amx_bf16, &t2t_kernels_avx512_bf16, &t2t_kernels_avx512, &t2t_kernels_avx2,
#endif
    &t2t_kernels_c, NULL};

static void list_names(char *text, size_t bytes)
{
    size_t used = 0;
    for (size_t i = 0; t2t_kernel_sets[i] && used < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", i ? ", " : "", t2t_kernel_sets[i]->name);
}

enum t2t_status t2t_kernels_choose(const struct attention_kernels **kernels)
{
    const char *wanted = getenv("T2TVIT_CPU");
    if (wanted && !*wanted) wanted = NULL;
    for (size_t i = 0; t2t_kernel_sets[i]; i++) {
        const struct attention_kernels *set = t2t_kernel_sets[i];
        if (wanted && strcmp(wanted, set->name) != 0) continue;
        if (!set->supported()) {
            if (!wanted) continue;
            return t2t_fail(T2T_NO_RESOURCE, "T2TVIT_CPU asks for %s, which this processor does not have", wanted);
        }
        if (!wanted && set->slow && set->slow()) continue;
        *kernels = set;
        return T2T_OK;
    }
    char known[64];
    list_names(known, sizeof known);
    return t2t_fail(T2T_BAD_USAGE, "T2TVIT_CPU=%.40s is no set of kernels; known are %s", wanted, known);
}

void t2t_round_to_bfloat16(const struct attention_kernels *kernels, const float *x, size_t count, uint16_t *out)
{
    (kernels->bfloat16 ? kernels->bfloat16 : &t2t_bfloat16_c)->round(x, count, out);
}
