/* What a device must be able to compute: one slot an operation. vit/forward.c calls nothing else.
 *
 * Data between image and logits has one shape, struct matrix. Whatever depends on sizes is prepared when a session
 * opens (linear_open, attention_scratch); the operations themselves allocate nothing and cannot fail (what breaks on a
 * device with memory of its own, finish() tells).
 * Every operation gives the same bits for an image whatever the batch size, its place in the batch and the threads.
 */
#ifndef T2T_LAYERS_LAYERS_H
#define T2T_LAYERS_LAYERS_H

#include <stdbool.h>
#include <stddef.h>

#include "layers/attention.h"
#include "layers/base/status.h"

/* Row-major [batch * tokens, channels]: row t of image b starts at data + (b * tokens + t) * stride. */
struct matrix {
    float *data;
    size_t batch, tokens, channels;
    size_t stride; /* floats from one row to the next, at least `channels` */
};

enum activation { ACTIVATION_NONE, ACTIVATION_GELU /* x Phi(x), the erf form */ };

/* y = activation(x W^T + bias), or residual + x W^T + bias. */
struct linear_shape {
    size_t in_features, out_features;
    size_t tokens; /* rows of one image */
    size_t images; /* at a time; fewer are allowed, in matrices that have room for all */
    enum activation activation;
    size_t residual_stride; /* 0: no residual; otherwise without activation */
};

/* Overlapping windows of a square picture as rows (T2T-ViT section 3.1; torch.nn.Unfold): row = window, left to right
 * and top to bottom; channel = (c * kernel + y) * kernel + x; outside of the picture is 0. */
struct soft_split_shape {
    size_t side, channels;          /* of the picture that is split */
    size_t kernel, stride, padding; /* windows: (side + 2 padding - kernel) / stride + 1 in each direction */
};

struct layer_device; /* a device's own state */
struct linear;       /* packed weights and whatever else a product needs */

struct layer_device_options {
    enum number_format format; /* of the factors of products with weights */
    size_t threads;            /* cpu: 0 for all that may be used */
    size_t ordinal;            /* cuda: which of the devices */
    bool tf32;                 /* cuda: products may round their factors to TF32 */
    bool graph; /* cuda: what is queued the same way again and again is recorded, and then queued as one */
};

struct layer_ops {
    const char *name; /* "cpu" */

    enum t2t_status (*open)(struct layer_device **device, const struct layer_device_options *options);
    void (*close)(struct layer_device *device);                 /* NULL is allowed */
    const char *(*describe)(const struct layer_device *device); /* "avx2, 2 threads, oneDNN 2.6.3" */
    /* How many images go through the network together, so that they stay in a cache; 0: all of a batch. */
    size_t (*threads)(const struct layer_device *device);
    /* Thread `number` alone, as a device that shares the products of `device` and is closed with it: threads that each
     * take an image need not wait for each other. NULL where a device is not made of threads. */
    struct layer_device *(*one_thread)(struct layer_device *device, size_t number);

    /* A device with memory of its own, whose operations are queued and done later; NULL for all of these where it has
     * not. Matrices, scratch and weights of the operations below then lie in its memory; draws stay the host's. */
    enum t2t_status (*reserve)(struct layer_device *device, size_t bytes, void **memory);
    void (*release)(struct layer_device *device, void *memory);
    /* Memory of the host for draws, for as long as the device is open: what is queued reads them when its turn comes. */
    enum t2t_status (*reserve_draws)(struct layer_device *device, size_t bytes, void **memory);
    /* A weight that is no product's, for as long as the device is open. */
    enum t2t_status (*constant)(struct layer_device *device, const float *host, size_t count, const float **own);
    /* Plans copies of pictures: `count` floats at most. */
    enum t2t_status (*input_open)(struct layer_device *device, size_t count);
    /* Pictures for what is queued from here on; `host` may change once it returns. input_ahead() before it begins the
     * copy while what is queued so far is computed; `host` must then stay as it is until input(). */
    void (*input)(struct layer_device *device, const float *host, size_t count, float *own);
    void (*input_ahead)(struct layer_device *device, const float *host, size_t count);
    void (*output)(struct layer_device *device, const float *own, size_t count, float *host);
    /* What is queued between the two is the same for every turn with that `number`, but for what the memory of draws and of
     * pictures holds. Where options.graph asks for it, the second turn is recorded (the first may have to prepare
     * something), and later ones find nothing to queue: begin() is false and end() queues all of it. NULL: no graphs. */
    bool (*graph_begin)(struct layer_device *device, size_t number);
    void (*graph_end)(struct layer_device *device);
    /* Names what is queued from here on, for profilers; NULL ends the innermost name. May itself be NULL. */
    void (*range)(struct layer_device *device, const char *name);
    /* Records when everything queued so far is done, as moment `number`; seconds between two, after finish(). */
    void (*tick)(struct layer_device *device, size_t number);
    double (*seconds)(struct layer_device *device, size_t from, size_t to);
    /* Waits for everything queued, and tells what failed since the last time. */
    enum t2t_status (*finish)(struct layer_device *device);

    /* weight [out_features, in_features]; bias [out_features] or NULL. Both are copied. */
    enum t2t_status (*linear_open)(struct layer_device *device, struct linear **linear,
        const struct linear_shape *shape, const float *weight, const float *bias);
    void (*linear_close)(struct linear *linear); /* NULL is allowed */
    /* in and out are dense (stride == channels). `residual` as in the shape: NULL, or rows like those of `out`; it may be
     * `out` itself. A device with memory of its own may also compute the images that are planned and not there. */
    void (*linear)(struct layer_device *device, const struct linear *linear, struct matrix in,
        const struct matrix *residual, struct matrix out);

    /* (x - mean) / sqrt(variance + 1e-5) * weight + bias over the channels of each row; out may be in. */
    void (*layer_norm)(
        struct layer_device *device, struct matrix in, const float *weight, const float *bias, struct matrix out);

    /* Images [batch, channels, side, side]. */
    void (*soft_split_image)(
        struct layer_device *device, const struct soft_split_shape *shape, const float *images, struct matrix out);
    /* Token grids: in [batch * side * side, channels]. */
    void (*soft_split_tokens)(
        struct layer_device *device, const struct soft_split_shape *shape, struct matrix in, struct matrix out);

    /* out = [class token; tokens] + positions, positions [1 + tokens, channels]. */
    void (*assemble_tokens)(struct layer_device *device, struct matrix tokens, const float *class_token,
        const float *positions, struct matrix out);

    /* T2T_BAD_USAGE with a sentence where the device cannot run a method, or not for so many images; NULL: it runs all. */
    enum t2t_status (*attention_check)(
        const struct attention_shape *shape, const struct attention_config *config, size_t batch);
    /* Bytes of scratch for a call of this shape, every thread's share included. */
    size_t (*attention_scratch)(struct layer_device *device, const struct attention_shape *shape,
        const struct attention_config *config, size_t batch);
    void (*attention)(struct layer_device *device, const struct attention_call *call);

    /* Token_performer's own attention, as trained: phi(x) = exp(w x - |x|^2 / 2) / sqrt(features), w [features, dim];
     * out = phi(q) (phi(k)^T v) / (phi(q) sum phi(k) + 1e-8). k, q, v: one head. */
    size_t (*performer_scratch)(struct layer_device *device, size_t tokens, size_t dim, size_t features, size_t batch);
    void (*performer_attention)(struct layer_device *device, const float *w, size_t features, struct matrix k,
        struct matrix q, struct matrix v, struct matrix out, void *scratch);
};

/* The CPU; T2TVIT_CPU=c|avx2|avx512|avx512_bf16|amx_bf16 in the environment forces an instruction set when the device is opened. */
extern const struct layer_ops t2t_cpu_ops;

#endif
