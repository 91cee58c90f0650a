/* The profile for people: rows by layer, so that attentions stand side by side, and what each is worth in the whole. */
#include "eval/profile_report.h"

#include <math.h>

#include "eval/attention_parameters.h"
#include "eval/interrupt.h"
#include "eval/table.h"

enum { MOST_COMPARED = 4 };

double t2t_profile_gflops(const struct profile_row *row)
{
    return row->macs > 0 ? 2e-6 * row->macs / t2t_quartiles(row->ms.value, row->ms.count).median : NAN;
}

/* ---- the rows ---- */

static void speedup_cell(struct table *table, const struct profile *profile, const struct profile_row *row)
{
    if (!row || row->run == profile->runs->reference || !isfinite(row->speedup.median))
        t2t_table_cell(table, "-");
    else
        t2t_table_cell(table, "%.2fx [%.2f, %.2f]%s", row->speedup.median, row->speedup.low, row->speedup.high,
            row->speedup.median < 0.995 ? " (slower)" : "");
}

static void number_cell(struct table *table, const char *format, double value)
{
    if (isfinite(value) && value > 0)
        t2t_table_cell(table, format, value);
    else
        t2t_table_cell(table, "-");
}

static void add_row(struct table *table, const struct profile *profile, const struct profile_row *row)
{
    const struct quartiles ms = t2t_quartiles(row->ms.value, row->ms.count);
    const int indent = row->part == PART_STEP ? 4 : row->part == PART_ATTENTION ? 2 : 0;
    t2t_table_cell(table, "%*s%s", indent, "", row->name);
    t2t_table_cell(table, "%s", profile->runs->run[row->run].name);
    number_cell(table, "%.0f", (double)row->tokens);
    t2t_table_cell(table, "%.3f [%.3f, %.3f]", ms.median, ms.low, ms.high);
    number_cell(table, "%.2f", 100 * row->share);
    number_cell(table, "%.1f", 1e-6 * row->macs);
    number_cell(table, "%.2f", t2t_profile_gflops(row));
    speedup_cell(table, profile, row);
}

static bool is_shown(enum profile_part part, enum profile_detail detail)
{
    return !((part == PART_STEP && detail > DETAIL_STEP) || (part == PART_ATTENTION && detail > DETAIL_ATTENTION));
}

static bool print_rows(const struct profile_results *results, const struct profile *profile, FILE *out, bool markdown)
{
    struct table table = {.columns = 8};
    static const char *const headings[] = {
        "layer", "attention", "tokens", "ms [quartiles]", "share %", "MMAC", "GFLOP/s"};
    for (size_t i = 0; i < sizeof headings / sizeof *headings; i++) t2t_table_cell(&table, "%s", headings[i]);
    t2t_table_cell(&table, "vs %s", profile->runs->run[profile->runs->reference].name);
    for (size_t layer = 0; layer < t2t_model_config(profile->model)->depth + T2T_TOKEN_LAYERS; layer++)
        for (size_t i = 0; i < profile->count; i++)
            if (profile->rows[i].part <= PART_STEP && profile->rows[i].layer == layer &&
                is_shown(profile->rows[i].part, results->detail))
                add_row(&table, profile, &profile->rows[i]);
    for (int part = PART_SUM; part <= PART_END_TO_END; part++)
        for (size_t i = 0; i < profile->count; i++)
            if (profile->rows[i].part == (enum profile_part)part && (part != PART_DECODE || profile->rows[i].run == 0))
                add_row(&table, profile, &profile->rows[i]); /* decoding is the same for all */
    return t2t_table_print(&table, out, markdown);
}

/* ---- side by side ---- */

/* The first layers whose attention is not the same in all runs. */
static size_t compared_layers(const struct profile *profile, size_t layers[MOST_COMPARED])
{
    size_t count = 0;
    for (size_t layer = 0; layer < t2t_model_config(profile->model)->depth + T2T_TOKEN_LAYERS && count < MOST_COMPARED;
         layer++)
        for (size_t run = 1; run < profile->runs->count; run++) {
            const struct t2t_plan *plans = profile->runs->plan;
            if (t2t_same_config(&plans[0].layer[layer], &plans[run].layer[layer])) continue;
            layers[count++] = layer;
            break;
        }
    return count;
}

static bool print_speedups(const struct profile *profile, FILE *out, bool markdown)
{
    size_t layers[MOST_COMPARED];
    const size_t count = compared_layers(profile, layers);
    struct table table = {.columns = 4 + 2 * count};
    if (profile->runs->count < 2) return true;
    t2t_table_cell(&table, "speed-up");
    for (size_t i = 0; i < count; i++) {
        char name[T2T_NAME_BYTES];
        t2t_layer_name(layers[i], name);
        t2t_table_cell(&table, "%s attention", name);
        t2t_table_cell(&table, "%s", name);
    }
    t2t_table_cell(&table, "all layers");
    t2t_table_cell(&table, "forward");
    t2t_table_cell(&table, "end to end");
    for (size_t run = 0; run < profile->runs->count; run++) {
        t2t_table_cell(&table, "%s", profile->runs->run[run].name);
        for (size_t i = 0; i < count; i++) {
            speedup_cell(&table, profile, t2t_profile_find(profile, run, PART_ATTENTION, layers[i]));
            speedup_cell(&table, profile, t2t_profile_find(profile, run, PART_LAYER, layers[i]));
        }
        speedup_cell(&table, profile, t2t_profile_find(profile, run, PART_SUM, 0));
        speedup_cell(&table, profile, t2t_profile_find(profile, run, PART_PLAIN, 0));
        speedup_cell(&table, profile, t2t_profile_find(profile, run, PART_END_TO_END, 0));
    }
    fputc('\n', out);
    return t2t_table_print(&table, out, markdown);
}

/* ---- the whole ---- */

static void print_card(const struct profile_results *results, FILE *out, const char *begin)
{
    const struct profile *profile = &results->profiles[0];
    const struct t2t_config *config = t2t_model_config(profile->model);
    fprintf(out, "%smodel     %s, %zu px, %s, %s%s; %s\n", begin, config->name, config->image_size,
        number_format_name(profile->options.device.options.format),
        results->weights ? "weights " : "random weights: shapes and times only, its answers and errors mean nothing",
        results->weights ? results->weights : "", profile->device);
    if (results->data)
        fprintf(out, "%spictures  %s (%zu files; repeated where a batch is larger)\n", begin, results->data,
            results->files);
    else
        fprintf(
            out, "%spictures  random pixels: nothing is decoded, and the data may be unlike that of pictures\n", begin);
    fprintf(out, "%sattention replaced in %s\n", begin, profile->runs->layers);
}

static void print_notes(const struct profile *profile, FILE *out, const char *begin)
{
    const struct profile_options *options = &profile->options;
    if (profile->signal || t2t_interrupted()) fprintf(out, "%sinterrupted: partial\n", begin);
    fprintf(out,
        "%smilliseconds a picture, medians of %zu rounds in which attentions take turns (warm-up %g s, at least %g s "
        "and "
        "%zu rounds)\n"
        "%sshare: of the profiled forward; layers and the unattributed rest make 100 %%. The forward without profiling "
        "is a run of its own\n",
        begin, profile->rounds, options->warmup_seconds, options->min_seconds, options->min_rounds, begin);
    if (profile->pictures)
        fprintf(out, "%send to end: pictures decoded and resized on %zu thread%s, then the forward without profiling\n",
            begin, options->threads, options->threads == 1 ? "" : "s");
}

static bool print_profile(const struct profile_results *results, FILE *out, bool markdown)
{
    bool printed = true;
    print_card(results, out, markdown ? "    " : "");
    for (size_t i = 0; i < results->count && printed; i++) {
        struct profile *profile = &results->profiles[i];
        if (!profile->rounds) continue;
        t2t_profile_summarise(profile);
        fprintf(out, "\n%sbatch %zu\n\n", markdown ? "### " : "", profile->batch);
        printed = print_rows(results, profile, out, markdown) && print_speedups(profile, out, markdown);
        fputc('\n', out);
        print_notes(profile, out, markdown ? "- " : "note      ");
    }
    return printed;
}

static bool write_table(const void *results, FILE *out)
{
    return print_profile(results, out, false);
}

static bool write_markdown(const void *results, FILE *out)
{
    return print_profile(results, out, true);
}

report_writer *const t2t_profile_writers[REPORT_FORMATS] = {
    [REPORT_TABLE] = write_table,
    [REPORT_MARKDOWN] = write_markdown,
    [REPORT_CSV] = t2t_profile_csv,
    [REPORT_JSON] = t2t_profile_json,
};
