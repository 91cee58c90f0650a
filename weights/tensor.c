/* A tensor's shape as text and its values as float32. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "layers/base/finite.h"
#include "layers/base/half.h"
#include "weights/safetensors.h"

char *t2t_tensor_shape_text(const struct t2t_tensor *tensor, char text[128])
{
    size_t used = 1;
    text[0] = '[';
    for (size_t i = 0; i < tensor->rank && used < 100; i++)
        used += (size_t)snprintf(text + used, 128 - used, "%s%zu", i ? ", " : "", tensor->shape[i]);
    snprintf(text + used, 128 - used, "]");
    return text;
}

static void widen(const struct t2t_tensor *tensor, float (*to_float)(uint16_t), float *out)
{
    const char *from = tensor->data;
    for (size_t i = 0; i < tensor->elements; i++) {
        uint16_t value;
        memcpy(&value, from + i * sizeof value, sizeof value);
        out[i] = to_float(value);
    }
}

enum t2t_status t2t_tensor_to_float(const struct t2t_tensor *tensor, float *out)
{
    if (tensor->dtype == T2T_F32 && tensor->elements)
        memcpy(out, tensor->data, tensor->elements * sizeof *out);
    else if (tensor->dtype == T2T_F16)
        widen(tensor, t2t_half_to_float, out);
    else if (tensor->dtype == T2T_BF16)
        widen(tensor, t2t_bfloat16_to_float, out);
    else if (tensor->dtype != T2T_F32)
        return t2t_fail(T2T_BAD_MODEL,
            "tensor %.200s holds %s values, expected F32, F16 or BF16; t2tvit-convert makes them", tensor->name,
            t2t_dtype_name(tensor->dtype));
    const size_t bad = t2t_first_not_finite(out, tensor->elements);
    if (bad == tensor->elements) return T2T_OK;
    return t2t_fail(T2T_BAD_MODEL,
        "tensor %.200s holds NaN or infinity at element %zu; the file is damaged, fetch it again", tensor->name, bad);
}
