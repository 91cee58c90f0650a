/* What cuDNN wants to find when it opens the driver, and calls only where there is a device: names alone, so no header. */
#define ABSENT(NAME)                                                                                                   \
    int NAME(void);                                                                                                    \
    int NAME(void)                                                                                                     \
    {                                                                                                                  \
        return 801; /* CUDA_ERROR_NOT_SUPPORTED */                                                                     \
    }
ABSENT(cuCtxGetCurrent)
ABSENT(cuCtxGetLimit)
ABSENT(cuCtxPopCurrent)
ABSENT(cuCtxPushCurrent)
ABSENT(cuDeviceGet)
ABSENT(cuDeviceGetCount)
ABSENT(cuKernelGetAttribute)
ABSENT(cuLaunchCooperativeKernel)
ABSENT(cuLaunchKernel)
ABSENT(cuLaunchKernelEx)
ABSENT(cuLibraryLoadFromFile)
ABSENT(cuLinkAddData)
ABSENT(cuLinkComplete)
ABSENT(cuLinkCreate)
ABSENT(cuLinkDestroy)
ABSENT(cuOccupancyMaxPotentialClusterSize)
ABSENT(cuStreamGetCtx)
