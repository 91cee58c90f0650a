/* The definition of attention in float64; see attention_definition.h. */
#include "layers/tests/attention_definition.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One (image, head) of a call. */
struct unit {
    const struct attention_call *call;
    const float *q, *k, *v;
    size_t number;
};

/* What a query attends to: keys with the factors of their exponentials. */
struct attended {
    size_t count;
    size_t *key;
    double *factor;
};

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    assert(memory);
    return memory;
}

/* out = sum of factor exp(score) v over the same sum without v; shifted by the largest score. */
static void answer(const struct unit *unit, size_t query, const struct attended *attended, double *out)
{
    const struct attention_shape *shape = &unit->call->shape;
    double *score = allocate(attended->count, sizeof *score), largest = -INFINITY, total = 0;
    for (size_t i = 0; i < attended->count; i++) {
        for (size_t c = 0; c < shape->head_dim; c++)
            score[i] += (double)unit->q[query * unit->call->q_stride + c] *
                        (double)unit->k[attended->key[i] * unit->call->k_stride + c];
        score[i] *= (double)shape->scale;
        largest = fmax(largest, score[i]);
    }
    for (size_t c = 0; c < shape->value_dim; c++) out[c] = 0;
    for (size_t i = 0; i < attended->count; i++) {
        const double weight = attended->factor[i] * exp(score[i] - largest);
        total += weight;
        for (size_t c = 0; c < shape->value_dim; c++)
            out[c] += weight * (double)unit->v[attended->key[i] * unit->call->v_stride + c];
    }
    for (size_t c = 0; c < shape->value_dim; c++) out[c] /= total;
    free(score);
}

static size_t rank_of(size_t code)
{
    size_t rank = 0;
    for (; code; code >>= 1) rank ^= code;
    return rank;
}

/* place[i] = sorted position of row i: by rank of its code, equal ranks in their order. */
static void place_rows(const uint16_t *code, size_t rows, size_t *place)
{
    for (size_t i = 0; i < rows; i++) {
        place[i] = 0;
        for (size_t j = 0; j < rows; j++)
            place[i] += rank_of(code[j]) < rank_of(code[i]) || (rank_of(code[j]) == rank_of(code[i]) && j < i);
    }
}

static size_t *hashed_places(
    const struct unit *unit, const struct attention_kernels *kernels, const float *x, size_t stride, size_t rows)
{
    const struct attention_call *call = unit->call;
    const size_t dim = call->shape.head_dim, bits = call->config.projections;
    uint16_t *code = allocate(rows, sizeof *code);
    size_t *place = allocate(rows, sizeof *place);
    kernels->sign_hash(x, stride, rows, dim, call->draws.projection + unit->number * dim * bits, bits, code);
    place_rows(code, rows, place);
    free(code);
    return place;
}

static void define_kdeformer(const struct unit *unit, const struct attention_kernels *kernels, double *out)
{
    const struct attention_call *call = unit->call;
    const size_t keys = call->shape.keys, queries = call->shape.queries, samples = call->config.samples;
    const size_t blocks = (keys + call->config.bucket - 1) / call->config.bucket;
    const size_t rows = (queries + blocks - 1) / blocks;
    size_t *q_place = hashed_places(unit, kernels, unit->q, call->q_stride, queries);
    size_t *k_place = hashed_places(unit, kernels, unit->k, call->k_stride, keys);
    struct attended attended = {
        .key = allocate(keys + samples, sizeof(size_t)), .factor = allocate(keys + samples, sizeof(double))};
    for (size_t query = 0; query < queries; query++) {
        const size_t block = q_place[query] / rows;
        attended.count = 0;
        for (size_t key = 0; key < keys; key++)
            if (k_place[key] / call->config.bucket == block) {
                attended.key[attended.count] = key;
                attended.factor[attended.count++] = 1;
            }
        for (size_t s = 0; s < samples; s++) {
            const size_t key = (size_t)call->draws.sample_key[unit->number * samples + s];
            if (k_place[key] / call->config.bucket == block) continue; /* the block counts it */
            attended.key[attended.count] = key;
            attended.factor[attended.count++] =
                1 / ((double)samples * (double)call->draws.sample_probability[unit->number * keys + key]);
        }
        answer(unit, query, &attended, out + query * call->shape.heads * call->shape.value_dim);
    }
    free(q_place);
    free(k_place);
    free(attended.key);
    free(attended.factor);
}

/* All keys with one factor; without scores this is their mean. */
static void define_whole(const struct unit *unit, double *out)
{
    const struct attention_call *call = unit->call;
    const size_t keys = call->shape.keys;
    struct attention_call flat = *call;
    if (call->config.kind == ATTENTION_MEAN) flat.shape.scale = 0;
    const struct unit same = {.call = &flat, .q = unit->q, .k = unit->k, .v = unit->v};
    struct attended attended = {
        .count = keys, .key = allocate(keys, sizeof(size_t)), .factor = allocate(keys, sizeof(double))};
    for (size_t key = 0; key < keys; key++) {
        attended.key[key] = key;
        attended.factor[key] = 1;
    }
    for (size_t query = 0; query < call->shape.queries; query++)
        answer(&same, query, &attended, out + query * call->shape.heads * call->shape.value_dim);
    free(attended.key);
    free(attended.factor);
}

void define_attention(const struct attention_call *call, const struct attention_kernels *kernels, double *out)
{
    const struct attention_shape *shape = &call->shape;
    for (size_t image = 0; image < call->batch; image++)
        for (size_t head = 0; head < shape->heads; head++) {
            const struct unit unit = {.call = call,
                .q = call->q + image * shape->queries * call->q_stride + head * shape->head_dim,
                .k = call->k + image * shape->keys * call->k_stride + head * shape->head_dim,
                .v = call->v + image * shape->keys * call->v_stride + head * shape->value_dim,
                .number = image * shape->heads + head};
            double *rows = out + image * shape->queries * shape->heads * shape->value_dim + head * shape->value_dim;
            if (call->config.kind == ATTENTION_KDEFORMER)
                define_kdeformer(&unit, kernels, rows);
            else
                define_whole(&unit, rows);
        }
}
