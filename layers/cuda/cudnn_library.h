/* The functions of cuDNN that the device uses, from a library that is opened at run time: a machine without it does without. */
#ifndef T2T_LAYERS_CUDA_CUDNN_LIBRARY_H
#define T2T_LAYERS_CUDA_CUDNN_LIBRARY_H

#include <cudnn.h>
#include <cudnn_backend.h>

struct CudnnLibrary {
    decltype(&cudnnGetVersion) version;
    decltype(&cudnnCreate) create;
    decltype(&cudnnDestroy) destroy;
    decltype(&cudnnSetStream) set_stream;
    decltype(&cudnnGetErrorString) error_string;
    decltype(&cudnnBackendCreateDescriptor) create_descriptor;
    decltype(&cudnnBackendDestroyDescriptor) destroy_descriptor;
    decltype(&cudnnBackendSetAttribute) set_attribute;
    decltype(&cudnnBackendGetAttribute) get_attribute;
    decltype(&cudnnBackendFinalize) finalize;
    decltype(&cudnnBackendExecute) execute;
};

/* NULL where it cannot be opened. It stays open. */
const CudnnLibrary *t2t_cudnn_library(void);

#endif
