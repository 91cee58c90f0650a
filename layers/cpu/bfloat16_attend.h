/* The running softmax in bfloat16, for the files of kernels that have its products: each defines before
 *   begin_products(), end_products(): around all of them,
 *   score_keys(): scores of some keys of a run, and the maximum that they raise,
 *   add_keys(): value = value * rescale + the weights' sum of values.
 */
INLINE void attend_pairs(const size_t halves, const struct query_tile *tile, const struct bfloat16_run *run)
{
    begin_products();
    for (size_t first = 0, count; first < run->keys; first += count) {
        count = t2t_pairs_together(run->keys - first);
        vec maximum[2], rescale[2], sum[2] = {vec_set(0), vec_set(0)};
        for (size_t h = 0; h < halves; h++) maximum[h] = vec_load(tile->maximum + h * WIDTH);
        score_keys(halves, tile, run, first, count, maximum);
        pair_weights(halves, tile->scores, count, maximum, sum);
        raise_maximum(halves, tile, maximum, sum, rescale);
        add_keys(halves, tile, run->v + first / 2 * tile->value_dim, t2t_pairs(count), rescale);
    }
    end_products();
}

static void attend_all_pairs(const struct query_tile *tile, const struct bfloat16_run *run)
{
    attend_pairs(2, tile, run);
}

static void attend_narrow_pairs(const struct query_tile *tile, const struct bfloat16_run *run)
{
    attend_pairs(1, tile, run);
}

static void attend_run(const struct query_tile *tile, const struct bfloat16_run *run)
{
    (run->narrow ? attend_narrow_pairs : attend_all_pairs)(tile, run);
}

static const struct bfloat16_kernels bfloat16_kernels = {
    .load_queries = load_query_pairs,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
    .attend = attend_run,
    .round = round_numbers,
};
