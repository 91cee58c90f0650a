/* Buckets and samples that a target error takes, as KDEformer's pilot foretells them (layers/kdeformer-sampling.md).
 *
 * The error is that of a sample group's outputs in the Frobenius norm, over their own. A pilot query's own block is
 * exact, and its own softmax row had a part in the probabilities: of each key, the pilot that weighs it most is held
 * against what the probability would have been without it. The order of systematic sampling only makes errors smaller.
 */
#include <math.h>

#include "layers/cpu/kde.h"

static struct kde choice_of(const struct kde *kde, size_t choice)
{
    return t2t_kde_with_bucket(kde, kde->bucket << choice);
}

/* Arrays of a group under a choice of buckets. */
static size_t at_choice(const struct kde *kde, size_t choice, size_t group)
{
    return (choice * kde->groups + group) * kde->call->shape.keys;
}

void t2t_kde_add_beyond(const struct kde *kde, const struct kde_unit *memory, const bool *used, const size_t *position)
{
    const size_t keys = kde->call->shape.keys, lanes = kde->kernels->lanes;
    const bool all = kde->call->config.probability == KDE_COLUMN_NORM; /* no query but the pilots' */
    for (size_t lane = 0; lane < lanes; lane++) {
        if (!used[lane]) continue;
        const float *score = memory->scores + lane;
        double sum = 0;
        for (size_t j = 0; j < keys; j++) sum += (double)score[j * lanes];
        const float share = (float)(1 / sum);
        for (size_t choice = 0; choice < kde->choices; choice++) {
            const struct kde sized = choice_of(kde, choice);
            const uint32_t bucket = (uint32_t)sized.bucket, begin = (uint32_t)(position[lane] / sized.rows) * bucket;
            float *restrict beyond = memory->beyond + at_choice(kde, choice, lane % kde->groups);
            float *restrict largest = memory->largest + at_choice(kde, choice, lane % kde->groups);
            for (size_t j = 0; j < keys; j++) {
                const float a = score[j * lanes] * share;
                const float square = memory->k_position[j] - begin < bucket ? 0 : a * a;
                beyond[j] += square;
                if (!all && square > largest[j]) largest[j] = square;
            }
        }
    }
}

/* f such that the expected draws min(1, f p_j) sum to `samples`; INFINITY: every key that can be is certain. */
static double factor_of(const float *probability, size_t keys, size_t samples)
{
    enum { MOST_ROUNDS = 64 }; /* each finds more keys that are certain, or is the last */
    double factor = (double)samples;
    size_t certain = 0;
    for (size_t round = 0; round < MOST_ROUNDS; round++) {
        double rest = 0;
        size_t found = 0;
        for (size_t j = 0; j < keys; j++) {
            const bool is_certain = factor * (double)probability[j] >= 1;
            found += is_certain;
            rest += is_certain ? 0 : (double)probability[j];
        }
        if (!(rest > 0) || found >= samples) return INFINITY;
        factor = (double)(samples - found) / rest;
        if (found == certain) break;
        certain = found;
    }
    return factor;
}

/* The sum over keys of a term by the pilots but one, and one by that one. */
struct key_terms {
    const float *probability, *without; /* [keys]: by all pilots; without the one that weighs the key most */
    const double *others, *most;        /* [keys] */
};

static double predicted_squares(const struct key_terms *terms, size_t keys, size_t samples)
{
    if (samples >= keys) return 0;
    const double factor = factor_of(terms->probability, keys, samples);
    double sum = 0;
    for (size_t j = 0; j < keys; j++) {
        const double expected = factor * (double)terms->probability[j], without = factor * (double)terms->without[j];
        sum += (expected < 1 ? terms->others[j] * (1 / expected - 1) : 0) +
               (without < 1 ? terms->most[j] * (1 / without - 1) : 0);
    }
    return sum;
}

/* The fewest samples with which a group's target error is met: `limit` where more than that would be. */
static size_t fewest_samples(
    const struct kde *kde, const struct kde_unit *memory, size_t group, const struct key_terms *terms, size_t limit)
{
    const size_t keys = kde->call->shape.keys;
    const double target = (double)kde->call->config.target_error;
    const double allowed = target * target * memory->pilot_size[group];
    size_t low = 1, high = limit; /* NaN anywhere ends at `limit` */
    if (limit < 2 || !(predicted_squares(terms, keys, limit - 1) <= allowed)) return limit;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (predicted_squares(terms, keys, middle) <= allowed)
            high = middle;
        else
            low = middle + 1;
    }
    return high;
}

/* ... under a choice of buckets. */
static size_t samples_of_choice(
    const struct kde *kde, const struct kde_unit *memory, size_t choice, size_t group, size_t limit)
{
    const size_t keys = kde->call->shape.keys, at = at_choice(kde, choice, group);
    const float *probability = memory->probability + group * keys;
    float *squares = memory->scores, *without = squares + keys; /* the pilot is done with them */
    double *others = memory->terms, *most = others + keys;
    const double even = T2T_KDE_EVEN_SHARE / (double)keys;
    t2t_kde_squares(kde, memory, group, squares);
    for (size_t j = 0; j < keys; j++) {
        const double distance = (double)memory->distance[j], largest = (double)memory->largest[at + j];
        const double left = squares[j] > 0 ? fmax(0, 1 - largest / (double)squares[j]) : 1;
        without[j] = (float)(even + fmax(0, (double)probability[j] - even) * sqrt(left));
        most[j] = largest * distance * distance;
        others[j] = fmax(0, (double)memory->beyond[at + j] - largest) * distance * distance;
    }
    const struct key_terms terms = {probability, without, others, most};
    return fewest_samples(kde, memory, group, &terms, limit);
}

void t2t_kde_choose(const struct kde *kde, const struct kde_unit *memory)
{
    const size_t groups = kde->groups, beyond = kde->samples + 1;
    size_t least = SIZE_MAX; /* of the choices that meet the target: keys that a query of each group sees, together */
    for (size_t choice = 0; choice < kde->choices; choice++) {
        const size_t bucket = kde->bucket << choice;
        size_t samples[T2T_QUARTERS], cost = groups * bucket;
        bool meets = true;
        for (size_t group = 0; group < groups && cost < least; group++) {
            const size_t limit = least - cost < beyond ? least - cost : beyond;
            samples[group] = samples_of_choice(kde, memory, choice, group, limit);
            meets = meets && samples[group] < beyond;
            cost += samples[group];
        }
        if (choice && (!meets || cost >= least)) continue;
        if (meets) least = cost;
        *memory->bucket = bucket;
        for (size_t group = 0; group < groups; group++)
            memory->taken[group] = samples[group] < beyond ? samples[group] : kde->samples;
    }
}
