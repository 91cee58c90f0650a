/* The device of this folder, shared by its files. Host code; the kernels stand in the files that launch them. */
#ifndef T2T_LAYERS_CUDA_CUDA_DEVICE_H
#define T2T_LAYERS_CUDA_CUDA_DEVICE_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <vector>

extern "C" {
#include "layers/base/arena.h"
#include "layers/layers.h"
}

/* Pictures on their way: the host fills one pinned buffer while the other is copied, by a stream of its own. */
struct Upload {
    cudaStream_t stream;
    float *pinned[2], *arrived; /* of the host; of the device */
    size_t capacity;            /* floats of each */
    cudaEvent_t copied[2];      /* from each pinned buffer */
    cudaEvent_t taken;          /* `arrived` may be overwritten */
    size_t next;                /* which buffer */
    const float *ahead;         /* what the last copy began with, until input() asks for it */
    size_t ahead_count;
};

/* What is queued under a number. */
struct Graph {
    size_t number;
    cudaGraphExec_t recorded; /* NULL in its first turn */
};

struct layer_device {
    int ordinal;
    cudaStream_t stream;
    struct Upload upload;
    bool graph; /* whether to record */
    std::vector<Graph> graphs;
    size_t turn;    /* which of them is being queued, or none */
    bool recording; /* it */
    cublasLtHandle_t products;
    enum number_format format;
    bool tf32;
    void *workspace; /* of products */
    size_t workspace_bytes;
    void *factors; /* of a product in half precision: what it multiplies, rounded; as large as the largest product's */
    size_t factors_bytes;
    struct FusedPlans *fused; /* of exact attention in half precision (fused_attention.h), NULL before any */
    std::vector<float *> constants;
    std::vector<void *> pinned; /* memory for draws */
    std::vector<cudaEvent_t> ticks;
    char failure[256]; /* the first that happened, "" for none: operations go on and finish() tells */
    char description[256];
};

/* Remembers an error of a call that cannot return it. */
void t2t_cuda_check(struct layer_device *device, cudaError_t error, const char *what);
void t2t_cuda_fail(struct layer_device *device, const char *what, const char *why);

/* ---- upload.cu ---- */
enum t2t_status t2t_cuda_input_open(struct layer_device *device, size_t count);
void t2t_cuda_input_close(struct layer_device *device);
void t2t_cuda_input(struct layer_device *device, const float *host, size_t count, float *own);
void t2t_cuda_input_ahead(struct layer_device *device, const float *host, size_t count);

/* Tensor cores multiply it since Ampere. */
inline bool t2t_cuda_has_bfloat16(const cudaDeviceProp &properties)
{
    return properties.major >= 8;
}
#define T2T_NO_BFLOAT16 "bfloat16 needs compute capability 8.0; use --dtype float16"

/* ---- graph.cu ---- */
bool t2t_cuda_graph_begin(struct layer_device *device, size_t number);
void t2t_cuda_graph_end(struct layer_device *device);
void t2t_cuda_graph_close(struct layer_device *device);

/* ---- elementwise.cu ---- */
void t2t_cuda_layer_norm(
    struct layer_device *device, struct matrix in, const float *weight, const float *bias, struct matrix out);
void t2t_cuda_soft_split_image(
    struct layer_device *device, const struct soft_split_shape *shape, const float *images, struct matrix out);
void t2t_cuda_soft_split_tokens(
    struct layer_device *device, const struct soft_split_shape *shape, struct matrix in, struct matrix out);
void t2t_cuda_assemble_tokens(struct layer_device *device, struct matrix tokens, const float *class_token,
    const float *positions, struct matrix out);
/* Whether the device at hand has code for the kernels. */
cudaError_t t2t_cuda_has_code(void);
void t2t_cuda_gelu(struct layer_device *device, float *x, size_t count);
/* Rows rounded to half precision, dense, each with zeros up to `width`, a multiple of four; and back. */
cudaError_t t2t_cuda_round_rows(enum number_format format, const float *in, size_t in_stride, size_t rows,
    size_t channels, size_t width, void *out, cudaStream_t stream);
cudaError_t t2t_cuda_widen_rows(enum number_format format, const void *in, size_t rows, size_t channels, float *out,
    size_t out_stride, cudaStream_t stream);

/* ---- linear.cu ---- */
enum t2t_status t2t_cuda_linear_open(struct layer_device *device, struct linear **linear,
    const struct linear_shape *shape, const float *weight, const float *bias);
void t2t_cuda_linear_close(struct linear *linear);
void t2t_cuda_linear(struct layer_device *device, const struct linear *linear, struct matrix in,
    const struct matrix *residual, struct matrix out);

/* ---- attention, a method a file: with an arena that only measures they return after taking ---- */
void t2t_cuda_exact(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena);
void t2t_cuda_mean(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena);
void t2t_cuda_kdeformer(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena);
void t2t_cuda_performer(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena);
void t2t_cuda_reformer(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena);
void t2t_cuda_scatterbrain(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena);
/* Token_performer's own. */
size_t t2t_cuda_performer_scratch(
    struct layer_device *device, size_t tokens, size_t dim, size_t features, size_t batch);
void t2t_cuda_performer_attention(struct layer_device *device, const float *w, size_t features, struct matrix k,
    struct matrix q, struct matrix v, struct matrix out, void *scratch);

/* Numbers that came with a call, on the device: NULL while the arena measures. From memory of reserve_draws() the copy
 * is made in its turn. */
template <class T>
const T *t2t_cuda_upload(struct layer_device *device, struct t2t_arena *arena, const T *host, size_t count)
{
    T *own = static_cast<T *>(t2t_arena_take(arena, count, sizeof(T)));
    if (own && count)
        t2t_cuda_check(device, cudaMemcpyAsync(own, host, count * sizeof(T), cudaMemcpyHostToDevice, device->stream),
            "copying draws");
    return own;
}

#endif
