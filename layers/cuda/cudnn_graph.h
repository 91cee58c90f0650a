/* softmax(scale q k^T) v as a graph of cuDNN's, and a plan that runs it. */
#ifndef T2T_LAYERS_CUDA_CUDNN_GRAPH_H
#define T2T_LAYERS_CUDA_CUDNN_GRAPH_H

#include <cstddef>
#include <string>
#include <vector>

#include "layers/cuda/cudnn_library.h"

/* q [batch, queries, heads, head_dim], k and v [batch, keys, heads, ...], out as q with value_dim. Dense, but for q, k and v
 * that are `packed`: columns of one matrix [batch, queries, heads (2 head_dim + value_dim)], and keys == queries. */
struct GraphSizes {
    int64_t batch, heads, queries, keys, head_dim, value_dim;
    bool packed;
};

/* Names of the graph's tensors. */
enum GraphTensor { GRAPH_Q = 'q', GRAPH_K = 'k', GRAPH_V = 'v', GRAPH_OUT = 'o', GRAPH_SCALE = 's' };

/* Descriptors live as long as the graph; a plan needs them all. */
class CudnnGraph
{
  public:
    /* For the device of `handle`, or without one for the device that `properties` (cuDNN's own JSON) describe: then it
     * cannot run. ok() tells whether a plan was made, why() what failed. */
    CudnnGraph(const CudnnLibrary *library, const GraphSizes &sizes, cudnnDataType_t type, cudnnHandle_t handle,
        const char *properties);
    ~CudnnGraph();
    CudnnGraph(const CudnnGraph &) = delete;
    CudnnGraph &operator=(const CudnnGraph &) = delete;

    bool ok() const { return plan_ != nullptr; }
    const std::string &why() const { return why_; }
    size_t workspace_bytes() const { return static_cast<size_t>(workspace_bytes_); }
    /* All on the device, at multiples of 16 bytes. */
    cudnnStatus_t run(
        cudnnHandle_t handle, const void *q, const void *k, const void *v, void *out, float scale, void *workspace);

  private:
    typedef cudnnBackendDescriptor_t Descriptor;
    Descriptor create(cudnnBackendDescriptorType_t type);
    bool set(Descriptor of, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
        const void *values);
    bool finalize(Descriptor descriptor, const char *what);
    Descriptor tensor(GraphTensor name, cudnnDataType_t type, int64_t rows, int64_t dim, const GraphSizes &sizes);
    Descriptor make_graph(const GraphSizes &sizes, cudnnDataType_t type, cudnnHandle_t handle);
    std::vector<Descriptor> configurations(Descriptor graph, Descriptor properties);
    void make_plan(Descriptor configuration, cudnnHandle_t handle, Descriptor properties);

    const CudnnLibrary *library_;
    std::vector<Descriptor> owned_;
    Descriptor plan_ = nullptr;
    int64_t workspace_bytes_ = 0;
    std::string why_;
};

#endif
