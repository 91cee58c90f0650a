/* Fuzz target: opens the bytes as a safetensors file and reads all that a file which opens has to offer. */
#include <string.h>

#include "weights/safetensors.h"
#include "weights/tests/fuzz_input.h"

static void read_tensor(const struct t2t_tensors *file, const struct t2t_tensor *tensor)
{
    char text[128];
    if (t2t_tensors_find(file, tensor->name) != tensor) abort();
    if (strlen(t2t_tensor_shape_text(tensor, text)) >= sizeof text) abort();
    if (tensor->elements > 1 << 20) return;
    float *values = malloc((tensor->elements + 1) * sizeof *values);
    if (!values) return;
    const enum t2t_status status = t2t_tensor_to_float(tensor, values);
    if (status && status != T2T_BAD_MODEL) abort();
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char path[32];
    const int descriptor = fuzz_input(data, bytes, path);
    struct t2t_tensors *file;
    const enum t2t_status status = t2t_tensors_open(&file, path);
    if (status && (file || !strstr(t2t_last_error(), path))) abort(); /* every sentence names the file */
    for (size_t i = 0; !status && i < t2t_tensors_count(file); i++) read_tensor(file, t2t_tensors_at(file, i));
    const char *key;
    for (size_t i = 0; !status && (key = t2t_tensors_metadata_key(file, i)); i++)
        if (!t2t_tensors_metadata(file, key)) abort();
    t2t_tensors_close(file);
    close(descriptor);
    return 0;
}
