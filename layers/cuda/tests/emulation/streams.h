/* Which streams of the emulation are slow, and what host code asked of it, for tests in C. */
#ifndef T2T_CUDA_TESTS_STREAMS_H
#define T2T_CUDA_TESTS_STREAMS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of the streams that are created from here on: bit 0 makes the first, third ... do nothing until something waits for
 * it, bit 1 the second, fourth ...; the others do everything as soon as they may. What host code does not order by
 * events and waits then happens in one order or in the other. */
void t2t_emulation_slow_streams(unsigned mask);

struct t2t_emulation_counts {
    size_t allocations;     /* of memory, on the host or the device */
    size_t launches;        /* of kernels, by the host */
    size_t pageable_copies; /* that the host waited for, because one side is no pinned memory */
    size_t copies;          /* other ones, that the host asked for */
    size_t overlapped;      /* of those, to the device and made while another stream had work to do */
    size_t graphs, replays; /* instantiated, launched */
};

/* Since the call before. */
struct t2t_emulation_counts t2t_emulation_count(void);

#ifdef __cplusplus
}
#endif

#endif
