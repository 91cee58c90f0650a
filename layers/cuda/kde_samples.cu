/* KDEformer's sampled keys: integers throughout, so that from the same probabilities every device takes the same keys
 * (layers/kdeformer-sampling.md, section 2). A block an (image, head) and sample group. */
#include "layers/cuda/kde.h"

namespace
{

typedef unsigned long long Integer;

constexpr int THREADS = 256, WARPS = THREADS / WARP;

struct Shared {
    Integer part[WARPS];
};

__device__ Integer sum_over_block(Integer x, Shared *shared)
{
    x = sum_over<WARP>(x);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared->part[threadIdx.x / WARP] = x;
    __syncthreads();
    Integer total = 0;
    for (int i = 0; i < WARPS; i++) total += shared->part[i];
    return total;
}

/* The sum over threads before this one; *total that of all. */
__device__ Integer sum_before(Integer x, Integer *total, Shared *shared)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, warp = static_cast<int>(threadIdx.x) / WARP;
    Integer upto = x;
    for (int distance = 1; distance < WARP; distance *= 2) {
        const Integer other = __shfl_up_sync(WHOLE_WARP, upto, static_cast<unsigned>(distance));
        if (lane >= distance) upto += other;
    }
    __syncthreads();
    if (lane == WARP - 1) shared->part[warp] = upto;
    __syncthreads();
    Integer before = upto - x;
    *total = 0;
    for (int i = 0; i < WARPS; i++) {
        if (i < warp) before += shared->part[i];
        *total += shared->part[i];
    }
    return before;
}

/* max(1, round(2^32 p)), 1 for NaN. */
__device__ Integer weight_of(float probability)
{
    double units = static_cast<double>(probability) * 4294967296.0;
    units = units >= 1 ? units : 1;
    units = units <= 4294967296.0 ? units : 4294967296.0;
    return static_cast<Integer>(units + 0.5);
}

/* floor(uniform * total / 2^32), in halves since the total may be a little above 2^32. */
__device__ Integer share_of(Integer total, uint32_t uniform)
{
    return uniform * (total >> 32) + (uniform * (total & 0xffffffffu) >> 32);
}

/* Marks (with 0) the keys that are always taken, and tells how many samples are left for the others. */
__device__ Integer mark_certain_keys(Integer *weight, int keys, Integer samples, Integer *total, Shared *shared)
{
    for (bool found = true; found && samples;) {
        const Integer bound = (*total + samples - 1) / samples;
        Integer sum = 0, count = 0;
        for (int j = static_cast<int>(threadIdx.x); j < keys; j += THREADS)
            if (weight[j] >= bound) {
                sum += weight[j];
                count++;
                weight[j] = 0;
            }
        *total -= sum_over_block(sum, shared);
        count = sum_over_block(count, shared);
        found = count > 0;
        samples -= count;
    }
    __syncthreads(); /* weights are read by other threads from here on */
    return samples;
}

/* How many points at offset, offset + spacing ... lie below `at`. */
__device__ Integer points_below(Integer at, Integer offset, Integer spacing)
{
    return at > offset ? (at - offset - 1) / spacing + 1 : 0;
}

struct Draw {
    KdeSizes sizes;
    const float *probability;
    Integer *weight;
    const uint32_t *k_order, *uniform;
    uint32_t *sample_key;
    float *sample_weight;
    int *taken;
};

__global__ void __launch_bounds__(THREADS) draw_systematic(Draw draw)
{
    SHARED_MEMORY(Shared, shared);
    const int keys = draw.sizes.keys, thread = static_cast<int>(threadIdx.x);
    const int unit = static_cast<int>(blockIdx.x) / draw.sizes.groups,
              group = static_cast<int>(blockIdx.x) % draw.sizes.groups;
    const size_t list = static_cast<size_t>(blockIdx.x) * static_cast<size_t>(keys);
    const size_t first = static_cast<size_t>(blockIdx.x) * static_cast<size_t>(draw.sizes.samples);
    const uint32_t *order = draw.k_order + static_cast<size_t>(unit) * static_cast<size_t>(keys);
    Integer *weight = draw.weight + list, total = 0;
    for (int j = thread; j < keys; j += THREADS)
        total += weight[j] = weight_of(draw.probability[list + static_cast<size_t>(j)]);
    total = sum_over_block(total, shared);
    const Integer samples = static_cast<Integer>(min(draw.sizes.samples, keys));
    const Integer drawn = mark_certain_keys(weight, keys, samples, &total, shared);
    const uint32_t offset = static_cast<uint32_t>(
        draw.uniform[unit] + (static_cast<Integer>(group) << 32) / static_cast<Integer>(draw.sizes.groups));
    const Integer point = drawn ? share_of(total, offset) : 0;
    Integer length_before = 0, certain_before = 0; /* on the line, of the keys before this run of 256 */
    for (int begin = 0; begin < keys; begin += THREADS) {
        const bool there = begin + thread < keys;
        const uint32_t key = there ? order[begin + thread] : 0;
        const Integer length = there ? weight[key] * drawn : 0;
        const bool certain = there && weight[key] == 0;
        Integer lengths, certains;
        const Integer from = length_before + sum_before(length, &lengths, shared);
        const Integer sure = certain_before + sum_before(certain, &certains, shared);
        const Integer points = drawn ? points_below(from, point, total) : 0;
        if (certain || (drawn && points_below(from + length, point, total) > points)) {
            const size_t at = first + static_cast<size_t>(sure + points);
            draw.sample_key[at] = key;
            draw.sample_weight[at] =
                certain ? 0 : static_cast<float>(-log2(static_cast<double>(length) / static_cast<double>(total)));
        }
        length_before += lengths;
        certain_before += certains;
    }
    if (thread == 0) draw.taken[blockIdx.x] = static_cast<int>(samples);
}

__global__ void __launch_bounds__(THREADS) draw_multinomial(Draw draw)
{
    SHARED_MEMORY(Shared, shared);
    const int keys = draw.sizes.keys, samples = draw.sizes.samples, thread = static_cast<int>(threadIdx.x);
    const size_t list = static_cast<size_t>(blockIdx.x) * static_cast<size_t>(keys);
    const size_t first = static_cast<size_t>(blockIdx.x) * static_cast<size_t>(samples);
    Integer *sum = draw.weight + list, before = 0;
    for (int begin = 0; begin < keys; begin += THREADS) {
        const int j = begin + thread;
        const Integer weight = j < keys ? weight_of(draw.probability[list + static_cast<size_t>(j)]) : 0;
        Integer all;
        const Integer upto = before + sum_before(weight, &all, shared) + weight;
        if (j < keys) sum[j] = upto;
        before += all;
    }
    __syncthreads();
    for (int s = thread; s < samples; s += THREADS) {
        const Integer target = share_of(sum[keys - 1], draw.uniform[first + static_cast<size_t>(s)]);
        int low = 0, high = keys - 1;
        while (low < high) { /* the first key whose sum is above */
            const int middle = (low + high) / 2;
            if (sum[middle] > target)
                high = middle;
            else
                low = middle + 1;
        }
        const Integer weight = sum[low] - (low ? sum[low - 1] : 0);
        const double share = static_cast<double>(weight) / static_cast<double>(sum[keys - 1]);
        draw.sample_key[first + static_cast<size_t>(s)] = static_cast<uint32_t>(low);
        draw.sample_weight[first + static_cast<size_t>(s)] =
            static_cast<float>(-log2(static_cast<double>(samples) * share));
    }
    if (thread == 0) draw.taken[blockIdx.x] = samples;
}

} /* namespace */

cudaError_t t2t_cuda_kde_samples(const KdeCall &kde)
{
    const KdeMemory &memory = kde.memory;
    const Draw draw = {kde.sizes, memory.probability, memory.weight, memory.k_order, memory.sample_uniform,
        memory.sample_key, memory.sample_weight, memory.taken};
    const dim3 grid(static_cast<unsigned>(kde.units * static_cast<size_t>(kde.sizes.groups)));
    return launch(kde.call->config.sampling == KDE_SYSTEMATIC ? draw_systematic : draw_multinomial, grid, dim3(THREADS),
        sizeof(Shared), kde.device->stream, draw);
}
