/* Fuzz target: the bytes as a checkpoint of any form, opened, loaded, every number of every tensor read. */
#include <string.h>

#include "weights/checkpoint.h"
#include "weights/tests/fuzz_input.h"

static unsigned read_all(const struct t2t_tensor *tensor)
{
    const unsigned char *data = tensor->data;
    unsigned sum = 0;
    for (size_t i = 0; i < tensor->elements * t2t_dtype_bytes(tensor->dtype); i++) sum += data[i];
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static volatile unsigned sink;
    char path[32];
    const int descriptor = fuzz_input(data, bytes, path);
    struct t2t_checkpoint *checkpoint;
    const struct t2t_checkpoint_options options = {0};
    enum t2t_status status = t2t_checkpoint_open(&checkpoint, path, &options);
    size_t elements = 0;
    for (size_t i = 0; !status && i < t2t_checkpoint_count(checkpoint); i++) {
        const size_t count = t2t_checkpoint_at(checkpoint, i)->elements;
        elements += count < 1 << 24 ? count : 1 << 24;
    }
    if (!status && elements < 1 << 24) {
        status = t2t_checkpoint_load(checkpoint, NULL);
        for (size_t i = 0; !status && i < t2t_checkpoint_count(checkpoint); i++)
            sink = sink + read_all(t2t_checkpoint_at(checkpoint, i));
    }
    if (status && !strstr(t2t_last_error(), path) && status != T2T_NO_RESOURCE) abort();
    t2t_checkpoint_close(checkpoint);
    close(descriptor);
    return 0;
}
