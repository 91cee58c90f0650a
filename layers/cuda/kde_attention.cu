/* KDEformer's attention: each tile of queries, in the order of their hashes, over the keys of their blocks and the
 * samples of their group. No matrix of queries by keys or by samples exists in memory. */
#include "layers/cuda/attend_half.cuh"
#include "layers/cuda/kde.h"
#include "layers/cuda/range.h"
#include "layers/cuda/unit_rows.h"

namespace
{

constexpr int SAMPLE = 1 << 30; /* in a key's tag: not of the block diagonal */

/* A tile is up to 64 neighbouring queries of one group. It goes over the keys of all its queries' blocks, of which each
 * query sees its own, and over the samples, of which each sees those outside of its block. */
struct Blocks {
    UnitRows q, k, v;
    KdeSizes sizes;
    KdeMemory memory;
    float *out;
    size_t out_image, out_head, out_row;
    int heads, tiles, head_dim, value_dim;
    float scale;

    __device__ int begin(Tile *tile) const
    {
        const int group = static_cast<int>(blockIdx.x) / tiles;
        tile->unit = static_cast<int>(blockIdx.y);
        tile->first = sizes.group_query(group) + static_cast<int>(blockIdx.x) % tiles * TILE_QUERIES;
        tile->count = max(0, min(TILE_QUERIES, sizes.group_query(group + 1) - tile->first));
        tile->tag = group;
        return tile->count;
    }
    __device__ int row_at(const Tile &tile, int row) const
    {
        return static_cast<int>(memory.q_order[static_cast<size_t>(tile.unit) * static_cast<size_t>(sizes.queries) +
                                               static_cast<size_t>(tile.first + row)]);
    }
    __device__ const float *query(const Tile &tile, int row) const { return q.at(tile.unit, row_at(tile, row)); }
    __device__ int first_key(const Tile &tile) const { return tile.first / sizes.rows * sizes.bucket; }
    __device__ int block_keys(const Tile &tile) const
    {
        const int last_block = (tile.first + tile.count - 1) / sizes.rows;
        return min(sizes.keys, (last_block + 1) * sizes.bucket) - first_key(tile);
    }
    __device__ size_t list_of(const Tile &tile) const
    {
        return static_cast<size_t>(tile.unit * sizes.groups + tile.tag);
    }
    __device__ int keys(const Tile &tile) const
    {
        return block_keys(tile) + (sizes.samples ? memory.taken[list_of(tile)] : 0);
    }
    __device__ Key key(const Tile &tile, int j) const
    {
        const size_t unit = static_cast<size_t>(tile.unit) * static_cast<size_t>(sizes.keys);
        const int of_blocks = block_keys(tile);
        if (j < of_blocks) {
            const int position = first_key(tile) + j;
            const int row = static_cast<int>(memory.k_order[unit + static_cast<size_t>(position)]);
            return {k.at(tile.unit, row), v.at(tile.unit, row), 0, position};
        }
        const size_t at = list_of(tile) * static_cast<size_t>(sizes.samples) + static_cast<size_t>(j - of_blocks);
        const int row = static_cast<int>(memory.sample_key[at]);
        return {k.at(tile.unit, row), v.at(tile.unit, row), memory.sample_weight[at],
            static_cast<int>(memory.k_position[unit + static_cast<size_t>(row)]) | SAMPLE};
    }
    __device__ float score(const Tile &tile, int row, const Key &key, float product) const
    {
        const bool own_block = (key.tag & ~SAMPLE) / sizes.bucket == (tile.first + row) / sizes.rows;
        const bool sampled = key.tag & SAMPLE; /* a sample of the own block is in the block already */
        return own_block != sampled ? product * scale + key.bias : -INFINITY;
    }
    __device__ void store(const Tile &tile, int row, int column, float value) const
    {
        out[static_cast<size_t>(tile.unit / heads) * out_image + static_cast<size_t>(tile.unit % heads) * out_head +
            static_cast<size_t>(row_at(tile, row)) * out_row + static_cast<size_t>(column)] = value;
    }
    __device__ void store_sum(const Tile &, int, float) const {}
};

KdeSizes sizes_of(const struct attention_call *call)
{
    const struct attention_shape *shape = &call->shape;
    const struct attention_config *config = &call->config;
    KdeSizes sizes = {};
    sizes.queries = static_cast<int>(shape->queries);
    sizes.keys = static_cast<int>(shape->keys);
    sizes.head_dim = static_cast<int>(shape->head_dim);
    sizes.value_dim = static_cast<int>(shape->value_dim);
    sizes.projections = static_cast<int>(config->projections);
    sizes.bucket = static_cast<int>(config->bucket < shape->keys ? config->bucket : shape->keys);
    sizes.blocks = (sizes.keys + sizes.bucket - 1) / sizes.bucket;
    sizes.rows = (sizes.queries + sizes.blocks - 1) / sizes.blocks;
    sizes.groups = static_cast<int>(attention_sample_groups(config));
    sizes.samples = static_cast<int>(config->samples);
    if (config->sampling == KDE_SYSTEMATIC && sizes.samples > sizes.keys) sizes.samples = sizes.keys;
    if (config->probability == KDE_PILOT) sizes.pilots = static_cast<int>(config->pilot) / sizes.groups;
    for (int group = 0; config->probability == KDE_COLUMN_NORM && group < sizes.groups; group++) {
        const int queries = sizes.group_query(group + 1) - sizes.group_query(group);
        if (queries > sizes.pilots) sizes.pilots = queries;
    }
    return sizes;
}

template <class T> T *take(struct t2t_arena *arena, size_t count)
{
    return static_cast<T *>(t2t_arena_take(arena, count, sizeof(T)));
}

KdeMemory take_memory(
    struct layer_device *device, const struct attention_call *call, const KdeSizes &sizes, struct t2t_arena *arena)
{
    const size_t units = call->batch * call->shape.heads, queries = call->shape.queries, keys = call->shape.keys;
    const size_t groups = static_cast<size_t>(sizes.groups), samples = static_cast<size_t>(sizes.samples);
    const size_t width = call->shape.value_dim + 1;
    const struct attention_draw_counts draws =
        attention_method(ATTENTION_KDEFORMER)->draw_counts(&call->shape, &call->config);
    KdeMemory memory = {};
    memory.projection = t2t_cuda_upload(device, arena, call->draws.projection, units * draws.projection);
    memory.sample_uniform = t2t_cuda_upload(device, arena, call->draws.sample_uniform, units * draws.sample_uniform);
    if (draws.pilot_uniform)
        memory.pilot_uniform = t2t_cuda_upload(device, arena, call->draws.pilot_uniform, units * draws.pilot_uniform);
    memory.q_code = take<uint16_t>(arena, units * queries);
    memory.k_code = take<uint16_t>(arena, units * keys);
    memory.q_order = take<uint32_t>(arena, units * queries);
    memory.k_order = take<uint32_t>(arena, units * keys);
    memory.other = take<uint32_t>(arena, units * (queries > keys ? queries : keys));
    memory.k_position = take<uint32_t>(arena, units * keys);
    memory.pilot_sum = take<float>(arena, units * groups * static_cast<size_t>(sizes.pilots));
    memory.column = take<float>(arena, sizes.pilots ? units * groups * keys : 0);
    memory.mean = take<float>(arena, units * call->shape.value_dim);
    memory.gram = take<double>(arena, call->config.probability == KDE_VALUE ? units * width * width : 0);
    memory.vectors = take<double>(arena, call->config.probability == KDE_VALUE ? units * 41 * width : 0);
    memory.norm = take<float>(arena, units);
    memory.length = take<float>(arena, units * keys);
    memory.probability = take<float>(arena, units * groups * keys);
    memory.weight = take<unsigned long long>(arena, units * groups * keys);
    memory.sample_key = take<uint32_t>(arena, units * groups * samples);
    memory.sample_weight = take<float>(arena, units * groups * samples);
    memory.taken = take<int>(arena, units * groups);
    return memory;
}

} /* namespace */

void t2t_cuda_kdeformer(struct layer_device *device, const struct attention_call *call, struct t2t_arena *arena)
{
    const struct attention_shape *shape = &call->shape;
    KdeCall kde = {call, device, sizes_of(call), {}, call->batch * shape->heads};
    kde.memory = take_memory(device, call, kde.sizes, arena);
    if (!arena->memory) return;
    int largest_group = 0;
    for (int group = 0; group < kde.sizes.groups; group++) {
        const int queries = kde.sizes.group_query(group + 1) - kde.sizes.group_query(group);
        if (queries > largest_group) largest_group = queries;
    }
    const size_t tiles = tiles_of(static_cast<size_t>(largest_group));
    const Blocks blocks = {query_rows(call), key_rows(call), value_rows(call), kde.sizes, kde.memory, call->out,
        shape->queries * call->out_stride, shape->value_dim, call->out_stride, static_cast<int>(shape->heads),
        static_cast<int>(tiles), kde.sizes.head_dim, kde.sizes.value_dim, shape->scale * LOG2_E};
    const Range step("hash and sort");
    cudaError_t error = t2t_cuda_kde_order(kde);
    step.next("sampling probabilities");
    if (!error && kde.sizes.samples) error = t2t_cuda_kde_probability(kde);
    step.next("samples");
    if (!error && kde.sizes.samples) error = t2t_cuda_kde_samples(kde);
    step.next("blocks and samples");
    if (!error)
        error = run_attend(call->config.format, blocks, static_cast<size_t>(kde.sizes.groups) * tiles, kde.units,
            shape->value_dim, device->stream);
    t2t_cuda_check(device, error, "kdeformer");
}
