/* Named stretches of the host's work for profilers (NVTX), such as Nsight Systems; nothing where its headers are absent. */
#ifndef T2T_LAYERS_CUDA_RANGE_H
#define T2T_LAYERS_CUDA_RANGE_H

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define T2T_RANGE_BEGIN(name) nvtxRangePushA(name)
#define T2T_RANGE_END() nvtxRangePop()
#else
#define T2T_RANGE_BEGIN(name) static_cast<void>(name)
#define T2T_RANGE_END() static_cast<void>(0)
#endif

/* From here to the end of the scope, a step after another. */
class Range
{
  public:
    explicit Range(const char *name) { T2T_RANGE_BEGIN(name); }
    ~Range() { T2T_RANGE_END(); }
    Range(const Range &) = delete;
    Range &operator=(const Range &) = delete;
    void next(const char *name) const
    {
        T2T_RANGE_END();
        T2T_RANGE_BEGIN(name);
    }
};

#endif
