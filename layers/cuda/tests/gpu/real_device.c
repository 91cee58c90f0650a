/* The module on a real device in the place of the emulation, for the same tests: it cannot be slowed down or counted, so
 * what asks for that does nothing. Without a device the program ends with 77, which ctest takes for "skipped".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emulation/schedule.h"
#include "emulation/streams.h"
#include "layers/cuda/cuda_ops.h"
#include "layers/devices.h"

enum { SKIPPED = 77 };

/* A module that a machine with a device cannot use is a failure. */
static int code_of(const char *reason)
{
    static const char *const absent[] = {"no NVIDIA driver", "the NVIDIA driver is a stub", "no CUDA device"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        if (strstr(reason, absent[i])) return SKIPPED;
    return EXIT_FAILURE;
}

const struct layer_ops *t2t_cuda_ops(void)
{
    static const struct layer_ops *ops;
    struct layer_device_options options = {.threads = 0};
    char reason[T2T_REASON_BYTES];
    if (ops) return ops;
    if (t2t_device_choose("cuda", &ops, &options, reason) == T2T_OK) return ops;
    const int code = code_of(t2t_last_error());
    printf("%s: %s\n", code == SKIPPED ? "skipped" : "failed", t2t_last_error());
    exit(code);
}

void t2t_emulation_schedule(uint64_t seed, int policy)
{
    (void)seed;
    (void)policy;
}

void t2t_emulation_slow_streams(unsigned mask)
{
    (void)mask;
}

struct t2t_emulation_counts t2t_emulation_count(void)
{
    return (struct t2t_emulation_counts){0};
}
