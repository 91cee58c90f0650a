/* cuDNN's backend descriptors of one operation, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR. The first thing that fails is
 * remembered, and what follows does nothing. */
#include "layers/cuda/cudnn_graph.h"

#include <cstring>

CudnnGraph::CudnnGraph(const CudnnLibrary *library, const GraphSizes &sizes, cudnnDataType_t type, cudnnHandle_t handle,
    const char *properties)
    : library_(library)
{
    Descriptor device = nullptr;
    if (properties) {
        device = create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
        set(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
            static_cast<int64_t>(strlen(properties)) + 1, properties);
        finalize(device, "the device's properties");
    }
    const Descriptor graph = make_graph(sizes, type, handle);
    for (Descriptor configuration : configurations(graph, device)) {
        if (plan_) break;
        why_.clear(); /* of the engine before */
        make_plan(configuration, handle, device);
    }
    if (!plan_ && why_.empty()) why_ = "no engine";
}

CudnnGraph::~CudnnGraph()
{
    while (!owned_.empty()) {
        library_->destroy_descriptor(owned_.back());
        owned_.pop_back();
    }
}

CudnnGraph::Descriptor CudnnGraph::create(cudnnBackendDescriptorType_t type)
{
    Descriptor made = nullptr;
    if (!why_.empty()) return nullptr;
    const cudnnStatus_t status = library_->create_descriptor(type, &made);
    if (status) {
        why_ = std::string("a descriptor: ") + library_->error_string(status);
        return nullptr;
    }
    owned_.push_back(made);
    return made;
}

bool CudnnGraph::set(Descriptor of, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
    const void *values)
{
    if (!why_.empty()) return false;
    const cudnnStatus_t status = library_->set_attribute(of, name, type, count, values);
    if (status) why_ = "attribute " + std::to_string(static_cast<int>(name)) + ": " + library_->error_string(status);
    return !status;
}

bool CudnnGraph::finalize(Descriptor descriptor, const char *what)
{
    if (!why_.empty()) return false;
    const cudnnStatus_t status = library_->finalize(descriptor);
    if (status) why_ = std::string(what) + ": " + library_->error_string(status);
    return !status;
}

/* [batch, heads, rows, dim] whose heads lie beside each other in a row. The scale is one number, given when it runs. */
CudnnGraph::Descriptor CudnnGraph::tensor(
    GraphTensor name, cudnnDataType_t type, int64_t rows, int64_t dim, const GraphSizes &sizes)
{
    const bool scalar = name == GRAPH_SCALE, beside = sizes.packed && name != GRAPH_OUT;
    const int64_t one[4] = {1, 1, 1, 1}, unique = name, alignment = 16;
    const int64_t width = sizes.heads * (beside ? 2 * sizes.head_dim + sizes.value_dim : dim);
    const int64_t dims[4] = {sizes.batch, sizes.heads, rows, dim}, strides[4] = {rows * width, dim, width, 1};
    const Descriptor made = create(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(made, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &unique);
    set(made, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(made, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(made, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, scalar ? one : dims);
    set(made, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, scalar ? one : strides);
    if (scalar) set(made, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &scalar);
    finalize(made, "a tensor");
    return made;
}

CudnnGraph::Descriptor CudnnGraph::make_graph(const GraphSizes &sizes, cudnnDataType_t type, cudnnHandle_t handle)
{
    const Descriptor tensors[] = {tensor(GRAPH_Q, type, sizes.queries, sizes.head_dim, sizes),
        tensor(GRAPH_K, type, sizes.keys, sizes.head_dim, sizes),
        tensor(GRAPH_V, type, sizes.keys, sizes.value_dim, sizes),
        tensor(GRAPH_OUT, type, sizes.queries, sizes.value_dim, sizes),
        tensor(GRAPH_SCALE, CUDNN_DATA_FLOAT, 1, 1, sizes)};
    const cudnnBackendAttributeName_t names[] = {CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC,
        CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC,
        CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC};
    const Descriptor operation = create(CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    for (int i = 0; i < 5; i++) set(operation, names[i], CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &tensors[i]);
    finalize(operation, "the operation");
    const Descriptor graph = create(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (handle) set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &operation);
    finalize(graph, "the graph");
    return graph;
}

/* Engines and their settings, what cuDNN thinks best first. */
std::vector<CudnnGraph::Descriptor> CudnnGraph::configurations(Descriptor graph, Descriptor properties)
{
    constexpr int64_t MOST = 8;
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    const Descriptor heuristics = create(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &graph);
    set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (properties) set(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &properties);
    finalize(heuristics, "the choice of an engine");
    std::vector<Descriptor> found;
    for (int64_t i = 0; i < MOST; i++) found.push_back(create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR));
    int64_t count = 0;
    if (why_.empty()) {
        const cudnnStatus_t status = library_->get_attribute(
            heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST, &count, found.data());
        if (status) why_ = std::string("the choice of an engine: ") + library_->error_string(status);
    }
    found.resize(why_.empty() && count > 0 ? static_cast<size_t>(count < MOST ? count : MOST) : 0);
    return found;
}

void CudnnGraph::make_plan(Descriptor configuration, cudnnHandle_t handle, Descriptor properties)
{
    int64_t count = 0, bytes = 0;
    const Descriptor plan = create(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (handle) set(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    set(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &configuration);
    if (properties) set(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &properties);
    if (!finalize(plan, "a plan")) return;
    const cudnnStatus_t status =
        library_->get_attribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, &bytes);
    if (status) {
        why_ = std::string("a plan's workspace: ") + library_->error_string(status);
        return;
    }
    plan_ = plan;
    workspace_bytes_ = bytes;
}

cudnnStatus_t CudnnGraph::run(
    cudnnHandle_t handle, const void *q, const void *k, const void *v, void *out, float scale, void *workspace)
{
    const int64_t names[] = {GRAPH_Q, GRAPH_K, GRAPH_V, GRAPH_OUT, GRAPH_SCALE};
    const void *data[] = {q, k, v, out, &scale};
    Descriptor pack;
    cudnnStatus_t status = library_->create_descriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (status) return status;
    status = library_->set_attribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 5, names);
    if (!status)
        status = library_->set_attribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 5, data);
    if (!status)
        status = library_->set_attribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (!status) status = library_->finalize(pack);
    if (!status) status = library_->execute(handle, plan_, pack);
    library_->destroy_descriptor(pack);
    return status;
}
