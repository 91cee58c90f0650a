/* Opening cuDNN. */
#include "layers/cuda/cudnn_library.h"

#include <dlfcn.h>

namespace
{

template <class Function> bool find(void *library, const char *name, Function *function)
{
    *function = reinterpret_cast<Function>(dlsym(library, name));
    return *function;
}

bool open_library(CudnnLibrary *functions)
{
    void *library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    return library && find(library, "cudnnGetVersion", &functions->version) &&
           find(library, "cudnnCreate", &functions->create) && find(library, "cudnnDestroy", &functions->destroy) &&
           find(library, "cudnnSetStream", &functions->set_stream) &&
           find(library, "cudnnGetErrorString", &functions->error_string) &&
           find(library, "cudnnBackendCreateDescriptor", &functions->create_descriptor) &&
           find(library, "cudnnBackendDestroyDescriptor", &functions->destroy_descriptor) &&
           find(library, "cudnnBackendSetAttribute", &functions->set_attribute) &&
           find(library, "cudnnBackendGetAttribute", &functions->get_attribute) &&
           find(library, "cudnnBackendFinalize", &functions->finalize) &&
           find(library, "cudnnBackendExecute", &functions->execute);
}

} /* namespace */

const CudnnLibrary *t2t_cudnn_library(void)
{
    static CudnnLibrary functions;
    static const bool found = open_library(&functions);
    return found ? &functions : nullptr;
}
