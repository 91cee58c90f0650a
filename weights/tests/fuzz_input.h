/* Hands a fuzz target's bytes to code that wants a file: a file in memory, with a path. */
#ifndef T2T_WEIGHTS_TESTS_FUZZ_INPUT_H
#define T2T_WEIGHTS_TESTS_FUZZ_INPUT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* The descriptor, to be closed; path[32] is valid until then. */
static inline int fuzz_input(const uint8_t *data, size_t bytes, char path[32])
{
    const int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
    if (descriptor < 0) abort();
    for (size_t done = 0; done < bytes;) {
        const ssize_t written = write(descriptor, data + done, bytes - done);
        if (written <= 0) abort();
        done += (size_t)written;
    }
    snprintf(path, 32, "/proc/self/fd/%d", descriptor);
    return descriptor;
}

#endif
