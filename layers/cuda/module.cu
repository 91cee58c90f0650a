/* The module's one function, whether a device can be used, and sentences that go to the program. */
#include <cstdarg>
#include <cstdio>

#include "layers/cuda/cuda_device.h"

extern "C" {
#include "layers/cuda/cuda_ops.h"
#include "layers/devices.h"
}

namespace
{

void (*tell)(enum t2t_status, const char *);

size_t probe(const struct layer_device_options *options, char *reason, size_t bytes)
{
    const size_t number = options->ordinal;
    int count = 0; /* left alone by a call that fails */
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorStubLibrary) {
        snprintf(reason, bytes, "the NVIDIA driver is a stub: libcuda.so.1 of the toolkit stands before the driver's");
        return 0;
    }
    if (error == cudaErrorInsufficientDriver) {
        snprintf(reason, bytes, "the NVIDIA driver is too old for the module, which was built with CUDA %d.%d",
            CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
        return 0;
    }
    if (error == cudaErrorNoDevice || (!error && !count)) {
        snprintf(reason, bytes, "no CUDA device: %s", error ? cudaGetErrorString(error) : "the driver knows of none");
        return 0;
    }
    if (error) { /* there may well be one */
        snprintf(reason, bytes, "CUDA devices cannot be used: %s", cudaGetErrorString(error));
        return 0;
    }
    if (number >= static_cast<size_t>(count)) {
        if (count == 1)
            snprintf(reason, bytes, "there is one CUDA device, cuda:0");
        else
            snprintf(reason, bytes, "there are %d CUDA devices, cuda:0 to cuda:%d", count, count - 1);
        return 0;
    }
    error = cudaSetDevice(static_cast<int>(number));
    if (!error) error = t2t_cuda_has_code();
    if (error) {
        snprintf(reason, bytes, "the module has no code for this device: %s", cudaGetErrorString(error));
        return 0;
    }
    cudaDeviceProp properties;
    if (options->format == FORMAT_BFLOAT16 && !cudaGetDeviceProperties(&properties, static_cast<int>(number)) &&
        !t2t_cuda_has_bfloat16(properties)) {
        snprintf(reason, bytes, "%s: " T2T_NO_BFLOAT16, properties.name);
        return 0;
    }
    cublasLtHandle_t products;
    const cublasStatus_t status = cublasLtCreate(&products);
    if (status) {
        snprintf(reason, bytes, "cuBLASLt cannot be used: %s", cublasLtGetStatusString(status));
        return 0;
    }
    cublasLtDestroy(products);
    return static_cast<size_t>(count);
}

const struct t2t_module module = {t2t_cuda_ops, probe};

} /* namespace */

extern "C" __attribute__((visibility("default"))) const struct t2t_module *t2t_module_open(
    unsigned abi, void (*fail)(enum t2t_status, const char *))
{
    tell = fail;
    return abi == T2T_MODULE_ABI ? &module : nullptr;
}

/* The module's own of layers/base/status.h: the program keeps the sentence. */
extern "C" enum t2t_status t2t_fail(enum t2t_status status, const char *format, ...)
{
    char sentence[T2T_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    tell(status, sentence);
    return status;
}

extern "C" enum t2t_status t2t_fail_memory(const char *what, unsigned long long bytes)
{
    return t2t_fail(T2T_NO_RESOURCE, "out of memory: %s needs %llu bytes", what, bytes);
}
