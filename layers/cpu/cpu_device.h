/* What the files of the CPU device share: its state and the functions behind its slots (contracts in layers/layers.h). */
#ifndef T2T_LAYERS_CPU_CPU_DEVICE_H
#define T2T_LAYERS_CPU_CPU_DEVICE_H

#include "layers/layers.h"

struct attention_kernels;
struct linear_engine; /* the library behind products, one state a thread */

struct layer_device {
    size_t threads;
    size_t first_thread; /* of the linear engine's: not 0 where this is one thread of another device */
    struct linear_engine *linear_engine;
    enum number_format format;
    const struct attention_kernels *kernels; /* chosen once, for the processor at hand */
    char description[128];
    struct layer_device *each_thread; /* [threads] alone, or NULL where there is one */
};

/* onednn_linear.c */
enum t2t_status t2t_linear_engine_open(struct linear_engine **engine, size_t threads);
/* T2T_NO_RESOURCE where the processor cannot multiply such numbers. */
enum t2t_status t2t_linear_supports(struct linear_engine *engine, enum number_format format);
void t2t_linear_engine_close(struct linear_engine *engine); /* NULL is allowed */
enum t2t_status t2t_linear_open(struct layer_device *device, struct linear **linear, const struct linear_shape *shape,
    const float *weight, const float *bias);
void t2t_linear_close(struct linear *linear);
void t2t_linear(struct layer_device *device, const struct linear *linear, struct matrix in,
    const struct matrix *residual, struct matrix out);
void t2t_linear_library(char *text, size_t bytes); /* "oneDNN 2.6.3" */

/* layer_norm.c */
void t2t_layer_norm(
    struct layer_device *device, struct matrix in, const float *weight, const float *bias, struct matrix out);

/* soft_split.c */
void t2t_soft_split_image(
    struct layer_device *device, const struct soft_split_shape *shape, const float *images, struct matrix out);
void t2t_soft_split_tokens(
    struct layer_device *device, const struct soft_split_shape *shape, struct matrix in, struct matrix out);
void t2t_assemble_tokens(struct layer_device *device, struct matrix tokens, const float *class_token,
    const float *positions, struct matrix out);

/* performer_attention.c */
size_t t2t_performer_scratch(struct layer_device *device, size_t tokens, size_t dim, size_t features, size_t batch);
void t2t_performer_attention(struct layer_device *device, const float *w, size_t features, struct matrix k,
    struct matrix q, struct matrix v, struct matrix out, void *scratch);

#endif
