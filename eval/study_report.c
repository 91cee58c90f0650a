/* The study for people: a table and a chart. */
#include "eval/study_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/attention_parameters.h"
#include "eval/chart.h"
#include "eval/interrupt.h"
#include "eval/metrics.h"
#include "eval/table.h"

struct mean_and_deviation t2t_over_seeds(const double *values, size_t count)
{
    double mean = count ? 0 : NAN;
    for (size_t i = 0; i < count; i++) mean += values[i] / (double)count;
    return (struct mean_and_deviation){mean, t2t_deviation(values, count)};
}

/* ---- the table ---- */

static void error_cell(struct table *table, const double *values, size_t count)
{
    const struct mean_and_deviation error = t2t_over_seeds(values, count);
    if (count > 1)
        t2t_table_cell(table, "%.4g (sd %.2g)", error.mean, error.deviation);
    else
        t2t_table_cell(table, "%.4g", error.mean);
}

static void time_cells(struct table *table, const struct study_case *at, const struct study_case *exact)
{
    const struct quartiles ms = t2t_quartiles(at->ms, at->times);
    const size_t pairs = at->times < exact->times ? at->times : exact->times;
    const double speedup = t2t_speedup(exact->ms, at->ms, pairs).median;
    if (!at->times) {
        t2t_table_cell(table, "-");
        t2t_table_cell(table, "-");
        return;
    }
    t2t_table_cell(table, "%.2f [%.2f, %.2f]", ms.median, ms.low, ms.high);
    if (at == exact || !isfinite(speedup))
        t2t_table_cell(table, "-");
    else
        t2t_table_cell(table, "%.2fx%s", speedup, speedup < 0.995 ? " (slower)" : "");
}

static void case_row(struct table *table, const struct study_case *at, const struct study_case *exact)
{
    t2t_table_cell(table, "%s", at->name);
    t2t_table_cell(table, at->features ? "%zu" : "-", at->features);
    error_cell(table, at->spectral, at->errors);
    error_cell(table, at->frobenius, at->errors);
    time_cells(table, at, exact);
    t2t_table_cell(table, "%.1f", 1e-6 * at->macs);
}

static void print_notes(const struct study *study, FILE *out, const char *begin)
{
    if (study->signal || t2t_interrupted())
        fprintf(out, "%sinterrupted: partial, every row has what was measured so far\n", begin);
    fprintf(out,
        "%serrors are ||A~V - AV|| / ||AV||, exact being AV: mean over heads and %zu unit%s, %zu seed%s\n"
        "%sms: median [quartiles] of %zu run%s of one unit's attention with its random draws, all in turns; vs exact: "
        "median of the runs' own ratios\n"
        "%sfeatures m: kdeformer and kde-theory take m samples and buckets of m/2, performer m features, reformer "
        "buckets of m/2 (two a round, 2 rounds), scatterbrain m features and a window of m/2\n",
        begin, study->input->units, study->input->units == 1 ? "" : "s", study->seeds, study->seeds == 1 ? "" : "s",
        begin, study->runs, study->runs == 1 ? "" : "s", begin);
    for (size_t i = 0; i < study->count; i++) {
        const struct study_case *at = &study->cases[i];
        char text[TAKEN_BYTES];
        if (!(at->taken.units > 0)) continue;
        t2t_taken_text(&at->taken, text);
        fprintf(out, "%s%s at %zu took, in the mean: %s\n", begin, at->name, at->features, text);
    }
    if (study->left_out)
        fprintf(out, "%s%zu feature size%s above the %zu keys left out\n", begin, study->left_out,
            study->left_out == 1 ? "" : "s", study->input->shape.keys);
}

static bool print_study(const struct study *study, FILE *out, bool markdown)
{
    const struct attention_shape *shape = &study->input->shape;
    struct table table = {.columns = 7};
    const char *const headings[] = {
        "attention", "features", "spectral error", "Frobenius error", "ms", "vs exact", "MMAC"};
    for (size_t i = 0; i < table.columns; i++) t2t_table_cell(&table, "%s", headings[i]);
    for (size_t i = 0; i < study->count; i++)
        if (study->cases[i].errors) case_row(&table, &study->cases[i], &study->cases[0]);
    fprintf(out, "%sinput     %s\n", markdown ? "    " : "", study->input->description);
    fprintf(out, "%sshape     %zu queries, %zu keys, %zu head%s of %zu, values of %zu, scale %.6g; %s\n\n",
        markdown ? "    " : "", shape->queries, shape->keys, shape->heads, shape->heads == 1 ? "" : "s",
        shape->head_dim, shape->value_dim, (double)shape->scale, study->device);
    const bool printed = t2t_table_print(&table, out, markdown);
    fputc('\n', out);
    print_notes(study, out, markdown ? "- " : "note      ");
    return printed;
}

static bool write_table(const void *results, FILE *out)
{
    return print_study(results, out, false);
}

static bool write_markdown(const void *results, FILE *out)
{
    return print_study(results, out, true);
}

/* ---- the chart ---- */

static struct chart_point point_of(const struct study_case *at)
{
    const struct mean_and_deviation error = t2t_over_seeds(at->spectral, at->errors);
    struct chart_point point = {.x = t2t_quartiles(at->ms, at->times).median, .y = error.mean};
    if (at->method->kind == ATTENTION_EXACT) point.y = NAN; /* a line at its time: its error has no logarithm */
    point.low = error.mean - error.deviation;
    point.high = error.mean + error.deviation;
    if (at->features) snprintf(point.label, sizeof point.label, "%zu", at->features);
    return point;
}

/* Cases of one method are neighbours: each run of them is a curve. */
static bool write_chart(const void *results, FILE *out)
{
    const struct study *study = results;
    struct chart_point *points = calloc(study->count, sizeof *points);
    struct chart_series series[METHODS_MOST + 1];
    size_t curves = 0;
    if (!points) return false;
    for (size_t i = 0; i < study->count; i++) {
        points[i] = point_of(&study->cases[i]);
        if (i == 0 || strcmp(study->cases[i].name, study->cases[i - 1].name) != 0)
            series[curves++] = (struct chart_series){study->cases[i].name, &points[i], 0};
        series[curves - 1].count++;
    }
    char subtitle[640], bars[64] = "";
    if (study->seeds > 1) snprintf(bars, sizeof bars, ", bars one standard deviation over %zu seeds", study->seeds);
    snprintf(subtitle, sizeof subtitle, "%s; numbers are feature sizes%s%s", study->input->description, bars,
        study->signal || t2t_interrupted() ? "; interrupted: partial" : "");
    const struct chart chart = {.title = "Error of attention against time",
        .subtitle = subtitle,
        .x = {"milliseconds", true},
        .y = {"relative spectral error of the output", true},
        .series = series,
        .count = curves};
    t2t_chart_svg(&chart, out);
    free(points);
    return true;
}

report_writer *const t2t_study_writers[REPORT_FORMATS] = {
    [REPORT_TABLE] = write_table,
    [REPORT_MARKDOWN] = write_markdown,
    [REPORT_CSV] = t2t_study_csv,
    [REPORT_JSON] = t2t_study_json,
    [REPORT_SVG] = write_chart,
};
