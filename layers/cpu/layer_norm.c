/* LayerNorm over the channels of each row (Ba, Kiros, Hinton 2016). */
#include "layers/cpu/cpu_device.h"
#include "layers/cpu/kernels.h"

void t2t_layer_norm(
    struct layer_device *device, struct matrix in, const float *weight, const float *bias, struct matrix out)
{
    const size_t rows = in.batch * in.tokens;
#pragma omp parallel for schedule(static) num_threads((int)device->threads)
    for (size_t row = 0; row < rows; row++)
        device->kernels->layer_norm(in.data + row * in.stride, in.channels, weight, bias, out.data + row * out.stride);
}
