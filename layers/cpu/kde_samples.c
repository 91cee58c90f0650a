/* KDEformer's sampled keys: from probabilities to the keys of each group of blocks with their weights.
 *
 * Draws are integers throughout, so that every device takes the same keys from the same probabilities; a key's weight
 * is one over its expected number of draws by those integers, which keeps sums over samples unbiased.
 */
#include <math.h>
#include <string.h>

#include "layers/cpu/kde.h"

void t2t_kde_weigh(const float *probability, size_t keys, uint64_t *weight)
{
    for (size_t j = 0; j < keys; j++) {
        double units = (double)probability[j] * 0x1p32;
        units = units >= 1 ? units : 1; /* NaN counts as 1 too */
        units = units <= 0x1p32 ? units : 0x1p32;
        weight[j] = (uint64_t)(int64_t)(units + 0.5); /* signed: one instruction */
    }
}

void t2t_kde_cumulate(const float *probability, size_t keys, uint64_t *cumulative)
{
    t2t_kde_weigh(probability, keys, cumulative);
    for (size_t j = 1; j < keys; j++) cumulative[j] += cumulative[j - 1];
}

/* floor(uniform * total / 2^32), in two halves since the total may be a little above 2^32. */
static uint64_t share_of(uint64_t total, uint32_t uniform)
{
    return uniform * (total >> 32) + (uniform * (total & UINT32_MAX) >> 32);
}

size_t t2t_kde_pick(const uint64_t *cumulative, size_t keys, uint32_t uniform)
{
    const uint64_t target = share_of(cumulative[keys - 1], uniform);
    size_t low = 0, high = keys - 1;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (cumulative[middle] > target)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Marks (with 0) the keys that are always taken: those with samples * weight >= total, when neither counts the marked
 * ones. Returns how many samples are left for the others; *total is the sum of their weights. */
static size_t mark_certain_keys(uint64_t *weight, size_t keys, size_t samples, uint64_t *total)
{
    for (bool found = true; found && samples;) {
        const uint64_t bound = (*total + samples - 1) / samples, before = *total;
        for (size_t j = 0; j < keys; j++)
            if (weight[j] >= bound) {
                *total -= weight[j];
                weight[j] = 0;
                samples--;
            }
        found = *total != before;
    }
    return samples;
}

size_t t2t_kde_systematic(
    const uint32_t *order, size_t keys, size_t samples, uint32_t uniform, uint64_t *weight, struct kde_sample *sample)
{
    if (samples > keys) samples = keys;
    uint64_t total = 0, sum = 0;
    for (size_t j = 0; j < keys; j++) total += weight[j];
    const size_t drawn = mark_certain_keys(weight, keys, samples, &total);
    /* Point i lies at (i total + offset) / drawn of the weights' running sum, here in units of 1 / drawn. */
    uint64_t point = drawn ? share_of(total, uniform) : 0;
    size_t taken = 0;
    for (size_t i = 0; i < keys && taken < samples; i++) {
        const size_t key = order[i];
        if (!weight[key]) {
            sample[taken++] = (struct kde_sample){.key = key, .expected = 1};
            continue;
        }
        sum += weight[key] * drawn;
        if (point >= sum) continue;
        sample[taken++] = (struct kde_sample){.key = key, .expected = (double)(weight[key] * drawn) / (double)total};
        point += total;
    }
    return taken;
}

static void take_sample(const struct kde *kde, const struct kde_unit *memory, size_t unit, size_t group, size_t sample,
    struct kde_sample taken)
{
    const struct attention_call *call = kde->call;
    const struct head_view head = t2t_head_view(call, unit);
    const size_t dim = call->shape.head_dim, value_dim = call->shape.value_dim, at = group * kde->samples + sample;
    memcpy(memory->sample_k + at * dim, head.k + taken.key * call->k_stride, dim * sizeof(float));
    memcpy(memory->sample_v + at * value_dim, head.v + taken.key * call->v_stride, value_dim * sizeof(float));
    memory->sample_weight[at] = (float)-log2(taken.expected);
    memory->sample_position[at] = memory->k_position[taken.key];
}

/* Keys that came with the call. */
static void take_given(const struct kde *kde, const struct kde_unit *memory, size_t unit, size_t group)
{
    const size_t row = unit * kde->groups + group;
    const int32_t *key = kde->call->draws.sample_key + row * kde->samples;
    const float *probability = kde->call->draws.sample_probability + row * kde->call->shape.keys;
    for (size_t s = 0; s < kde->samples; s++)
        take_sample(kde, memory, unit, group, s,
            (struct kde_sample){.key = (size_t)key[s], .expected = (double)kde->samples * (double)probability[key[s]]});
}

static void take_multinomial(const struct kde *kde, const struct kde_unit *memory, size_t unit, size_t group,
    const float *probability, uint64_t *cumulative)
{
    const size_t keys = kde->call->shape.keys, samples = kde->samples;
    const uint32_t *uniform = kde->call->draws.sample_uniform + (unit * kde->groups + group) * samples;
    t2t_kde_cumulate(probability, keys, cumulative);
    for (size_t s = 0; s < samples; s++) {
        const size_t key = t2t_kde_pick(cumulative, keys, uniform[s]);
        const uint64_t weight = cumulative[key] - (key ? cumulative[key - 1] : 0);
        const double expected = (double)samples * ((double)weight / (double)cumulative[keys - 1]);
        take_sample(kde, memory, unit, group, s, (struct kde_sample){.key = key, .expected = expected});
    }
}

/* The groups' points interleave: theirs together are equally spaced again. */
static void take_systematic(const struct kde *kde, const struct kde_unit *memory, size_t unit, size_t group,
    const float *probability, uint64_t *weight)
{
    struct kde_sample *sample = memory->sample + group * kde->samples;
    const uint32_t uniform = (uint32_t)(kde->call->draws.sample_uniform[unit] + ((uint64_t)group << 32) / kde->groups);
    t2t_kde_weigh(probability, kde->call->shape.keys, weight);
    const size_t taken =
        t2t_kde_systematic(memory->k_order, kde->call->shape.keys, memory->taken[group], uniform, weight, sample);
    for (size_t s = 0; s < taken; s++) take_sample(kde, memory, unit, group, s, sample[s]);
    memory->taken[group] = taken;
}

void t2t_kde_prepare_samples(
    const struct kde *kde, const struct kde_unit *memory, const struct query_tile *tile, size_t unit)
{
    const struct attention_shape *shape = &kde->call->shape;
    const bool target = kde->call->config.target_error > 0;
    *memory->choice = (struct kde_choice){.bucket = kde->bucket, .met = true};
    for (size_t group = 0; group < kde->groups; group++) memory->taken[group] = kde->samples;
    if (!kde->samples || kde->call->draws.sample_key) return;
    const double clock = t2t_step_begin(kde->call);
    switch (kde->call->config.probability) {
    case KDE_VALUE:
        t2t_kde_probability(kde->kernels, t2t_head_view(kde->call, unit).v, kde->call->v_stride, shape->keys,
            shape->value_dim, memory->probability, memory->vectors);
        break;
    case KDE_UNIFORM:
        for (size_t j = 0; j < shape->keys; j++) memory->probability[j] = 1 / (float)shape->keys;
        break;
    case KDE_PILOT:
    case KDE_COLUMN_NORM:
        t2t_kde_pilot(kde, memory, tile, unit);
        for (size_t group = 0; group < kde->groups && target; group++) t2t_kde_pilot_probability(kde, memory, group);
        if (target) t2t_kde_choose(kde, memory);
        break;
    }
    t2t_step_end(kde->call, ATTENTION_STEP_PROBABILITIES, clock);
}

void t2t_kde_draw_samples(const struct kde *kde, const struct kde_unit *memory, size_t unit, size_t group)
{
    const size_t keys = kde->call->shape.keys;
    const struct attention_config *config = &kde->call->config;
    if (!kde->samples) return;
    double clock = t2t_step_begin(kde->call);
    if (kde->call->draws.sample_key) {
        take_given(kde, memory, unit, group);
        return;
    }
    const bool own = t2t_kde_needs_pilot(config);
    if (own && !(config->target_error > 0)) t2t_kde_pilot_probability(kde, memory, group);
    clock = t2t_step_end(kde->call, ATTENTION_STEP_PROBABILITIES, clock);
    const float *probability = memory->probability + (own ? group * keys : 0);
    uint64_t *sums = memory->cumulative + group * keys;
    if (config->sampling == KDE_SYSTEMATIC)
        take_systematic(kde, memory, unit, group, probability, sums);
    else
        take_multinomial(kde, memory, unit, group, probability, sums);
    t2t_step_end(kde->call, ATTENTION_STEP_DRAWS, clock);
}
