/* Buckets and samples that a target error takes, as KDEformer's pilot foretells them (layers/kdeformer-sampling.md).
 *
 * The error is that of a sample group's outputs in the Frobenius norm, over their own. A pilot query's own block is
 * exact, and its own softmax row had a part in the probabilities: of each key, the pilot that weighs it most is held
 * against what the probability would have been without it. The order of systematic sampling only makes errors smaller.
 */
#include <math.h>
#include <string.h>

#include "layers/cpu/kde.h"

/* ---- what the pilots say ---- */

void t2t_kde_forget_pilots(const struct kde *kde, const struct kde_unit *memory)
{
    const size_t keys = kde->call->shape.keys;
    memset(memory->pilot_size, 0, kde->groups * sizeof *memory->pilot_size);
    memset(memory->largest, 0, keys * T2T_QUARTERS * sizeof *memory->largest);
    memset(memory->moved, 0, keys * T2T_QUARTERS * sizeof *memory->moved);
    memset(memory->most_moved, 0, keys * T2T_QUARTERS * sizeof *memory->most_moved);
    memset(memory->inside, 0, kde->choices * kde->groups * keys * sizeof *memory->inside);
}

/* Pilots of a tile, lane by lane; 0 where a lane is not used. */
struct noted {
    float share[T2T_MAX_LANES]; /* one over the sum of its weights */
    float apart[T2T_MAX_LANES]; /* |output - mean|^2 + 2 mean . (output - mean), in units of v's distances */
};

/* Attends to all keys: pilot_out, less the mean of v and in units, and pilot_size. */
static void find_outputs(const struct kde *kde, const struct kde_unit *memory, const struct query_tile *tile,
    const struct head_view *head, const bool *used, const float *mean, double unit, struct noted *noted)
{
    const struct attention_call *call = kde->call;
    const size_t lanes = kde->kernels->lanes, dim = call->shape.value_dim;
    const struct key_run keys = {
        .k = head->k, .v = head->v, .k_stride = call->k_stride, .v_stride = call->v_stride, .keys = call->shape.keys};
    float *out[T2T_MAX_LANES];
    for (size_t lane = 0; lane < lanes; lane++) out[lane] = memory->pilot_out + lane * dim;
    kde->kernels->attend(tile, &keys);
    kde->kernels->store_values(tile, out, lanes);
    for (size_t lane = 0; lane < lanes; lane++) {
        double size = 0, apart = 0;
        for (size_t c = 0; c < dim; c++) {
            const double own = (double)out[lane][c] / unit, centre = (double)mean[c] / unit;
            size += own * own;
            apart += (own - centre) * (own - centre) + 2 * centre * (own - centre);
            out[lane][c] = (float)(own - centre);
        }
        if (used[lane]) memory->pilot_size[lane % kde->groups] += size;
        noted->apart[lane] = (float)apart;
    }
    kde->kernels->load_queries((const float *const *)out, lanes, dim, (float)(1 / unit), memory->pilot_query);
}

/* product = v . (output - mean) for every key and lane, from which the distances of v from the outputs follow. */
static void find_products(const struct kde *kde, const struct kde_unit *memory, const struct head_view *head)
{
    const struct query_tile outputs = {.head_dim = kde->call->shape.value_dim, .query = memory->pilot_query};
    const struct key_run rows = {.k = head->v, .k_stride = kde->call->v_stride, .keys = kde->call->shape.keys};
    kde->kernels->score(&outputs, &rows, memory->product);
}

static void find_shares(const struct kde *kde, const struct kde_unit *memory, const bool *used, struct noted *noted)
{
    const size_t keys = kde->call->shape.keys, lanes = kde->kernels->lanes;
    float sum[T2T_MAX_LANES] = {0};
    for (size_t j = 0; j < keys; j++)
        for (size_t lane = 0; lane < lanes; lane++) sum[lane] += memory->scores[j * lanes + lane];
    for (size_t lane = 0; lane < lanes; lane++) noted->share[lane] = used[lane] ? 1 / sum[lane] : 0;
}

/* (softmax weight times |v_j - output|)^2; the weight's square goes to `square`. */
static float moved_by(const struct kde *kde, const struct kde_unit *memory, const struct noted *noted, size_t j,
    size_t lane, float *square)
{
    const size_t at = j * kde->kernels->lanes + lane;
    const float a = memory->scores[at] * noted->share[lane], distance = memory->distance[j];
    const float squares = distance * distance - 2 * memory->product[at] + noted->apart[lane];
    *square = a * a;
    return *square * (squares > 0 ? squares : 0);
}

/* Terms of the keys in a pilot's own block, under each choice. */
static void add_inside(
    const struct kde *kde, const struct kde_unit *memory, const struct noted *noted, size_t lane, size_t position)
{
    const size_t keys = kde->call->shape.keys;
    for (size_t choice = 0; choice < kde->choices; choice++) {
        const struct kde sized = t2t_kde_with_bucket(kde, kde->bucket << choice);
        const size_t begin = position / sized.rows * sized.bucket;
        const size_t end = begin + sized.bucket < keys ? begin + sized.bucket : keys;
        float *inside = memory->inside + (choice * kde->groups + lane % kde->groups) * keys, square;
        for (size_t at = begin; at < end; at++) {
            const size_t key = memory->k_order[at];
            inside[key] += moved_by(kde, memory, noted, key, lane, &square);
        }
    }
}

void t2t_kde_note_pilots(const struct kde *kde, const struct kde_unit *memory, const struct query_tile *tile,
    size_t image_head, const bool *used, const size_t *position, const float *mean, double unit)
{
    const size_t keys = kde->call->shape.keys, lanes = kde->kernels->lanes;
    const struct head_view head = t2t_head_view(kde->call, image_head);
    const bool all = kde->call->config.probability == KDE_COLUMN_NORM; /* none of them stands for other queries */
    struct noted noted;
    find_outputs(kde, memory, tile, &head, used, mean, unit, &noted);
    find_products(kde, memory, &head);
    find_shares(kde, memory, used, &noted);
    for (size_t j = 0; j < keys; j++)
        for (size_t lane = 0; lane < lanes; lane++) {
            const size_t at = j * T2T_QUARTERS + lane % T2T_QUARTERS;
            float square;
            const float moved = moved_by(kde, memory, &noted, j, lane, &square);
            if (!used[lane]) continue; /* what is there may be no number */
            memory->moved[at] += moved;
            if (all) continue;
            memory->most_moved[at] = fmaxf(memory->most_moved[at], moved);
            memory->largest[at] = fmaxf(memory->largest[at], square);
        }
    for (size_t lane = 0; lane < lanes; lane++)
        if (used[lane]) add_inside(kde, memory, &noted, lane, position[lane]);
}

/* ---- what follows for a number of samples ---- */

/* Of a group, [keys] each. */
struct key_terms {
    const float *probability;
    float *without; /* probability, were it not for the pilot that weighs the key most */
    float *others;  /* (softmax weight times |v_j - output|)^2 outside of blocks, summed over the other pilots */
    float *most;    /* the same of that one */
};

static float largest_of(const struct kde *kde, const float *quarter, size_t group)
{
    float largest = 0;
    for (size_t r = group; r < T2T_QUARTERS; r += kde->groups) largest = fmaxf(largest, quarter[r]);
    return largest;
}

static struct key_terms terms_of(const struct kde *kde, const struct kde_unit *memory, size_t choice, size_t group)
{
    const size_t keys = kde->call->shape.keys;
    const struct key_terms terms = {
        memory->probability + group * keys, memory->terms, memory->terms + keys, memory->terms + 2 * keys};
    const float *inside = memory->inside + (choice * kde->groups + group) * keys;
    const float even = (float)(T2T_KDE_EVEN_SHARE / (double)keys);
    float *squares = memory->scores, *moved = memory->product; /* the pilot is done with them */
    t2t_kde_sum_pilots(kde, memory->squares, group, squares);
    t2t_kde_sum_pilots(kde, memory->moved, group, moved);
    for (size_t j = 0; j < keys; j++) {
        const float largest = largest_of(kde, memory->largest + j * T2T_QUARTERS, group);
        const float left = squares[j] > largest ? 1 - largest / squares[j] : 0;
        const float beyond = moved[j] > inside[j] ? moved[j] - inside[j] : 0;
        const float most = fminf(largest_of(kde, memory->most_moved + j * T2T_QUARTERS, group), beyond);
        terms.without[j] = even + fmaxf(0, terms.probability[j] - even) * sqrtf(left);
        terms.most[j] = most;
        terms.others[j] = beyond - most;
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

/* Sum over pilots and keys of their terms times 1 / expected draws - 1. */
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
        const size_t bucket = kde->bucket << choice, added = bucket - memory->choice->bucket;
        bool possible = true;
        for (size_t group = 0; group < kde->groups; group++) {
            possible = possible && (!met || memory->taken[group] > added + 1);
            most[group] = met ? memory->taken[group] - added - 1 : kde->samples;
        }
        if (!possible || !meets(kde, memory, choice, most, samples)) continue;
        met = true;
        memory->choice->bucket = bucket;
        for (size_t group = 0; group < kde->groups; group++) memory->taken[group] = samples[group];
    }
    memory->choice->met = met;
}
