/* Products x W^T + bias through oneDNN (2 or 3), with GELU or a residual fused as post-operation: all of oneDNN is here.
 *
 * The rows of an image are cut into tiles of at most TILE_ROWS, the same for every batch size, and each tile is one
 * single-threaded primitive run by whichever thread is free. So an image's result never depends on its neighbours or
 * on the number of threads, and large and small batches keep all cores busy with one barrier a product.
 * Measured on AVX2: tiles of 98 rows reach the rate of one large product within noise.
 */
#include <assert.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/cpu/cpu_device.h"
#include "layers/cpu/kernels.h"

enum { TILE_ROWS = 112 };

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t memory_desc; /* a handle */
typedef const_dnnl_memory_desc_t queried_desc;
#else
typedef dnnl_memory_desc_t *memory_desc; /* a structure on the heap, to read alike */
typedef const dnnl_memory_desc_t *queried_desc;
#endif

/* Memory that serves all products, so that it grows to the largest wish. */
struct buffer {
    void *data;
    size_t bytes;
};

/* One thread's own objects: oneDNN allows a primitive to run in several threads at once if each brings these. */
struct linear_thread {
    dnnl_stream_t stream;
    struct buffer scratchpad;
    struct buffer rounded; /* a tile's rows in bfloat16 */
};

struct linear_engine {
    dnnl_engine_t engine;
    size_t threads;
    struct linear_thread thread[];
};

/* A primitive for one number of rows, with one set of memory handles a thread. */
struct tile {
    size_t rows;
    dnnl_primitive_t primitive;
    struct tile_memory {
        dnnl_memory_t in, out, scratchpad;
    } * memory; /* [threads] */
};

struct linear {
    struct linear_shape shape;
    enum number_format format;
    struct linear_engine *engine;
    struct tile full, last; /* `last` is used when the rows do not divide evenly; else its rows are 0 */
    size_t tiles;           /* of one image */
    dnnl_memory_t weight, bias;
};

static enum t2t_status check(dnnl_status_t status, const char *doing)
{
    if (status == dnnl_success) return T2T_OK;
    if (status == dnnl_out_of_memory) return t2t_fail(T2T_NO_RESOURCE, "out of memory: oneDNN, %s", doing);
    return t2t_fail(T2T_NO_RESOURCE, "oneDNN cannot do a product: %s failed with status %d", doing, (int)status);
}

void t2t_linear_library(char *text, size_t bytes)
{
    const dnnl_version_t *version = dnnl_version();
    snprintf(text, bytes, "oneDNN %d.%d.%d", version->major, version->minor, version->patch);
}

/* ---- the few calls that differ between oneDNN 2 and 3 ---- */

/* A row-major [rows, columns] matrix, or a format of the library's choice; NULL on failure. */
static memory_desc describe(size_t rows, size_t columns, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    const dnnl_dims_t sizes = {(dnnl_dim_t)rows, (dnnl_dim_t)columns};
    memory_desc desc = NULL;
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(&desc, 2, sizes, type, tag) == dnnl_success ? desc : NULL;
#else
    desc = malloc(sizeof *desc);
    if (desc && dnnl_memory_desc_init_by_tag(desc, 2, sizes, type, tag) == dnnl_success) return desc;
    free(desc);
    return NULL;
#endif
}

static void forget(memory_desc desc)
{
#if DNNL_VERSION_MAJOR >= 3
    if (desc) dnnl_memory_desc_destroy(desc);
#else
    free(desc);
#endif
}

static dnnl_status_t append_post_operation(dnnl_post_ops_t operations, const struct linear_shape *shape)
{
#if DNNL_VERSION_MAJOR >= 3
    if (shape->activation == ACTIVATION_GELU)
        return dnnl_post_ops_append_eltwise(operations, dnnl_eltwise_gelu_erf, 0, 0);
    if (shape->residual_stride) return dnnl_post_ops_append_sum(operations, 1, 0, dnnl_data_type_undef);
#else
    if (shape->activation == ACTIVATION_GELU)
        return dnnl_post_ops_append_eltwise(operations, 1, dnnl_eltwise_gelu_erf, 0, 0);
    if (shape->residual_stride) return dnnl_post_ops_append_sum(operations, 1);
#endif
    return dnnl_success;
}

static dnnl_status_t create_product(dnnl_primitive_desc_t *product, dnnl_engine_t engine, memory_desc in,
    memory_desc weight, memory_desc bias, memory_desc out, dnnl_primitive_attr_t attributes)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(product, engine, in, weight, bias, out, attributes);
#else
    dnnl_matmul_desc_t operation;
    const dnnl_status_t status = dnnl_matmul_desc_init(&operation, in, weight, bias, out);
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(product, &operation, attributes, engine, NULL);
#endif
}

static dnnl_status_t create_memory(dnnl_memory_t *memory, queried_desc desc, dnnl_engine_t engine, void *data)
{
    return dnnl_memory_create(memory, desc, engine, data);
}

/* ---- the engine ---- */

enum t2t_status t2t_linear_engine_open(struct linear_engine **engine, size_t threads)
{
    *engine = NULL;
    struct linear_engine *e = calloc(1, sizeof *e + threads * sizeof e->thread[0]);
    if (!e) return t2t_fail_memory("the product engine", sizeof *e);
    e->threads = threads;
    enum t2t_status status = check(dnnl_engine_create(&e->engine, dnnl_cpu, 0), "opening an engine");
    for (size_t t = 0; t < threads && !status; t++)
        status =
            check(dnnl_stream_create(&e->thread[t].stream, e->engine, dnnl_stream_default_flags), "opening a stream");
    if (status) {
        t2t_linear_engine_close(e);
        return status;
    }
    *engine = e;
    return T2T_OK;
}

void t2t_linear_engine_close(struct linear_engine *engine)
{
    if (!engine) return;
    for (size_t t = 0; t < engine->threads; t++) {
        if (engine->thread[t].stream) dnnl_stream_destroy(engine->thread[t].stream);
        free(engine->thread[t].scratchpad.data);
        free(engine->thread[t].rounded.data);
    }
    if (engine->engine) dnnl_engine_destroy(engine->engine);
    free(engine);
}

static enum t2t_status grow(struct buffer *buffer, size_t bytes)
{
    if (bytes <= buffer->bytes) return T2T_OK;
    const size_t whole = (bytes + 63) / 64 * 64;
    free(buffer->data);
    *buffer = (struct buffer){.data = aligned_alloc(64, whole), .bytes = whole};
    if (buffer->data) return T2T_OK;
    buffer->bytes = 0;
    return t2t_fail_memory("a product's scratchpad", whole);
}

static enum t2t_status grow_buffers(struct linear_engine *engine, size_t scratchpad_bytes, size_t rounded_bytes)
{
    enum t2t_status status = T2T_OK;
    for (size_t t = 0; t < engine->threads && !status; t++) {
        status = grow(&engine->thread[t].scratchpad, scratchpad_bytes);
        if (!status) status = grow(&engine->thread[t].rounded, rounded_bytes);
    }
    return status;
}

enum t2t_status t2t_linear_supports(struct linear_engine *engine, enum number_format format)
{
    if (format == FORMAT_FLOAT32) return T2T_OK;
    if (format == FORMAT_FLOAT16)
        return t2t_fail(T2T_NO_RESOURCE, "float16: the CPU has no such products; --dtype float32 runs everywhere, "
                                         "bfloat16 with AVX-512, float16 with --device cuda");
    const memory_desc factor = describe(64, 64, dnnl_bf16, dnnl_ab), out = describe(64, 64, dnnl_f32, dnnl_ab);
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t product = NULL;
    dnnl_status_t status = factor && out ? dnnl_primitive_attr_create(&attributes) : dnnl_out_of_memory;
    if (!status) status = create_product(&product, engine->engine, factor, factor, NULL, out, attributes);
    if (product) dnnl_primitive_desc_destroy(product);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    forget(factor), forget(out);
    if (!status) return T2T_OK;
    return t2t_fail(T2T_NO_RESOURCE, "bfloat16: oneDNN has no such products for this processor (they need AVX-512); "
                                     "--dtype float32 runs everywhere");
}

/* ---- opening a product ---- */

static enum t2t_status tile_memory_open(
    const struct linear *linear, struct tile *tile, queried_desc in, queried_desc out, queried_desc scratchpad)
{
    struct linear_engine *engine = linear->engine;
    tile->memory = calloc(engine->threads, sizeof *tile->memory);
    if (!tile->memory) return t2t_fail_memory("a product's handles", engine->threads * sizeof *tile->memory);
    dnnl_status_t status = dnnl_success;
    for (size_t t = 0; t < engine->threads && !status; t++) {
        struct tile_memory *memory = &tile->memory[t];
        status = create_memory(&memory->in, in, engine->engine, DNNL_MEMORY_NONE);
        if (!status) status = create_memory(&memory->out, out, engine->engine, DNNL_MEMORY_NONE);
        if (!status) status = create_memory(&memory->scratchpad, scratchpad, engine->engine, DNNL_MEMORY_NONE);
    }
    if (status) return check(status, "making memory handles");
    const size_t rounded = linear->format == FORMAT_BFLOAT16 ? dnnl_memory_desc_get_size(in) : 0;
    return grow_buffers(engine, dnnl_memory_desc_get_size(scratchpad), rounded);
}

/* Puts the weight [out, in] into the format that the product wants. */
static enum t2t_status pack_weight(struct linear *linear, const float *weight, queried_desc wanted)
{
    const dnnl_engine_t engine = linear->engine->engine;
    const memory_desc given_desc =
        describe(linear->shape.in_features, linear->shape.out_features, dnnl_f32, dnnl_ba); /* W^T by strides */
    dnnl_memory_t given = NULL;
    dnnl_primitive_desc_t reorder_desc = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_status_t status = given_desc ? dnnl_success : dnnl_out_of_memory;
    /* the library only reads through this handle */
    if (!status) status = create_memory(&given, given_desc, engine, (void *)(uintptr_t)weight);
    if (!status) status = create_memory(&linear->weight, wanted, engine, DNNL_MEMORY_ALLOCATE);
    if (!status) status = dnnl_reorder_primitive_desc_create(&reorder_desc, given_desc, engine, wanted, engine, NULL);
    if (!status) status = dnnl_primitive_create(&reorder, reorder_desc);
    if (!status) {
        const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, given}, {DNNL_ARG_TO, linear->weight}};
        status = dnnl_primitive_execute(reorder, linear->engine->thread[0].stream, 2, arguments);
        if (!status) status = dnnl_stream_wait(linear->engine->thread[0].stream);
    }
    if (reorder) dnnl_primitive_destroy(reorder);
    if (reorder_desc) dnnl_primitive_desc_destroy(reorder_desc);
    if (given) dnnl_memory_destroy(given);
    forget(given_desc);
    return check(status, "packing weights");
}

static enum t2t_status copy_bias(struct linear *linear, const float *bias, queried_desc desc)
{
    enum t2t_status status =
        check(create_memory(&linear->bias, desc, linear->engine->engine, DNNL_MEMORY_ALLOCATE), "copying a bias");
    void *data = NULL;
    if (!status) status = check(dnnl_memory_get_data_handle(linear->bias, &data), "copying a bias");
    if (!status) memcpy(data, bias, linear->shape.out_features * sizeof *bias);
    return status;
}

/* Makes the primitive for `rows` rows; the first tile decides the format of the weights, later ones take it as it is. */
static enum t2t_status tile_open(
    struct linear *linear, struct tile *tile, size_t rows, const float *weight, const float *bias)
{
    const struct linear_shape *shape = &linear->shape;
    const dnnl_data_type_t factor = linear->format == FORMAT_BFLOAT16 ? dnnl_bf16 : dnnl_f32;
    tile->rows = rows;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t operations = NULL;
    dnnl_primitive_desc_t product = NULL;
    const memory_desc in = describe(rows, shape->in_features, factor, dnnl_ab);
    const memory_desc out = describe(rows, shape->out_features, dnnl_f32, dnnl_ab);
    const memory_desc bias_desc = bias ? describe(1, shape->out_features, dnnl_f32, dnnl_ab) : NULL;
    const memory_desc any = describe(shape->in_features, shape->out_features, factor, dnnl_format_tag_any);
    queried_desc packed = NULL;
    if (linear->weight) dnnl_memory_get_memory_desc(linear->weight, &packed);

    dnnl_status_t made = in && out && any && (bias_desc || !bias) ? dnnl_success : dnnl_out_of_memory;
    if (!made) made = dnnl_primitive_attr_create(&attributes);
    if (!made) made = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (!made) made = dnnl_post_ops_create(&operations);
    if (!made) made = append_post_operation(operations, shape);
    if (!made) made = dnnl_primitive_attr_set_post_ops(attributes, operations);
    if (!made)
        made = create_product(&product, linear->engine->engine, in, packed ? (memory_desc)(uintptr_t)packed : any,
            bias_desc, out, attributes);
    if (!made) made = dnnl_primitive_create(&tile->primitive, product);
    enum t2t_status status = check(made, "preparing a product");
    if (!status && !linear->weight)
        status = pack_weight(linear, weight, dnnl_primitive_desc_query_md(product, dnnl_query_weights_md, 0));
    if (!status && bias && !linear->bias) status = copy_bias(linear, bias, bias_desc);
    if (!status)
        status =
            tile_memory_open(linear, tile, in, out, dnnl_primitive_desc_query_md(product, dnnl_query_scratchpad_md, 0));

    if (product) dnnl_primitive_desc_destroy(product);
    if (operations) dnnl_post_ops_destroy(operations);
    if (attributes) dnnl_primitive_attr_destroy(attributes);
    forget(in), forget(out), forget(any), forget(bias_desc);
    return status;
}

static void tile_close(struct tile *tile, size_t threads)
{
    for (size_t t = 0; tile->memory && t < threads; t++) {
        if (tile->memory[t].in) dnnl_memory_destroy(tile->memory[t].in);
        if (tile->memory[t].out) dnnl_memory_destroy(tile->memory[t].out);
        if (tile->memory[t].scratchpad) dnnl_memory_destroy(tile->memory[t].scratchpad);
    }
    free(tile->memory);
    if (tile->primitive) dnnl_primitive_destroy(tile->primitive);
}

enum t2t_status t2t_linear_open(struct layer_device *device, struct linear **linear, const struct linear_shape *shape,
    const float *weight, const float *bias)
{
    assert(shape->tokens && !(shape->residual_stride && shape->activation != ACTIVATION_NONE));
    *linear = NULL;
    struct linear *made = calloc(1, sizeof *made);
    if (!made) return t2t_fail_memory("a product", sizeof *made);
    made->shape = *shape;
    made->engine = device->linear_engine;
    made->format = device->format;
    made->tiles = (shape->tokens + TILE_ROWS - 1) / TILE_ROWS;
    const size_t rows = (shape->tokens + made->tiles - 1) / made->tiles;
    made->tiles = (shape->tokens + rows - 1) / rows;
    const size_t last = shape->tokens - (made->tiles - 1) * rows;

    /* Primitives remember how many threads they were made for: one. */
    const int threads_before = omp_get_max_threads();
    omp_set_num_threads(1);
    enum t2t_status status = tile_open(made, &made->full, rows, weight, bias);
    if (!status && last != rows) status = tile_open(made, &made->last, last, weight, bias);
    omp_set_num_threads(threads_before);
    if (status) {
        t2t_linear_close(made);
        return status;
    }
    *linear = made;
    return T2T_OK;
}

void t2t_linear_close(struct linear *linear)
{
    if (!linear) return;
    tile_close(&linear->full, linear->engine->threads);
    tile_close(&linear->last, linear->engine->threads);
    if (linear->weight) dnnl_memory_destroy(linear->weight);
    if (linear->bias) dnnl_memory_destroy(linear->bias);
    free(linear);
}

/* ---- running ---- */

static void run_tile(const struct linear *linear, const struct tile *tile, const struct linear_thread *thread,
    size_t number, void *in, float *out)
{
    const struct tile_memory *memory = &tile->memory[number];
    dnnl_memory_set_data_handle(memory->in, in);
    dnnl_memory_set_data_handle(memory->out, out);
    dnnl_memory_set_data_handle(memory->scratchpad, thread->scratchpad.data);
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, memory->in}, {DNNL_ARG_WEIGHTS, linear->weight},
        {DNNL_ARG_DST, memory->out}, {DNNL_ARG_SCRATCHPAD, memory->scratchpad}, {DNNL_ARG_BIAS, linear->bias}};
    const dnnl_status_t status =
        dnnl_primitive_execute(tile->primitive, thread->stream, linear->bias ? 5 : 4, arguments);
    assert(status == dnnl_success); /* everything was checked when the product was opened */
    (void)status;
}

void t2t_linear(struct layer_device *device, const struct linear *linear, struct matrix in,
    const struct matrix *residual, struct matrix out)
{
    const struct linear_shape *shape = &linear->shape;
    assert(in.channels == shape->in_features && in.stride == in.channels && in.tokens == shape->tokens);
    assert(out.channels == shape->out_features && out.stride == out.channels && out.tokens == shape->tokens);
    assert(in.batch == out.batch && (residual ? residual->stride : 0) == shape->residual_stride);
    const size_t tasks = in.batch * linear->tiles;
#pragma omp parallel num_threads((int)device->threads)
    {
        omp_set_num_threads(1); /* of this thread's products: also where the team is this thread alone */
        const size_t number = device->first_thread + (size_t)omp_get_thread_num();
#pragma omp for schedule(static)
        for (size_t task = 0; task < tasks; task++) {
            const size_t tile_index = task % linear->tiles;
            const size_t row = task / linear->tiles * shape->tokens + tile_index * linear->full.rows;
            const bool is_last = linear->last.rows && tile_index + 1 == linear->tiles;
            const struct tile *tile = is_last ? &linear->last : &linear->full;
            float *destination = out.data + row * out.stride;
            if (residual && residual->data != out.data)
                for (size_t i = 0; i < tile->rows; i++)
                    memcpy(destination + i * out.stride, residual->data + (row + i) * residual->stride,
                        out.channels * sizeof *destination);
            const struct linear_thread *thread = &linear->engine->thread[number];
            void *source = in.data + row * in.stride;
            if (linear->format == FORMAT_BFLOAT16) {
                t2t_round_to_bfloat16(device->kernels, source, tile->rows * in.channels, thread->rounded.data);
                source = thread->rounded.data;
            }
            run_tile(linear, tile, thread, number, source, destination);
        }
    }
}
