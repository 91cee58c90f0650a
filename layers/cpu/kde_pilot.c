/* KDEformer's probabilities of keys from a pilot: the softmax rows of a few queries, computed exactly.
 *
 * The estimator of a group's outputs varies least when key j is drawn in proportion to the norm of its column of the
 * softmax times the distance of v_j from the output (layers/kdeformer-sampling.md). The norm over all queries of the
 * group is taken from its pilot queries, the output from the mean of v. With every query a pilot it is exact.
 */
#include <math.h>
#include <string.h>

#include "layers/cpu/kde.h"

/* Mean of the rows of v, in float32. */
static void mean_value(const struct kde *kde, const struct kde_unit *memory, const float *v, float *mean)
{
    const size_t keys = kde->call->shape.keys, width = kde->call->shape.value_dim + 1;
    double *sum = memory->vectors;
    float *unit_vector = (float *)(sum + width);
    memset(sum, 0, width * sizeof *sum);
    memset(unit_vector, 0, width * sizeof *unit_vector);
    unit_vector[width - 1] = 1; /* W^T W (0, ..., 0, 1) is the sum of the rows [v_j, 1] */
    kde->kernels->gram_times(v, kde->call->v_stride, keys, width - 1, unit_vector, unit_vector + width, sum);
    for (size_t c = 0; c < width - 1; c++) mean[c] = (float)(sum[c] / (double)keys);
}

/* Sorted position of a group's pilot number i of `pilots`: one drawn from each of as many equal runs of the group; of
 * the oracle, which has them all, number i itself. False where the group has no such query. */
static bool pilot_position(const struct kde *kde, size_t unit, size_t group, size_t i, size_t pilots, size_t *position)
{
    const struct kde_range range = t2t_kde_group_queries(kde, group);
    const uint64_t count = range.last - range.first;
    if (kde->call->config.probability == KDE_COLUMN_NORM) {
        *position = range.first + i;
        return i < count;
    }
    const uint32_t uniform = kde->call->draws.pilot_uniform[(unit * kde->groups + group) * pilots + i];
    *position = range.first + (size_t)((((uint64_t)i << 32 | uniform) / pilots * count) >> 32);
    return count > 0;
}

/* Pilots of a group: of the oracle, as many as the largest group has queries. */
static size_t pilots_of_group(const struct kde *kde)
{
    if (kde->call->config.probability != KDE_COLUMN_NORM) return kde->call->config.pilot / kde->groups;
    size_t most = 0;
    for (size_t group = 0; group < kde->groups; group++) {
        const struct kde_range range = t2t_kde_group_queries(kde, group);
        if (range.last - range.first > most) most = range.last - range.first;
    }
    return most;
}

/* Distances whose squares leave the range of float32 come in units of a power of two near the largest difference:
 * probabilities know only their ratios. Returns the unit. */
static double measure_in_own_units(
    const struct kde *kde, const struct kde_unit *memory, const struct head_view *head, const float *mean)
{
    const size_t keys = kde->call->shape.keys, dim = kde->call->shape.value_dim, stride = kde->call->v_stride;
    float farthest = 0, largest = 0;
    for (size_t j = 0; j < keys; j++) farthest = memory->distance[j] > farthest ? memory->distance[j] : farthest;
    if (farthest > 0x1p-40F && farthest < 0x1p40F) return 1;
    for (size_t j = 0; j < keys; j++)
        for (size_t c = 0; c < dim; c++) largest = fmaxf(largest, fabsf(head->v[j * stride + c] - mean[c]));
    if (!(largest > 0) || !isfinite(largest)) return 1;
    const double unit = ldexp(1, ilogb((double)largest));
    for (size_t j = 0; j < keys; j++) {
        double squares = 0;
        for (size_t c = 0; c < dim; c++) {
            const double difference = (double)(head->v[j * stride + c] - mean[c]) / unit;
            squares += difference * difference;
        }
        memory->distance[j] = (float)sqrt(squares);
    }
    return unit;
}

void t2t_kde_pilot(const struct kde *kde, const struct kde_unit *memory, const struct query_tile *tile, size_t unit)
{
    const struct attention_call *call = kde->call;
    const struct attention_kernels *kernels = kde->kernels;
    const struct head_view head = t2t_head_view(call, unit);
    const size_t pilots = pilots_of_group(kde);
    const bool target = call->config.target_error > 0;
    struct key_run keys = {.k = head.k, .k_stride = call->k_stride, .keys = call->shape.keys};
    memset(memory->squares, 0, call->shape.keys * T2T_QUARTERS * sizeof *memory->squares);
    float *mean = (float *)(memory->vectors + 2 * (call->shape.value_dim + 1));
    mean_value(kde, memory, head.v, mean);
    kernels->row_distances(head.v, call->v_stride, call->shape.keys, call->shape.value_dim, mean, memory->distance);
    const double own_unit = measure_in_own_units(kde, memory, &head, mean);
    if (target) t2t_kde_forget_pilots(kde, memory);
    for (size_t first = 0; first < pilots * kde->groups; first += kernels->lanes) {
        const float *rows[T2T_MAX_LANES];
        size_t position[T2T_MAX_LANES] = {0};
        bool used[T2T_MAX_LANES] = {false};
        /* pilots of the groups in turn: quarters tell them apart */
        for (size_t lane = 0; lane < kernels->lanes; lane++) {
            const size_t i = (first + lane) / kde->groups, group = (first + lane) % kde->groups;
            used[lane] = i < pilots && pilot_position(kde, unit, group, i, pilots, &position[lane]);
            rows[lane] = head.q + (used[lane] ? memory->q_order[position[lane]] : 0) * call->q_stride;
        }
        keys.narrow = pilots * kde->groups - first <= kernels->lanes / 2;
        t2t_begin_tile(kernels, tile, rows, kernels->lanes, call->shape.scale);
        kernels->column_squares(tile, &keys, used, memory->scores, memory->squares);
        if (target) t2t_kde_note_pilots(kde, memory, tile, unit, used, position, mean, own_unit);
    }
}

void t2t_kde_sum_pilots(const struct kde *kde, const float *quarter, size_t group, float *sum)
{
    const size_t keys = kde->call->shape.keys;
    for (size_t j = 0; j < keys; j++) sum[j] = quarter[j * T2T_QUARTERS + group];
    for (size_t r = group + kde->groups; r < T2T_QUARTERS; r += kde->groups)
        for (size_t j = 0; j < keys; j++) sum[j] += quarter[j * T2T_QUARTERS + r];
}

void t2t_kde_pilot_probability(const struct kde *kde, const struct kde_unit *memory, size_t group)
{
    const size_t keys = kde->call->shape.keys;
    float *restrict probability = memory->probability + group * keys;
    const float *restrict distance = memory->distance;
    double sum = 0, run[4] = {0}; /* four sums do not wait for each other */
    t2t_kde_sum_pilots(kde, memory->squares, group, probability);
    for (size_t j = 0; j < keys; j++) probability[j] = sqrtf(probability[j]) * distance[j];
    for (size_t j = 0; j < keys; j++) run[j % 4] += (double)probability[j];
    for (size_t i = 0; i < 4; i++) sum += run[i];
    const double even = 1 / (double)keys; /* all there is where v is one value throughout */
    const float share = sum > 0 ? (float)((1 - T2T_KDE_EVEN_SHARE) / sum) : 0;
    const float floor_share = (float)(sum > 0 ? T2T_KDE_EVEN_SHARE * even : even);
    for (size_t j = 0; j < keys; j++) probability[j] = probability[j] * share + floor_share;
}
