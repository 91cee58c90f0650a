/* Pictures to the device, while it computes on those before.
 *
 * host memory -> pinned[0 or 1] -> `arrived`, by the host and by a stream of copies; from there the stream that computes
 * takes them where they are wanted, so that the operations, also recorded ones, find them at one address.
 */
#include <cstring>

#include "layers/cuda/cuda_device.h"

namespace
{

/* Fills a pinned buffer and begins its copy. */
void begin(struct layer_device *device, const float *host, size_t count)
{
    struct Upload *upload = &device->upload;
    const size_t buffer = upload->next, bytes = count * sizeof *host;
    upload->next = 1 - buffer;
    cudaError_t error = cudaEventSynchronize(upload->copied[buffer]); /* two uploads ago */
    if (!error) memcpy(upload->pinned[buffer], host, bytes);
    if (!error) error = cudaStreamWaitEvent(upload->stream, upload->taken, 0);
    if (!error)
        error = cudaMemcpyAsync(upload->arrived, upload->pinned[buffer], bytes, cudaMemcpyHostToDevice, upload->stream);
    if (!error) error = cudaEventRecord(upload->copied[buffer], upload->stream);
    t2t_cuda_check(device, error, "copying pictures");
}

} /* namespace */

enum t2t_status t2t_cuda_input_open(struct layer_device *device, size_t count)
{
    struct Upload *upload = &device->upload;
    const size_t bytes = count * sizeof(float);
    cudaError_t error = cudaStreamCreateWithFlags(&upload->stream, cudaStreamNonBlocking);
    for (size_t i = 0; i < 2 && !error; i++) {
        error = cudaHostAlloc(reinterpret_cast<void **>(&upload->pinned[i]), bytes, cudaHostAllocDefault);
        if (!error) error = cudaEventCreateWithFlags(&upload->copied[i], cudaEventDisableTiming);
    }
    if (!error) error = cudaEventCreateWithFlags(&upload->taken, cudaEventDisableTiming);
    if (!error) error = cudaMalloc(reinterpret_cast<void **>(&upload->arrived), bytes);
    if (!error) upload->capacity = count;
    if (!error) return T2T_OK;
    return t2t_fail(T2T_NO_RESOURCE, "cuda: %.1f MB for pictures, pinned twice and on the device: %s",
        1e-6 * (double)bytes, cudaGetErrorString(error));
}

void t2t_cuda_input_close(struct layer_device *device)
{
    struct Upload *upload = &device->upload;
    if (upload->stream) cudaStreamSynchronize(upload->stream);
    for (size_t i = 0; i < 2; i++) {
        if (upload->copied[i]) cudaEventDestroy(upload->copied[i]);
        if (upload->pinned[i]) cudaFreeHost(upload->pinned[i]);
    }
    if (upload->taken) cudaEventDestroy(upload->taken);
    cudaFree(upload->arrived);
    if (upload->stream) cudaStreamDestroy(upload->stream);
}

void t2t_cuda_input_ahead(struct layer_device *device, const float *host, size_t count)
{
    struct Upload *upload = &device->upload;
    if (count > upload->capacity) return;
    t2t_cuda_check(device, cudaSetDevice(device->ordinal), "the device");
    begin(device, host, count);
    upload->ahead = host;
    upload->ahead_count = count;
}

void t2t_cuda_input(struct layer_device *device, const float *host, size_t count, float *own)
{
    struct Upload *upload = &device->upload;
    const bool begun = upload->ahead == host && upload->ahead_count == count;
    const size_t bytes = count * sizeof *host;
    t2t_cuda_check(device, cudaSetDevice(device->ordinal), "the device"); /* a forward begins here, in any thread */
    upload->ahead = nullptr;
    if (count > upload->capacity) { /* nobody planned it */
        t2t_cuda_check(
            device, cudaMemcpyAsync(own, host, bytes, cudaMemcpyHostToDevice, device->stream), "copying numbers");
        return;
    }
    if (!begun) begin(device, host, count);
    cudaError_t error = cudaStreamWaitEvent(device->stream, upload->copied[1 - upload->next], 0);
    if (!error) error = cudaMemcpyAsync(own, upload->arrived, bytes, cudaMemcpyDeviceToDevice, device->stream);
    if (!error) error = cudaEventRecord(upload->taken, device->stream);
    t2t_cuda_check(device, error, "copying pictures");
}
