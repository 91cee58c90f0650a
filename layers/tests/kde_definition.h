/* KDEformer with every way to draw its samples, and kde-theory, defined in float64 for tests, and the engine on the
 * same draws. */
#ifndef T2T_LAYERS_TESTS_KDE_DEFINITION_H
#define T2T_LAYERS_TESTS_KDE_DEFINITION_H

#include "layers/base/random.h"
#include "layers/cpu/cpu_attention.h"
#include "layers/cpu/kde_attention.h"

/* One (image, head) of normal numbers, q and k `spread` times as large. */
struct problem {
    struct attention_shape shape;
    float *q, *k, *v;
};
struct problem make_problem(
    size_t queries, size_t keys, size_t head_dim, size_t value_dim, double spread, uint64_t seed);
void free_problem(struct problem *problem);
void *allocate(size_t bytes);

/* Every random choice of a batch, and what attention_draw() makes of a seed. */
struct drawn {
    float *projection;
    uint32_t *sample_uniform, *pilot_uniform;
};
struct drawn draw_samples(const struct attention_shape *shape, const struct attention_config *config, uint64_t seed,
    const uint64_t *images, size_t batch);
void free_drawn(struct drawn *drawn);

/* The rows x [rows, dim] in the order of their hashes, to be freed. */
uint32_t *sorted_rows(const struct attention_kernels *kernels, const float *x, size_t rows, size_t dim,
    const float *projection, size_t bits);
/* scale q.k */
double problem_score(const struct problem *problem, size_t query, size_t key);
/* Probabilities and samples of a sample group; returns how many samples there are, at most config->samples. */
void probability_of(const struct attention_kernels *kernels, const struct problem *problem,
    const struct attention_config *config, const uint32_t *q_order, const uint32_t *pilot_uniform, size_t group,
    float *probability);
size_t sample_group(const struct problem *problem, const struct attention_config *config, const uint32_t *k_order,
    const struct drawn *drawn, size_t group, const float *probability, struct kde_sample *sample);
/* Probabilities of sample group 0 for the draws of `seed`. */
void problem_probability(
    const struct problem *problem, const struct attention_config *config, uint64_t seed, float *probability);
void define_exact(const struct problem *problem, double *out);
void define_kdeformer(const struct attention_kernels *kernels, const struct problem *problem,
    const struct attention_config *config, const struct drawn *drawn, double *out);

/* kde-theory (layers/kde-theory.md): log_sum [queries] and squared column norms [keys], both estimated, the
 * probabilities that follow from them, and the output. */
struct theory_definition {
    double *log_sum, *column, *probability, *out;
};
struct theory_definition define_kde_theory(const struct attention_kernels *kernels, const struct problem *problem,
    const struct attention_config *config, const struct drawn *drawn);
void free_theory_definition(struct theory_definition *definition);

void run_drawn(const struct attention_kernels *kernels, size_t threads, const struct problem *problem,
    const struct attention_config *config, const struct drawn *drawn, float *out);
void run_engine(const struct attention_kernels *kernels, size_t threads, const struct problem *problem,
    const struct attention_config *config, uint64_t seed, float *out);
/* The same, and what it took. */
void run_engine_telling(const struct attention_kernels *kernels, size_t threads, const struct problem *problem,
    const struct attention_config *config, uint64_t seed, float *out, struct attention_taken *taken);
/* Frobenius norm of the difference over that of `wanted`. */
double relative_error(const float *found, const double *wanted, size_t count);
/* The engine's error against the definition. */
double engine_error(const struct attention_kernels *kernels, const struct problem *problem,
    const struct attention_config *config, uint64_t seed);
/* Fails unless a batch of images and heads gives the bits of each alone, with any number of threads. */
void check_batch_and_threads(const struct attention_kernels *kernels, const struct attention_config *config);

#endif
