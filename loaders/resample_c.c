/* Resampling in plain C, and the choice among the sets of kernels. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "loaders/resample_kernels.h"

static void along_rows(
    const uint8_t *in, size_t stride, size_t rows, const struct resample_weights *weights, size_t count, uint8_t *out)
{
    for (size_t y = 0; y < rows; y++)
        for (size_t i = 0; i < count; i++, out += 3) {
            const uint8_t *from = in + y * stride + weights->first[i] * 3;
            const int32_t *tap = weights->tap + i * weights->taps;
            int32_t r = 1 << (RESAMPLE_FRACTION_BITS - 1), g = r, b = r;
            for (size_t t = 0; t < weights->used[i]; t++) {
                r += from[3 * t] * tap[t];
                g += from[3 * t + 1] * tap[t];
                b += from[3 * t + 2] * tap[t];
            }
            out[0] = t2t_resample_rounded(r);
            out[1] = t2t_resample_rounded(g);
            out[2] = t2t_resample_rounded(b);
        }
}

static void along_columns(const uint8_t *in, size_t bytes, const int32_t *tap, size_t used, uint8_t *out)
{
    enum { RUN = 256 };
    for (size_t first = 0; first < bytes; first += RUN) {
        const size_t count = bytes - first < RUN ? bytes - first : RUN;
        int32_t sum[RUN];
        for (size_t x = 0; x < count; x++) sum[x] = 1 << (RESAMPLE_FRACTION_BITS - 1);
        for (size_t t = 0; t < used; t++)
            for (size_t x = 0; x < count; x++) sum[x] += in[t * bytes + first + x] * tap[t];
        for (size_t x = 0; x < count; x++) out[first + x] = t2t_resample_rounded(sum[x]);
    }
}

static bool always(void)
{
    return true;
}

static const struct resample_kernels plain_c = {
    .name = "c", .supported = always, .along_rows = along_rows, .along_columns = along_columns};

#ifdef __x86_64__
extern const struct resample_kernels t2t_resample_avx2;
#endif

const struct resample_kernels *const t2t_resample_sets[] = {
#ifdef __x86_64__
    &t2t_resample_avx2,
#endif
    &plain_c, NULL};

static const struct resample_kernels *choose(void)
{
    const char *wanted = getenv("T2TVIT_CPU");
    size_t i = 0;
    if (wanted && strcmp(wanted, plain_c.name) == 0) return &plain_c;
    while (!t2t_resample_sets[i]->supported()) i++;
    return t2t_resample_sets[i];
}

const struct resample_kernels *t2t_resample_choose(void)
{
    static const struct resample_kernels *_Atomic chosen; /* asking the processor takes longer than a row of pixels */
    const struct resample_kernels *set = atomic_load(&chosen);
    if (!set) atomic_store(&chosen, set = choose());
    return set;
}
