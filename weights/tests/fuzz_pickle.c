/* Fuzz target: the bytes as a pickle, and what a reader of its result looks at. */
#include <string.h>

#include "weights/pickle.h"
#include "weights/tests/fuzz_input.h"

static void check_tensor(const struct pickle_tensor *tensor)
{
    uint64_t last = tensor->offset;
    for (size_t i = 0; i < tensor->rank; i++)
        if (tensor->shape[i]) last += (tensor->shape[i] - 1) * tensor->stride[i];
    if (tensor->rank > T2T_TENSOR_MAX_RANK || (tensor->elements && last >= tensor->storage.elements)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct pickle pickle;
    const enum t2t_status status = t2t_pickle_read(&pickle, "fuzz", data, bytes, 0);
    if (status && strncmp(t2t_last_error(), "fuzz: ", 6) != 0) abort();
    for (size_t i = 0; i < pickle.tensor_count; i++) check_tensor(&pickle.tensors[i]);
    if (!status) {
        const struct pickle_value *root = t2t_pickle_root(&pickle), *value = t2t_pickle_get(&pickle, root, "model");
        if (value && root->type != PICKLE_DICT) abort();
        if (!t2t_pickle_unique_storages(&pickle))
            for (size_t i = 0; i < pickle.storage_count; i++) {
                const struct pickle_text key = pickle.storages[i].key;
                if (t2t_pickle_find_storage(&pickle, data + key.offset, key.bytes) != i) abort();
            }
    }
    t2t_pickle_free(&pickle);
    return 0;
}
