/* The report of an evaluation as a table for people; which writer a format has. */
#include "eval/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/attention_parameters.h"
#include "eval/metrics.h"
#include "eval/table.h"
#include "eval/text_formats.h"

enum { SMALL_SAMPLE = 1000 };

struct seed_summary t2t_summarise_seeds(const struct evaluation *evaluation, size_t first)
{
    const struct attention_runs *runs = evaluation->runs;
    struct seed_summary summary = {.first = first};
    while (first + summary.count < runs->count && runs->run[first + summary.count].variant == runs->run[first].variant)
        summary.count++;
    double *top1 = calloc(summary.count, sizeof *top1);
    const double images = (double)evaluation->images, count = (double)summary.count;
    const struct run_result *reference = &evaluation->result[evaluation->runs->reference];
    const size_t batches = evaluation->batches;
    size_t lost = 0, gained = 0;
    for (size_t i = 0; i < summary.count; i++) {
        const struct run_result *result = &evaluation->result[first + i];
        summary.top1 += (double)result->correct1 / images / count;
        summary.top5 += (double)result->correct5 / images / count;
        summary.agreed += (double)result->agreed / images / count;
        lost += result->lost;
        gained += result->gained;
        if (top1) top1[i] = (double)result->correct1 / images;
        const double p = t2t_mcnemar(result->lost, result->gained);
        summary.p = (struct interval){i ? fmin(summary.p.low, p) : p, i ? fmax(summary.p.high, p) : p};
        summary.layer1_ms += t2t_quartiles(result->layer1_ms, batches).median / count;
        summary.forward_ms += t2t_quartiles(result->forward_ms, batches).median / count;
        summary.layer1_speedup += t2t_speedup(reference->layer1_ms, result->layer1_ms, batches).median / count;
        summary.forward_speedup += t2t_speedup(reference->forward_ms, result->forward_ms, batches).median / count;
        summary.macs += result->macs / count;
        summary.layer1_macs += result->layer1_macs / count;
    }
    summary.lost = (double)lost / count;
    summary.gained = (double)gained / count;
    summary.drop = (summary.lost - summary.gained) / images;
    summary.drop_interval =
        t2t_paired_mean_drop(lost, gained, evaluation->result[first].drop_squares, summary.count, evaluation->images);
    summary.top1_sd = top1 ? t2t_deviation(top1, summary.count) : NAN;
    free(top1);
    return summary;
}

/* ---- the table ---- */

static void heading(struct table *table, bool labelled, const char *reference)
{
    t2t_table_cell(table, "attention");
    if (labelled) {
        t2t_table_cell(table, "top-1 %% [95 %% CI]");
        t2t_table_cell(table, "top-5 %%");
        t2t_table_cell(table, "lost/gained vs %s", reference);
        t2t_table_cell(table, "p");
    }
    t2t_table_cell(table, "same answer %%");
    t2t_table_cell(table, "layer 1 ms");
    t2t_table_cell(table, "ratio");
    t2t_table_cell(table, "forward img/s");
    t2t_table_cell(table, "ratio");
    t2t_table_cell(table, "GMAC");
    t2t_table_cell(table, "layer 1 MMAC");
}

/* "2.31x", "0.54x (slower)" */
static void ratio_cell(struct table *table, double ratio, bool own)
{
    if (own || !isfinite(ratio))
        t2t_table_cell(table, "-");
    else
        t2t_table_cell(table, "%.2fx%s", ratio, ratio < 0.995 ? " (slower)" : "");
}

static void accuracy_cells(struct table *table, const struct evaluation *evaluation, size_t run)
{
    const struct run_result *result = &evaluation->result[run];
    const struct interval interval = t2t_wilson(result->correct1, evaluation->images);
    const double images = (double)evaluation->images;
    t2t_table_cell(
        table, "%.2f [%.2f, %.2f]", 100 * (double)result->correct1 / images, 100 * interval.low, 100 * interval.high);
    t2t_table_cell(table, "%.2f", 100 * (double)result->correct5 / images);
    if (run == evaluation->runs->reference) {
        t2t_table_cell(table, "-");
        t2t_table_cell(table, "-");
        return;
    }
    const double p = t2t_mcnemar(result->lost, result->gained);
    t2t_table_cell(table, "%zu/%zu", result->lost, result->gained);
    t2t_table_cell(table, p < 0.001 ? "<0.001" : "%.3f", p);
}

static void run_row(struct table *table, const struct evaluation *evaluation, size_t run)
{
    const struct run_result *result = &evaluation->result[run];
    const struct run_result *reference = &evaluation->result[evaluation->runs->reference];
    const bool own = run == evaluation->runs->reference;
    t2t_table_cell(table, "%s", evaluation->runs->run[run].name);
    if (evaluation->labelled) accuracy_cells(table, evaluation, run);
    if (own)
        t2t_table_cell(table, "-");
    else
        t2t_table_cell(table, "%.2f", 100 * (double)result->agreed / (double)evaluation->images);
    t2t_table_cell(table, "%.3f", t2t_quartiles(result->layer1_ms, evaluation->batches).median);
    ratio_cell(table, t2t_speedup(reference->layer1_ms, result->layer1_ms, evaluation->batches).median, own);
    t2t_table_cell(table, "%.2f", 1e3 / t2t_quartiles(result->forward_ms, evaluation->batches).median);
    ratio_cell(table, t2t_speedup(reference->forward_ms, result->forward_ms, evaluation->batches).median, own);
    t2t_table_cell(table, "%.3f", 1e-9 * result->macs);
    t2t_table_cell(table, "%.1f", 1e-6 * result->layer1_macs);
}

static void summary_row(struct table *table, const struct evaluation *evaluation, struct seed_summary summary)
{
    t2t_table_cell(table, "%s, mean of %zu", evaluation->runs->run[summary.first].label, summary.count);
    if (evaluation->labelled) {
        t2t_table_cell(table, "%.2f (sd %.2f)", 100 * summary.top1, 100 * summary.top1_sd);
        t2t_table_cell(table, "%.2f", 100 * summary.top5);
        t2t_table_cell(table, "%.1f/%.1f", summary.lost, summary.gained);
        t2t_table_cell(table, summary.p.high < 0.001 ? "<0.001" : "%.3f to %.3f", summary.p.low, summary.p.high);
    }
    t2t_table_cell(table, "%.2f", 100 * summary.agreed);
    t2t_table_cell(table, "%.3f", summary.layer1_ms);
    ratio_cell(table, summary.layer1_speedup, false);
    t2t_table_cell(table, "%.2f", 1e3 / summary.forward_ms);
    ratio_cell(table, summary.forward_speedup, false);
    t2t_table_cell(table, "%.3f", 1e-9 * summary.macs);
    t2t_table_cell(table, "%.1f", 1e-6 * summary.layer1_macs);
}

static void print_card(const struct report *report, FILE *out)
{
    const struct evaluation *evaluation = report->evaluation;
    const struct t2t_config *config = t2t_model_config(evaluation->model);
    const struct t2t_preprocess *preprocess = report->preprocess;
    fputs("dataset   ", out);
    t2t_plain_text(out, report->data);
    fprintf(out, ": %zu of %zu pictures, %zu classes present, layout %s, labels %s\n", evaluation->images,
        evaluation->pictures->total, evaluation->pictures->classes_present, evaluation->pictures->layout,
        evaluation->pictures->label_kind);
    fprintf(out, "model     %s (", config->name);
    t2t_plain_text(out, report->weights);
    fprintf(out, "), %.1f M parameters, %zu px, crop %.4g %s, %s; %s\n",
        1e-6 * (double)t2t_model_parameters(evaluation->model), config->image_size, preprocess->crop_pct,
        preprocess->interpolation == T2T_BILINEAR ? "bilinear" : "bicubic",
        number_format_name(evaluation->options.device.options.format), evaluation->device);
    bool replaced = false;
    for (size_t run = 0; run < evaluation->runs->count; run++)
        replaced = replaced || evaluation->runs->run[run].method->kind != ATTENTION_EXACT;
    if (replaced)
        fprintf(out, "attention replaced in %s; batch %zu\n\n", evaluation->runs->layers, evaluation->options.batch);
    else
        fprintf(out, "attention exact in every layer; batch %zu\n\n", evaluation->options.batch);
}

/* What the means over seeds differ from the reference by. */
static void print_drops(const struct evaluation *evaluation, FILE *out, const char *begin)
{
    const struct attention_runs *runs = evaluation->runs;
    for (size_t run = 0; run < runs->count && evaluation->labelled;) {
        const struct seed_summary summary = t2t_summarise_seeds(evaluation, run);
        if (summary.count > 1)
            fprintf(out,
                "%s%s: top-1 drop %.2f points [%.2f, %.2f], mean of %zu seeds, 95 %% interval paired over pictures\n",
                begin, runs->run[run].label, 100 * summary.drop, 100 * summary.drop_interval.low,
                100 * summary.drop_interval.high, summary.count);
        run += summary.count;
    }
}

/* What target errors took: the first of an attention's seeds stands for all. */
static void print_taken(const struct evaluation *evaluation, FILE *out, const char *begin)
{
    const size_t layers = t2t_model_config(evaluation->model)->depth + T2T_TOKEN_LAYERS;
    for (size_t run = 0; run < evaluation->runs->count; run += t2t_summarise_seeds(evaluation, run).count) {
        bool begun = false;
        for (size_t layer = 0; layer < layers; layer++) {
            const struct attention_taken *taken = &evaluation->result[run].taken[layer];
            char name[T2T_NAME_BYTES], text[TAKEN_BYTES];
            if (!(taken->units > 0)) continue;
            t2t_layer_name(layer, name);
            if (!begun) fprintf(out, "%s%s took, in the mean: ", begin, evaluation->runs->run[run].name);
            t2t_taken_text(taken, text);
            fprintf(out, "%s%s %s", begun ? "; " : "", name, text);
            begun = true;
        }
        if (begun) fputc('\n', out);
    }
}

static void print_notes(const struct report *report, FILE *out, const char *begin)
{
    const struct evaluation *evaluation = report->evaluation;
    const double images = (double)evaluation->images;
    double forward = 0;
    for (size_t i = 0; i < evaluation->runs->count; i++) forward += evaluation->result[i].forward_seconds;
    if (evaluation->signal)
        fprintf(out, "%sinterrupted: %zu of %zu pictures, the rest was not seen\n", begin, evaluation->images,
            evaluation->pictures->count);
    if (evaluation->decode_seconds > 0)
        fprintf(out,
            "%sa picture: decode %.2f ms, resize %.2f ms (on %zu thread%s, %s), forward of all attentions %.2f ms, "
            "waiting for pictures %.2f ms; %.2f pictures/s in all%s\n",
            begin, 1e3 * evaluation->decode_seconds / images, 1e3 * evaluation->resize_seconds / images,
            report->workers, report->workers == 1 ? "" : "s",
            report->overlap ? "while the network runs" : "while the network waits", 1e3 * forward / images,
            1e3 * evaluation->wait_seconds / images, images / evaluation->wall_seconds,
            evaluation->wait_seconds > forward ? ", limited by decoding: compare the forward column" : "");
    fprintf(out, "%stimes are of one picture: medians of %zu batch%s, ratios those of the batches' own ratios to %s\n",
        begin, evaluation->batches, evaluation->batches == 1 ? "" : "es",
        evaluation->runs->run[evaluation->runs->reference].name);
    print_drops(evaluation, out, begin);
    print_taken(evaluation, out, begin);
    if (evaluation->labelled && evaluation->images < SMALL_SAMPLE)
        fprintf(out, "%sfew pictures: mind the intervals\n", begin);
    if (evaluation->warned)
        fprintf(out, "%s%zu pictures were used although their decoder warned\n", begin, evaluation->warned);
    if (evaluation->skipped_count)
        fprintf(out, "%s%zu pictures could not be used:\n", begin, evaluation->skipped_count);
    for (size_t i = 0; i < evaluation->skipped_count; i++)
        fprintf(out, "%s  %s\n", begin, evaluation->skipped[i].reason);
}

static bool print_report(const struct report *report, FILE *out, bool markdown)
{
    const struct evaluation *evaluation = report->evaluation;
    const char *reference = evaluation->runs->run[evaluation->runs->reference].name;
    struct table table = {.columns = evaluation->labelled ? 12 : 8};
    heading(&table, evaluation->labelled, reference);
    for (size_t run = 0; run < evaluation->runs->count;) {
        const struct seed_summary summary = t2t_summarise_seeds(evaluation, run);
        for (size_t i = 0; i < summary.count; i++, run++) run_row(&table, evaluation, run);
        if (summary.count > 1) summary_row(&table, evaluation, summary);
    }
    if (!markdown) print_card(report, out);
    const bool printed = t2t_table_print(&table, out, markdown);
    fputc('\n', out);
    print_notes(report, out, markdown ? "- " : "note      ");
    return printed;
}

static bool write_table(const void *results, FILE *out)
{
    return print_report(results, out, false);
}

static bool write_markdown(const void *results, FILE *out)
{
    return print_report(results, out, true);
}

report_writer *const t2t_report_writers[REPORT_FORMATS] = {
    [REPORT_TABLE] = write_table,
    [REPORT_MARKDOWN] = write_markdown,
    [REPORT_CSV] = t2t_report_csv,
    [REPORT_JSON] = t2t_report_json,
    [REPORT_SVG] = t2t_report_chart,
};
