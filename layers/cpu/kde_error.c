/* Buckets and samples that a target error takes, as KDEformer's pilot foretells them (layers/kdeformer-sampling.md).
 *
 * The error is that of a sample group's outputs in the Frobenius norm, over their own. A pilot query's own block is
 * exact, and its own softmax row had a part in the probabilities: of each key, the pilot that weighs it most is held
 * against what the probability would have been without it. The order of systematic sampling only makes errors smaller.
 */
#include <math.h>

#include "layers/cpu/kde.h"

/* ---- what the pilots say ---- */

/* Weights of a tile under a common factor become squares of softmax weights: share[lane] is one over their sum. */
static void find_shares(const struct kde *kde, const struct kde_unit *memory, const bool *used, float *share)
{
    const size_t keys = kde->call->shape.keys, lanes = kde->kernels->lanes;
    for (size_t lane = 0; lane < lanes; lane++) share[lane] = 0;
    for (size_t j = 0; j < keys; j++)
        for (size_t lane = 0; lane < lanes; lane++) share[lane] += memory->scores[j * lanes + lane];
    for (size_t lane = 0; lane < lanes; lane++) share[lane] = used[lane] ? 1 / share[lane] : 0;
}

/* Squares of a pilot's weights inside of its block, under each choice. */
static void add_inside(const struct kde *kde, const struct kde_unit *memory, size_t lane, size_t position, float share)
{
    const size_t keys = kde->call->shape.keys, lanes = kde->kernels->lanes;
    for (size_t choice = 0; choice < kde->choices; choice++) {
        const struct kde sized = t2t_kde_with_bucket(kde, kde->bucket << choice);
        const size_t begin = position / sized.rows * sized.bucket;
        const size_t end = begin + sized.bucket < keys ? begin + sized.bucket : keys;
        float *inside = memory->inside + (choice * kde->groups + lane % kde->groups) * keys;
        for (size_t at = begin; at < end; at++) {
            const size_t key = memory->k_order[at];
            const float a = memory->scores[key * lanes + lane] * share;
            inside[key] += a * a;
        }
    }
}

void t2t_kde_note_pilots(const struct kde *kde, const struct kde_unit *memory, const bool *used, const size_t *position)
{
    const size_t keys = kde->call->shape.keys, lanes = kde->kernels->lanes;
    float share[T2T_MAX_LANES];
    find_shares(kde, memory, used, share);
    for (size_t lane = 0; lane < lanes; lane++)
        if (used[lane]) add_inside(kde, memory, lane, position[lane], share[lane]);
    if (kde->call->config.probability == KDE_COLUMN_NORM) return; /* every query is a pilot: none stands for others */
    for (size_t j = 0; j < keys; j++) {
        const float *score = memory->scores + j * lanes;
        float *largest = memory->largest + j * T2T_QUARTERS;
        for (size_t lane = 0; lane < lanes; lane += T2T_QUARTERS)
            for (size_t r = 0; r < T2T_QUARTERS && lane + r < lanes; r++) {
                const float a = score[lane + r] * share[lane + r];
                largest[r] = used[lane + r] && a * a > largest[r] ? a * a : largest[r];
            }
    }
}

/* ---- what follows for a number of samples ---- */

/* Of a group, [keys] each. */
struct key_terms {
    const float *probability;
    float *without; /* probability, were it not for the pilot that weighs the key most */
    float *others;  /* (distance a)^2, summed over the other pilots */
    float *most;    /* the same of that one */
};

static struct key_terms terms_of(const struct kde *kde, const struct kde_unit *memory, size_t choice, size_t group)
{
    const size_t keys = kde->call->shape.keys, groups = kde->groups;
    const struct key_terms terms = {
        memory->probability + group * keys, memory->terms, memory->terms + keys, memory->terms + 2 * keys};
    const float *inside = memory->inside + (choice * groups + group) * keys;
    const float even = (float)(T2T_KDE_EVEN_SHARE / (double)keys);
    float *squares = memory->scores; /* the pilot is done with them */
    t2t_kde_squares(kde, memory, group, squares);
    for (size_t j = 0; j < keys; j++) {
        float largest = 0;
        for (size_t r = group; r < T2T_QUARTERS; r += groups)
            largest = fmaxf(largest, memory->largest[j * T2T_QUARTERS + r]);
        const float left = squares[j] > largest ? 1 - largest / squares[j] : 0, distance = memory->distance[j];
        const float beyond = squares[j] > inside[j] ? squares[j] - inside[j] : 0;
        const float most = largest < beyond ? largest : beyond;
        terms.without[j] = even + fmaxf(0, terms.probability[j] - even) * sqrtf(left);
        terms.most[j] = most * distance * distance;
        terms.others[j] = (beyond - most) * distance * distance;
    }
    return terms;
}

/* f such that the expected draws min(1, f p_j) sum to `samples`, fewer than keys; INFINITY: the others have no p. */
static float factor_of(const float *probability, size_t keys, size_t samples)
{
    enum { MOST_ROUNDS = 64 }; /* each finds more keys that are certain, or is the last */
    float factor = (float)samples;
    size_t certain = 0;
    for (size_t round = 0; round < MOST_ROUNDS; round++) {
        float rest = 0;
        unsigned found = 0;
#pragma omp simd reduction(+ : rest, found)
        for (size_t j = 0; j < keys; j++) {
            const bool is_certain = factor * probability[j] >= 1;
            found += is_certain;
            rest += is_certain ? 0 : probability[j];
        }
        if (!(rest > 0) || found >= samples) return INFINITY;
        factor = (float)(samples - found) / rest;
        if (found == certain) break;
        certain = found;
    }
    return factor;
}

/* Sum over pilots and keys of (distance a)^2 (1 / expected draws - 1). */
static float predicted_squares(const struct key_terms *terms, size_t keys, size_t samples)
{
    if (samples >= keys) return 0;
    const float factor = factor_of(terms->probability, keys, samples);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < keys; j++) {
        const float expected = factor * terms->probability[j], without = factor * terms->without[j];
        sum += (expected < 1 ? terms->others[j] * (1 / expected - 1) : 0) +
               (without < 1 ? terms->most[j] * (1 / without - 1) : 0);
    }
    return sum;
}

/* ---- choosing ---- */

/* The fewest samples, at most `most`, with which a group's target error is met; most + 1 where it is not. */
static size_t fewest_samples(
    const struct kde *kde, const struct kde_unit *memory, size_t choice, size_t group, size_t most)
{
    const size_t keys = kde->call->shape.keys;
    const struct key_terms terms = terms_of(kde, memory, choice, group);
    const double target = (double)kde->call->config.target_error;
    const double allowed = target * target * memory->pilot_size[group];
    size_t low = 1, high = most;
    if (!(predicted_squares(&terms, keys, most) <= allowed)) return most + 1; /* also where there is a NaN */
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (predicted_squares(&terms, keys, middle) <= allowed)
            high = middle;
        else
            low = middle + 1;
    }
    return high;
}

/* Whether every group meets its target under a choice with at most most[group] samples; how many it takes. */
static bool meets(
    const struct kde *kde, const struct kde_unit *memory, size_t choice, const size_t *most, size_t *samples)
{
    for (size_t group = 0; group < kde->groups; group++) {
        samples[group] = fewest_samples(kde, memory, choice, group, most[group]);
        if (samples[group] > most[group]) return false;
    }
    return true;
}

void t2t_kde_choose(const struct kde *kde, const struct kde_unit *memory)
{
    size_t samples[T2T_QUARTERS], most[T2T_QUARTERS];
    bool met = true;
    for (size_t group = 0; group < kde->groups; group++) {
        samples[group] = fewest_samples(kde, memory, 0, group, kde->samples);
        met = met && samples[group] <= kde->samples;
        memory->taken[group] = samples[group] <= kde->samples ? samples[group] : kde->samples;
    }
    /* Larger buckets, where they save every group more samples than they have keys, or meet what was not met. */
    for (size_t choice = 1; choice < kde->choices; choice++) {
        const size_t bucket = kde->bucket << choice, added = bucket - *memory->bucket;
        bool possible = true;
        for (size_t group = 0; group < kde->groups; group++) {
            possible = possible && (!met || memory->taken[group] > added + 1);
            most[group] = met ? memory->taken[group] - added - 1 : kde->samples;
        }
        if (!possible || !meets(kde, memory, choice, most, samples)) continue;
        met = true;
        *memory->bucket = bucket;
        for (size_t group = 0; group < kde->groups; group++) memory->taken[group] = samples[group];
    }
}
