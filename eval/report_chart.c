/* The report as a picture: accuracy against speed, a curve for each method that was swept. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/chart.h"
#include "eval/metrics.h"
#include "eval/option_lists.h"
#include "eval/report.h"

/* Runs of one variant, whatever their seed, as a point: the mean, with the interval of one run's pictures. */
static struct chart_point point_of(const struct evaluation *evaluation, struct seed_summary summary)
{
    const double images = (double)evaluation->images, count = (double)summary.count;
    struct chart_point point = {.y = 100 * (evaluation->labelled ? summary.top1 : summary.agreed)};
    for (size_t i = 0; i < summary.count; i++) {
        const struct run_result *result = &evaluation->result[summary.first + i];
        point.x += 1e3 / t2t_quartiles(result->forward_ms, evaluation->batches).median / count;
    }
    const struct interval interval = t2t_wilson((size_t)lround(point.y / 100 * images), evaluation->images);
    point.low = 100 * interval.low;
    point.high = 100 * interval.high;
    snprintf(point.label, sizeof point.label, "%s", evaluation->runs->run[summary.first].swept);
    return point;
}

bool t2t_report_chart(const void *results, FILE *out)
{
    const struct report *report = results;
    const struct evaluation *evaluation = report->evaluation;
    const struct attention_run *runs = evaluation->runs->run;
    struct chart_point *points = calloc(evaluation->runs->count, sizeof *points);
    struct chart_series series[METHODS_MOST];
    size_t curves = 0, used = 0;
    if (!points) return false;
    for (size_t run = 0; run < evaluation->runs->count; used++) {
        const struct seed_summary summary = t2t_summarise_seeds(evaluation, run);
        points[used] = point_of(evaluation, summary);
        if (run == 0 || strcmp(runs[run].curve, runs[run - 1].curve) != 0)
            series[curves++] = (struct chart_series){runs[run].curve, &points[used], 0};
        series[curves - 1].count++;
        run += summary.count;
    }
    char subtitle[512];
    snprintf(subtitle, sizeof subtitle,
        "%s, %zu pictures, attention replaced in %s; bars: 95 %% interval of the pictures%s",
        t2t_model_config(evaluation->model)->name, evaluation->images, evaluation->runs->layers,
        evaluation->signal ? "; interrupted: partial" : "");
    const struct chart chart = {.title = evaluation->labelled ? "Accuracy against speed" : "Agreement against speed",
        .subtitle = subtitle,
        .x = {"forward, images a second", false},
        .y = {evaluation->labelled ? "top-1, %" : "same answer as the reference, %", false},
        .series = series,
        .count = curves};
    t2t_chart_svg(&chart, out);
    free(points);
    return true;
}
