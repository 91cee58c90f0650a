/* KDEformer's block diagonal: how large its blocks are, and which of them are a group. */
#include "layers/cpu/kde.h"

struct kde t2t_kde_blocks(const struct cpu_attention *attention)
{
    const struct attention_call *call = attention->call;
    const size_t keys = call->shape.keys;
    const struct kde kde = {
        .kernels = attention->kernels, .call = call, .choices = 1, .groups = 1, .samples = call->config.samples};
    return t2t_kde_with_bucket(&kde, call->config.bucket < keys ? call->config.bucket : keys);
}

struct kde t2t_kde_with_bucket(const struct kde *kde, size_t bucket)
{
    struct kde sized = *kde;
    sized.bucket = bucket;
    sized.blocks = (kde->call->shape.keys + bucket - 1) / bucket;
    sized.rows = (kde->call->shape.queries + sized.blocks - 1) / sized.blocks;
    return sized;
}

struct kde_range t2t_kde_group_blocks(const struct kde *kde, size_t group)
{
    return (struct kde_range){group * kde->blocks / kde->groups, (group + 1) * kde->blocks / kde->groups};
}

struct kde_range t2t_kde_group_queries(const struct kde *kde, size_t group)
{
    const size_t queries = kde->call->shape.queries;
    const struct kde_range blocks = t2t_kde_group_blocks(kde, group);
    const size_t first = blocks.first * kde->rows, last = blocks.last * kde->rows;
    return (struct kde_range){first < queries ? first : queries, last < queries ? last : queries};
}
