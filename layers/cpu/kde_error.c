/* How many samples a target error takes, as KDEformer's pilot foretells it (layers/kdeformer-sampling.md).
 *
 * The error is that of a sample group's outputs in the Frobenius norm, over their own. Blocks and the order of systematic
 * sampling only make it smaller.
 */
#include <math.h>

#include "layers/cpu/kde.h"

/* The sum over keys of term_j (1 / expected_j - 1), where expected_j = min(1, factor p_j) sum to `samples`. */
static double predicted_squares(const double *term, const float *probability, size_t keys, size_t samples)
{
    enum { MOST_ROUNDS = 64 }; /* each finds more keys that are certain, or is the last */
    double factor = (double)samples;
    size_t certain = 0;
    for (size_t round = 0; round < MOST_ROUNDS; round++) {
        double rest = 0;
        size_t found = 0;
        for (size_t j = 0; j < keys; j++) {
            if (factor * (double)probability[j] >= 1)
                found++;
            else
                rest += (double)probability[j];
        }
        if (!(rest > 0)) return 0;
        if (found >= samples) return INFINITY;
        factor = (double)(samples - found) / rest;
        if (found == certain) break;
        certain = found;
    }
    double sum = 0;
    for (size_t j = 0; j < keys; j++) {
        const double expected = factor * (double)probability[j];
        if (expected < 1) sum += term[j] * (1 / expected - 1);
    }
    return sum;
}

size_t t2t_kde_samples_for_error(const struct kde *kde, const struct kde_unit *memory, size_t group, double *scratch)
{
    const size_t keys = kde->call->shape.keys;
    const float *probability = memory->probability + group * keys;
    const double target = (double)kde->call->config.target_error;
    const double allowed = target * target * memory->pilot_size[group];
    float *squares =
        memory->scores + group * keys; /* the pilot is done with them, and there are more lanes than groups */
    t2t_kde_squares(kde, memory, group, squares);
    for (size_t j = 0; j < keys; j++)
        scratch[j] = (double)squares[j] * (double)memory->distance[j] * (double)memory->distance[j];
    size_t low = 1, high = kde->samples; /* NaN anywhere ends at `high` */
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (predicted_squares(scratch, probability, keys, middle) <= allowed)
            high = middle;
        else
            low = middle + 1;
    }
    return high;
}
