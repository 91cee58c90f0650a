/* The profile for programs: CSV with a row a part, and JSON with the times of every round. */
#include <jansson.h>
#include <math.h>

#include "eval/attention_parameters.h"
#include "eval/interrupt.h"
#include "eval/profile_report.h"
#include "eval/text_formats.h"
#include "eval/tool.h"

static const char *part_name(enum profile_part part)
{
    static const char *const names[] = {
        "layer", "attention", "step", "sum", "unattributed", "forward_profiled", "forward", "decode", "end_to_end"};
    return names[part];
}

static bool is_in_layer(const struct profile_row *row)
{
    return row->part <= PART_STEP;
}

static void layer_name(const struct profile_row *row, char name[T2T_NAME_BYTES])
{
    name[0] = '\0';
    if (is_in_layer(row)) t2t_layer_name(row->layer, name);
}

static bool is_partial(const struct profile *profile)
{
    return profile->signal || t2t_interrupted();
}

/* ---- CSV ---- */

static void csv_row(const struct profile *profile, const struct profile_row *row, FILE *out)
{
    const struct quartiles ms = t2t_quartiles(row->ms.value, row->ms.count);
    char layer[T2T_NAME_BYTES];
    layer_name(row, layer);
    fprintf(out, "%zu,%s,%s,%s,%s,%llu,%zu,%zu", profile->batch, part_name(row->part), layer, row->name,
        profile->runs->run[row->run].name, (unsigned long long)profile->runs->run[row->run].seed, row->tokens,
        row->ms.count);
    const double values[] = {ms.median, ms.low, ms.high, 100 * row->share, row->macs > 0 ? 1e-6 * row->macs : NAN,
        t2t_profile_gflops(row), row->speedup.median, row->speedup.low, row->speedup.high};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        fputc(',', out);
        t2t_csv_number(out, "%.6g", values[i]);
    }
    fprintf(out, ",%d\n", is_partial(profile));
}

bool t2t_profile_csv(const void *results, FILE *out)
{
    const struct profile_results *all = results;
    fputs("batch,part,layer,name,attention,seed,tokens,rounds,ms,ms_q25,ms_q75,share,mmac,gflops,speedup,speedup_q25,"
          "speedup_q75,partial\n",
        out);
    for (size_t p = 0; p < all->count; p++) {
        t2t_profile_summarise(&all->profiles[p]);
        for (size_t i = 0; i < all->profiles[p].count; i++)
            if (all->profiles[p].rounds) csv_row(&all->profiles[p], &all->profiles[p].rows[i], out);
    }
    return true;
}

/* ---- JSON ---- */

static json_t *quartiles_of(struct quartiles quartiles)
{
    return json_pack("{s:o,s:o,s:o}", "median", t2t_json_number(quartiles.median), "q25",
        t2t_json_number(quartiles.low), "q75", t2t_json_number(quartiles.high));
}

static json_t *row_of(const struct profile *profile, const struct profile_row *row)
{
    json_t *rounds = json_array(), *ms = quartiles_of(t2t_quartiles(row->ms.value, row->ms.count));
    for (size_t i = 0; i < row->ms.count; i++) json_array_append_new(rounds, json_real(row->ms.value[i]));
    json_object_set_new(ms, "rounds", rounds);
    json_t *entry = json_pack("{s:s,s:s,s:s,s:I,s:o,s:o,s:o,s:o,s:o}", "part", part_name(row->part), "name", row->name,
        "attention", profile->runs->run[row->run].name, "seed", (json_int_t)profile->runs->run[row->run].seed, "ms", ms,
        "share", t2t_json_number(row->share), "macs", t2t_json_number(row->macs > 0 ? row->macs : NAN), "gflops",
        t2t_json_number(t2t_profile_gflops(row)), "speedup", quartiles_of(row->speedup));
    if (!is_in_layer(row)) return entry;
    char layer[T2T_NAME_BYTES];
    layer_name(row, layer);
    json_object_set_new(entry, "layer", json_string(layer));
    if (row->tokens) json_object_set_new(entry, "tokens", json_integer((json_int_t)row->tokens));
    if (row->part == PART_ATTENTION) {
        const struct attention_config *config = &profile->runs->plan[row->run].layer[row->layer];
        json_object_set_new(entry, "method", json_string(attention_method(config->kind)->name));
        json_object_set_new(entry, "options", t2t_config_as_json(config));
        t2t_set_taken(entry, &row->taken);
    }
    return entry;
}

static json_t *batch_of(struct profile *profile)
{
    json_t *rows = json_array();
    t2t_profile_summarise(profile);
    for (size_t i = 0; i < profile->count; i++) json_array_append_new(rows, row_of(profile, &profile->rows[i]));
    return json_pack("{s:I,s:I,s:b,s:s,s:s,s:o}", "batch", (json_int_t)profile->batch, "rounds",
        (json_int_t)profile->rounds, "partial", is_partial(profile), "device", profile->device, "dtype",
        number_format_name(profile->options.device.options.format), "rows", rows);
}

bool t2t_profile_json(const void *results, FILE *out)
{
    const struct profile_results *all = results;
    const struct profile *first = &all->profiles[0];
    const struct t2t_config *config = t2t_model_config(first->model);
    json_t *batches = json_array();
    for (size_t p = 0; p < all->count; p++)
        if (all->profiles[p].rounds) json_array_append_new(batches, batch_of(&all->profiles[p]));
    json_t *root = json_pack("{s:s,s:s,s:s,s:o,s:{s:s},s:{s:s,s:I,s:o,s:b},s:o,s:s,s:s,s:{s:f,s:f,s:I},s:o}", "schema",
        "t2tvit-profile/1", "tool", "t2tvit-profile", "version", T2T_VERSION, "command",
        t2t_json_texts(t2t_tool_arguments()), "environment", "compiler", t2t_compiler(), "model", "name", config->name,
        "img_size", (json_int_t)config->image_size, "weights", all->weights ? t2t_json_text(all->weights) : json_null(),
        "random_weights", all->weights == NULL, "pictures", all->data ? t2t_json_text(all->data) : json_null(),
        "layers_replaced", first->runs->layers, "reference", first->runs->run[first->runs->reference].name, "stop_rule",
        "warmup_s", first->options.warmup_seconds, "min_time_s", first->options.min_seconds, "min_rounds",
        (json_int_t)first->options.min_rounds, "batches", batches);
    if (!root) return false;
    const bool written = json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(8)) == 0;
    fputc('\n', out);
    json_decref(root);
    return written;
}
