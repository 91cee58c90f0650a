/* Definitions in float64; see methods_definition.h. */
#include "layers/tests/methods_definition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows of one (image, head). */
struct rows {
    const struct attention_call *call;
    const float *q, *k, *v;
};

static struct rows rows_of(const struct attention_call *call, size_t unit)
{
    const struct attention_shape *shape = &call->shape;
    const size_t image = unit / shape->heads, head = unit % shape->heads;
    return (struct rows){.call = call,
        .q = call->q + image * shape->queries * call->q_stride + head * shape->head_dim,
        .k = call->k + image * shape->keys * call->k_stride + head * shape->head_dim,
        .v = call->v + image * shape->keys * call->v_stride + head * shape->value_dim};
}

static double dot(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t c = 0; c < dim; c++) sum += (double)a[c] * (double)b[c];
    return sum;
}

/* log(exp(a) + exp(b)) */
static double log_add(double a, double b)
{
    const double high = a > b ? a : b;
    return high == -INFINITY ? high : high + log(exp(a - high) + exp(b - high));
}

/* A sum of exp(log weight) v and of exp(log weight), both times exp(-shift). */
struct mixture {
    double shift, total;
    double *sum;
    size_t dim;
};

static void take(struct mixture *mix, double log_weight, const float *v)
{
    if (log_weight == -INFINITY) return;
    if (log_weight > mix->shift) {
        const double rescale = exp(mix->shift - log_weight);
        for (size_t c = 0; c < mix->dim; c++) mix->sum[c] *= rescale;
        mix->total *= rescale;
        mix->shift = log_weight;
    }
    const double weight = exp(log_weight - mix->shift);
    mix->total += weight;
    for (size_t c = 0; c < mix->dim && v; c++) mix->sum[c] += weight * (double)v[c];
}

/* Begins in the output row itself. */
static struct mixture begin(double *out, size_t dim)
{
    memset(out, 0, dim * sizeof *out);
    return (struct mixture){.shift = -INFINITY, .sum = out, .dim = dim};
}

static void end(struct mixture *mix)
{
    for (size_t c = 0; c < mix->dim; c++) mix->sum[c] /= mix->total;
}

/* ---- features ---- */

/* log of the sum over features of phi(x) phi(y); `both` adds the features of -w. */
static double log_feature_product(
    const float *x, const float *y, const float *w, size_t rows, size_t dim, double scale, bool both)
{
    double sum = -INFINITY;
    for (size_t f = 0; f < rows; f++) {
        const double score = sqrt(scale) * (dot(w + f * dim, x, dim) + dot(w + f * dim, y, dim));
        sum = log_add(sum, score);
        if (both) sum = log_add(sum, -score);
    }
    return sum - scale / 2 * (dot(x, x, dim) + dot(y, y, dim));
}

static void define_performer(const struct rows *rows, const float *w, double *out)
{
    const struct attention_call *call = rows->call;
    const struct attention_shape *shape = &call->shape;
    for (size_t i = 0; i < shape->queries; i++) {
        struct mixture mix = begin(out + i * shape->value_dim, shape->value_dim);
        for (size_t j = 0; j < shape->keys; j++)
            take(&mix,
                log_feature_product(rows->q + i * call->q_stride, rows->k + j * call->k_stride, w,
                    call->config.features, shape->head_dim, (double)shape->scale, false),
                rows->v + j * call->v_stride);
        end(&mix);
    }
}

static void define_scatterbrain(const struct rows *rows, const float *w, double *out)
{
    const struct attention_call *call = rows->call;
    const struct attention_shape *shape = &call->shape;
    const size_t left = call->config.window / 2, right = call->config.window - left;
    for (size_t i = 0; i < shape->queries; i++) {
        const float *q = rows->q + i * call->q_stride;
        struct mixture mix = begin(out + i * shape->value_dim, shape->value_dim);
        double rest = -INFINITY;
        for (size_t j = 0; j < shape->keys; j++) {
            const float *k = rows->k + j * call->k_stride;
            double weight = (double)shape->scale * dot(q, k, shape->head_dim);
            if (j + left < i || j >= i + right) {
                weight = log_feature_product(
                             q, k, w, call->config.features / 2, shape->head_dim, (double)shape->scale, true) -
                         log((double)call->config.features);
                rest = log_add(rest, weight);
            }
            take(&mix, weight, rows->v + j * call->v_stride);
        }
        /* the others count as at least 1e-24: what is missing has no value */
        if (rest < log(1e-24)) take(&mix, rest == -INFINITY ? log(1e-24) : log(1e-24 - exp(rest)), NULL);
        end(&mix);
    }
}

/* ---- reformer ---- */

static size_t hash_of(const float *x, const float *rotation, size_t dim, size_t half)
{
    size_t place = 0;
    double best = -INFINITY;
    for (size_t b = 0; b < 2 * half; b++) {
        double product = 0;
        for (size_t c = 0; c < dim && x; c++) product += (double)x[c] * (double)rotation[c * half + b % half];
        if (b >= half) product = -product;
        if (product > best) {
            best = product;
            place = b;
        }
    }
    return place;
}

/* ring [rounds, padded]: tokens by hash, then by place; those from `tokens` on are padding, rows of zeros. */
static size_t *sorted_ring(const struct rows *rows, const float *rotation, size_t padded)
{
    const struct attention_call *call = rows->call;
    const size_t tokens = call->shape.queries, dim = call->shape.head_dim, rounds = call->config.rounds;
    const size_t half = padded / call->config.bucket / 2;
    size_t *ring = malloc(rounds * padded * sizeof *ring), *hash = malloc(padded * sizeof *hash), at = 0;
    if (!ring || !hash) abort();
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < padded; i++)
            hash[i] =
                hash_of(i < tokens ? rows->q + i * call->q_stride : NULL, rotation + round * dim * half, dim, half);
        for (size_t value = 0; value < 2 * half; value++)
            for (size_t i = 0; i < padded; i++)
                if (hash[i] == value) ring[at++] = i;
    }
    free(hash);
    return ring;
}

static void define_reformer(const struct rows *rows, const float *rotation, double *out)
{
    const struct attention_call *call = rows->call;
    const struct attention_shape *shape = &call->shape;
    const size_t tokens = shape->queries, dim = shape->head_dim, bucket = call->config.bucket;
    const size_t padded = (tokens + 2 * bucket - 1) / (2 * bucket) * 2 * bucket;
    const size_t all = call->config.rounds * padded;
    size_t *ring = sorted_ring(rows, rotation, padded);
    for (size_t token = 0; token < tokens; token++) {
        const float *q = rows->q + token * call->q_stride;
        struct mixture mix = begin(out + token * shape->value_dim, shape->value_dim);
        for (size_t place = 0; place < all; place++) {
            if (ring[place] != token) continue;
            const size_t first = place / bucket * bucket; /* of the token's chunk; the one before precedes it */
            for (size_t i = 0; i < 2 * bucket; i++) {
                const size_t key = ring[(first + all - bucket + i) % all];
                if (key >= tokens) continue;
                const float *k = rows->q + key * call->q_stride;
                const double length = fmax(sqrt(dot(k, k, dim)), 1e-12);
                const double score = (double)shape->scale * dot(q, k, dim) / length;
                take(&mix, key == token ? -5e4 : score, rows->v + key * call->v_stride);
            }
        }
        end(&mix);
    }
    free(ring);
}

void define_method(const struct attention_call *call, size_t unit, double *out)
{
    const struct rows rows = rows_of(call, unit);
    const struct attention_method *method = attention_method(call->config.kind);
    const struct attention_draw_counts counts = method->draw_counts(&call->shape, &call->config);
    if (call->config.kind == ATTENTION_PERFORMER)
        define_performer(&rows, call->draws.features + unit * counts.features, out);
    else if (call->config.kind == ATTENTION_SCATTERBRAIN)
        define_scatterbrain(&rows, call->draws.features + unit * counts.features, out);
    else
        define_reformer(&rows, call->draws.rotation + unit * counts.rotation, out);
}
