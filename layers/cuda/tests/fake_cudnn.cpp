/* cuDNN on the CPU, for the emulation: the one graph that the device makes, in double precision. Descriptors keep what they
 * are given. What the device does not use, or what is wrong, ends the program when it is finalised or run: the device would
 * go on without the library if it were refused.
 */
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "layers/cuda/cudnn_graph.h"

extern "C" {
#include "layers/base/half.h"
}

namespace
{

constexpr int64_t WORKSPACE = 1000; /* that a plan asks for, and scribbles on */
char handle_of_all;
cudaStream_t stream_of_all; /* that the handle runs on */

/* Attributes by their names. */
struct Values {
    std::vector<std::pair<int, std::vector<unsigned char>>> all;

    const std::vector<unsigned char> *find(int name) const
    {
        for (const auto &value : all)
            if (value.first == name) return &value.second;
        return nullptr;
    }
    std::vector<unsigned char> &operator[](int name)
    {
        for (auto &value : all)
            if (value.first == name) return value.second;
        all.push_back({name, {}});
        return all.back().second;
    }
};

struct Descriptor {
    cudnnBackendDescriptorType_t type;
    bool final;
    Values values;

    template <class T> T get(int name, size_t at = 0) const
    {
        T value = {};
        const std::vector<unsigned char> *found = values.find(name);
        if (found && found->size() >= (at + 1) * sizeof value)
            memcpy(&value, found->data() + at * sizeof value, sizeof value);
        return value;
    }
    const Descriptor *refers(int name) const { return get<const Descriptor *>(name); }
};

Descriptor *of(cudnnBackendDescriptor_t descriptor)
{
    return static_cast<Descriptor *>(descriptor);
}

size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_INT64: return sizeof(int64_t);
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_DATA_TYPE: return sizeof(cudnnDataType_t);
    case CUDNN_TYPE_HEUR_MODE: return sizeof(cudnnBackendHeurMode_t);
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return sizeof(void *);
    default: return 0;
    }
}

/* A tensor [batch, heads, rows, dim] of the operation. */
struct Tensor {
    int64_t name, dim[4], stride[4];
    cudnnDataType_t type;

    int64_t at(int64_t image, int64_t head, int64_t row, int64_t c) const
    {
        return image * stride[0] + head * stride[1] + row * stride[2] + c * stride[3];
    }
};

bool read_tensor(const Descriptor *from, Tensor *tensor)
{
    if (!from || from->type != CUDNN_BACKEND_TENSOR_DESCRIPTOR || !from->final) return false;
    tensor->name = from->get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
    tensor->type = from->get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
    for (size_t i = 0; i < 4; i++) {
        tensor->dim[i] = from->get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS, i);
        tensor->stride[i] = from->get<int64_t>(CUDNN_ATTR_TENSOR_STRIDES, i);
        if (tensor->dim[i] < 1 || tensor->stride[i] < 1) return false;
    }
    return from->get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT) == 16;
}

struct Operation {
    Tensor q, k, v, out, scale;
};

/* Factors of one half-precision type, rows that begin on 16 bytes, sizes that belong together, a scale given by value. */
bool read_operation(const Descriptor *from, Operation *operation)
{
    if (!from || from->type != CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR ||
        !read_tensor(from->refers(CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC), &operation->q) ||
        !read_tensor(from->refers(CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC), &operation->k) ||
        !read_tensor(from->refers(CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC), &operation->v) ||
        !read_tensor(from->refers(CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC), &operation->out) ||
        !read_tensor(from->refers(CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC), &operation->scale))
        return false;
    const Tensor &q = operation->q, &k = operation->k, &v = operation->v, &out = operation->out;
    for (const Tensor *tensor : {&q, &k, &v, &out}) {
        if (tensor->type != q.type || tensor->dim[0] != q.dim[0] || tensor->dim[1] != q.dim[1] ||
            tensor->stride[3] != 1)
            return false;
        for (int i = 0; i < 3; i++)
            if (tensor->stride[i] % 8 || tensor->stride[i] < tensor->dim[3]) return false;
    }
    return (q.type == CUDNN_DATA_HALF || q.type == CUDNN_DATA_BFLOAT16) && k.dim[3] == q.dim[3] &&
           v.dim[2] == k.dim[2] && out.dim[2] == q.dim[2] && out.dim[3] == v.dim[3] &&
           operation->scale.type == CUDNN_DATA_FLOAT &&
           from->refers(CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC)->get<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE);
}

const Descriptor *operation_of(const Descriptor *graph)
{
    const bool whole = graph && graph->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR && graph->final &&
                       graph->get<void *>(CUDNN_ATTR_OPERATIONGRAPH_HANDLE) == &handle_of_all;
    return whole ? graph->refers(CUDNN_ATTR_OPERATIONGRAPH_OPS) : nullptr;
}

bool is_complete(const Descriptor &descriptor)
{
    Tensor tensor;
    Operation operation;
    switch (descriptor.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: {
        Descriptor copy = descriptor;
        copy.final = true;
        return read_tensor(&copy, &tensor);
    }
    case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR: return read_operation(&descriptor, &operation);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: return descriptor.refers(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        return operation_of(descriptor.refers(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)) &&
               descriptor.values.find(CUDNN_ATTR_ENGINEHEUR_MODE);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return descriptor.get<void *>(CUDNN_ATTR_EXECUTION_PLAN_HANDLE) == &handle_of_all &&
               descriptor.refers(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG) &&
               descriptor.refers(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->final;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR: return true;
    default: return false;
    }
}

[[noreturn]] void wrong(const char *what)
{
    fprintf(stderr, "the fake of cuDNN: %s\n", what);
    abort();
}

/* ---- the library's functions ---- */

size_t version()
{
    return 91900;
}
cudnnStatus_t create(cudnnHandle_t *handle)
{
    *handle = reinterpret_cast<cudnnHandle_t>(&handle_of_all);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t destroy(cudnnHandle_t)
{
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t set_stream(cudnnHandle_t, cudaStream_t stream)
{
    stream_of_all = stream;
    return CUDNN_STATUS_SUCCESS;
}
const char *error_string(cudnnStatus_t)
{
    return "refused by the fake of cuDNN";
}
cudnnStatus_t create_descriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made)
{
    *made = new Descriptor{type, false, {}};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t destroy_descriptor(cudnnBackendDescriptor_t descriptor)
{
    delete of(descriptor);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t set_attribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
    cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    const unsigned char *bytes = static_cast<const unsigned char *>(values);
    if (of(descriptor)->final || count < 1 || !size_of(type)) return CUDNN_STATUS_BAD_PARAM;
    of(descriptor)->values[name].assign(bytes, bytes + static_cast<size_t>(count) * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t get_attribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
    cudnnBackendAttributeType_t, int64_t most, int64_t *count, void *values)
{
    if (!of(descriptor)->final || most < 1) return CUDNN_STATUS_BAD_PARAM;
    *count = 1;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        memcpy(values, &WORKSPACE, sizeof WORKSPACE);
        return CUDNN_STATUS_SUCCESS;
    }
    if (name != CUDNN_ATTR_ENGINEHEUR_RESULTS) return CUDNN_STATUS_BAD_PARAM;
    Operation operation;
    const Descriptor *graph = of(descriptor)->refers(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    if (emulation::config.capability < 80 || !read_operation(operation_of(graph), &operation) ||
        operation.q.dim[3] > 128 || operation.v.dim[3] > 128) { /* no engine */
        *count = 0;
        return CUDNN_STATUS_SUCCESS;
    }
    Descriptor *configuration = static_cast<Descriptor **>(values)[0];
    configuration->values[CUDNN_ATTR_ENGINECFG_ENGINE].assign(
        reinterpret_cast<const unsigned char *>(&graph), reinterpret_cast<const unsigned char *>(&graph + 1));
    configuration->final = true;
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t finalize(cudnnBackendDescriptor_t descriptor)
{
    if (!is_complete(*of(descriptor))) wrong("a descriptor that lacks something or fits no other");
    of(descriptor)->final = true;
    return CUDNN_STATUS_SUCCESS;
}

double widened(cudnnDataType_t type, uint16_t bits)
{
    return static_cast<double>(type == CUDNN_DATA_HALF ? t2t_half_to_float(bits) : t2t_bfloat16_to_float(bits));
}

/* One query: its softmax over all keys. */
void answer(
    const Operation &operation, const uint16_t *const data[4], double scale, int64_t image, int64_t head, int64_t query)
{
    const Tensor &q = operation.q, &k = operation.k, &v = operation.v, &out = operation.out;
    std::vector<double> weight(static_cast<size_t>(k.dim[2]));
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < k.dim[2]; j++) {
        double dot = 0;
        for (int64_t c = 0; c < q.dim[3]; c++)
            dot += widened(q.type, data[0][q.at(image, head, query, c)]) *
                   widened(k.type, data[1][k.at(image, head, j, c)]);
        weight[static_cast<size_t>(j)] = scale * dot;
        largest = fmax(largest, scale * dot);
    }
    for (double &w : weight) {
        w = exp(w - largest);
        sum += w;
    }
    for (int64_t c = 0; c < v.dim[3]; c++) {
        double value = 0;
        for (int64_t j = 0; j < k.dim[2]; j++)
            value += weight[static_cast<size_t>(j)] * widened(v.type, data[2][v.at(image, head, j, c)]);
        const float total = static_cast<float>(value / sum);
        const_cast<uint16_t *>(data[3])[out.at(image, head, query, c)] =
            out.type == CUDNN_DATA_HALF ? t2t_float_to_half(total) : t2t_float_to_bfloat16(total);
    }
}

cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    Operation operation;
    const Descriptor *configuration = of(plan)->refers(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    if (reinterpret_cast<char *>(handle) != &handle_of_all || !of(plan)->final || !of(pack)->final || !configuration ||
        !read_operation(operation_of(configuration->refers(CUDNN_ATTR_ENGINECFG_ENGINE)), &operation))
        wrong("a plan of nothing");
    const Tensor *tensors[] = {&operation.q, &operation.k, &operation.v, &operation.out, &operation.scale};
    const void *data[5] = {};
    for (int i = 0; i < 5; i++)
        for (size_t j = 0; j < 5; j++)
            if (of(pack)->get<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, j) == tensors[i]->name)
                data[i] = of(pack)->get<const void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, j);
    void *workspace = of(pack)->get<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    for (int i = 0; i < 4; i++)
        if (!data[i] || reinterpret_cast<uintptr_t>(data[i]) % 16) wrong("a matrix that is missing or not aligned");
    if (!data[4] || !workspace || reinterpret_cast<uintptr_t>(workspace) % 256) wrong("no scale, or no workspace");
    const double scale = static_cast<double>(*static_cast<const float *>(data[4]));
    const std::array<const uint16_t *, 4> matrices = {static_cast<const uint16_t *>(data[0]),
        static_cast<const uint16_t *>(data[1]), static_cast<const uint16_t *>(data[2]),
        static_cast<const uint16_t *>(data[3])};
    emulation::queue(stream_of_all, [=] {
        memset(workspace, 0xff, WORKSPACE);
        for (int64_t image = 0; image < operation.q.dim[0]; image++)
            for (int64_t head = 0; head < operation.q.dim[1]; head++)
                for (int64_t query = 0; query < operation.q.dim[2]; query++)
                    answer(operation, matrices.data(), scale, image, head, query);
    });
    return CUDNN_STATUS_SUCCESS;
}

} /* namespace */

const CudnnLibrary *t2t_cudnn_library(void)
{
    static const CudnnLibrary functions = {version, create, destroy, set_stream, error_string, create_descriptor,
        destroy_descriptor, set_attribute, get_attribute, finalize, execute};
    return &functions;
}
