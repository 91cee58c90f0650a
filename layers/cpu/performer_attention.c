/* The attention of Token_performer, as the official T2T-ViT defines and trained it (models/token_performer.py):
 * phi(x) = exp(w x - |x|^2 / 2) / sqrt(features); out = phi(q) (phi(k)^T v) / (phi(q) sum phi(k) + 1e-8).
 *
 * Unlike a softmax it is not shift-invariant (the 1e-8), so nothing is shifted. Sums over keys run in float32 over
 * chunks and in float64 over chunks: float32 alone loses 1e-5 at 9216 keys. The chunks depend on the sizes only, so
 * results do not depend on the number of threads.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "layers/cpu/cpu_device.h"

enum { CHUNK = 112, MAX_FEATURES = 512 };

static size_t chunks(size_t tokens)
{
    return (tokens + CHUNK - 1) / CHUNK;
}

/* [features, dim] sums of phi(k) v, then [features] sums of phi(k). */
static size_t sums_size(size_t features, size_t dim)
{
    return features * (dim + 1);
}

size_t t2t_performer_scratch(struct layer_device *device, size_t tokens, size_t dim, size_t features, size_t batch)
{
    (void)device;
    assert(features <= MAX_FEATURES);
    /* each chunk's sums, then each image's, as float64 and, for the queries, as float32 */
    return batch * (chunks(tokens) * sizeof(float) + sizeof(double) + sizeof(float)) * sums_size(features, dim);
}

static void features_of(const float *restrict x, const float *restrict w, size_t features, size_t dim, float *phi)
{
    float norm = 0;
    for (size_t c = 0; c < dim; c++) norm += x[c] * x[c];
    const float scale = 1 / sqrtf((float)features);
    for (size_t f = 0; f < features; f++) {
        float partial[8] = {0};
        const float *row = w + f * dim;
        size_t c = 0;
        for (; c + 8 <= dim; c += 8)
            for (size_t lane = 0; lane < 8; lane++) partial[lane] += x[c + lane] * row[c + lane];
        float dot = 0;
        for (; c < dim; c++) dot += x[c] * row[c];
        for (size_t lane = 0; lane < 8; lane++) dot += partial[lane];
        phi[f] = expf(dot - norm / 2) * scale;
    }
}

static void sum_keys(const float *w, size_t features, struct matrix k, struct matrix v, size_t image, size_t begin,
    size_t end, float *restrict sums)
{
    const size_t dim = k.channels;
    float phi[MAX_FEATURES];
    memset(sums, 0, sums_size(features, dim) * sizeof *sums);
    for (size_t t = begin; t < end; t++) {
        const float *value = v.data + (image * v.tokens + t) * v.stride;
        features_of(k.data + (image * k.tokens + t) * k.stride, w, features, dim, phi);
        for (size_t f = 0; f < features; f++) {
            float *restrict row = sums + f * dim;
            for (size_t c = 0; c < dim; c++) row[c] += phi[f] * value[c];
            sums[features * dim + f] += phi[f];
        }
    }
}

static void answer_query(
    const float *query, const float *w, size_t features, size_t dim, const float *restrict sums, float *restrict out)
{
    float phi[MAX_FEATURES], total = 0;
    features_of(query, w, features, dim, phi);
    memset(out, 0, dim * sizeof *out);
    for (size_t f = 0; f < features; f++) {
        for (size_t c = 0; c < dim; c++) out[c] += phi[f] * sums[f * dim + c];
        total += phi[f] * sums[features * dim + f];
    }
    for (size_t c = 0; c < dim; c++) out[c] /= total + 1e-8F;
}

void t2t_performer_attention(struct layer_device *device, const float *w, size_t features, struct matrix k,
    struct matrix q, struct matrix v, struct matrix out, void *scratch)
{
    const size_t batch = q.batch, tokens = q.tokens, dim = q.channels, count = chunks(tokens);
    const size_t size = sums_size(features, dim);
    double *const exact_sums = scratch;                       /* [batch, size] */
    float *const sums = (float *)(exact_sums + batch * size); /* [batch, size] */
    float *const chunk_sums = sums + batch * size;            /* [batch, count, size] */
#pragma omp parallel num_threads((int)device->threads)
    {
#pragma omp for schedule(static)
        for (size_t task = 0; task < batch * count; task++) {
            const size_t begin = task % count * CHUNK, end = begin + CHUNK < tokens ? begin + CHUNK : tokens;
            sum_keys(w, features, k, v, task / count, begin, end, chunk_sums + task * size);
        }
#pragma omp for schedule(static)
        for (size_t image = 0; image < batch; image++) {
            double *restrict total = exact_sums + image * size;
            memset(total, 0, size * sizeof *total);
            for (size_t chunk = 0; chunk < count; chunk++) {
                const float *restrict part = chunk_sums + (image * count + chunk) * size;
                for (size_t i = 0; i < size; i++) total[i] += (double)part[i];
            }
            for (size_t i = 0; i < size; i++) sums[image * size + i] = (float)total[i];
        }
#pragma omp for schedule(static)
        for (size_t row = 0; row < batch * tokens; row++)
            answer_query(
                q.data + row * q.stride, w, features, dim, sums + row / tokens * size, out.data + row * out.stride);
    }
}
