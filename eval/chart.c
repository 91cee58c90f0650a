/* Charts as SVG text: scales, ticks, curves with markers that differ in colour and shape, a legend.
 *
 * The colours are those of Okabe and Ito, told apart by the colour-blind. Coordinates are pixels of a fixed canvas.
 */
#include "eval/chart.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 960, HEIGHT = 600, LEFT = 84, RIGHT = 210, TOP = 70, BOTTOM = 64, MOST_TICKS = 40, SHAPES = 6 };

struct scale {
    bool logarithmic;
    double low, high;     /* of the data's values, or of their logarithms */
    double begin, length; /* pixels; length < 0: upwards */
    double tick[MOST_TICKS];
    size_t ticks;
};

static const char *const colors[] = {
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f"};

enum { COLORS = sizeof colors / sizeof *colors };

static void text(FILE *out, const char *content)
{
    for (; *content; content++) switch (*content) {
        case '&': fputs("&amp;", out); break;
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        default: fputc((unsigned char)*content < 0x20 ? ' ' : *content, out);
        }
}

/* ---- scales ---- */

static bool on_scale(const struct scale *scale, double value)
{
    return isfinite(value) && (!scale->logarithmic || value > 0);
}

static double place(const struct scale *scale, double value)
{
    const double at = scale->logarithmic ? log10(value) : value;
    return scale->begin + scale->length * (at - scale->low) / (scale->high - scale->low);
}

static void widen(struct scale *scale, double value)
{
    if (!on_scale(scale, value)) return;
    const double at = scale->logarithmic ? log10(value) : value;
    if (at < scale->low) scale->low = at;
    if (at > scale->high) scale->high = at;
}

static void add_tick(struct scale *scale, double value)
{
    const double at = scale->logarithmic ? log10(value) : value;
    const double margin = 1e-9 * (scale->high - scale->low);
    if (scale->ticks < MOST_TICKS && at >= scale->low - margin && at <= scale->high + margin)
        scale->tick[scale->ticks++] = value;
}

/* Decades, with 2 and 5 between them where there are few. */
static void logarithmic_ticks(struct scale *scale)
{
    static const double parts[] = {1, 2, 5};
    const size_t used = scale->high - scale->low > 3.2 ? 1 : 3;
    for (double decade = floor(scale->low); decade <= scale->high; decade++)
        for (size_t i = 0; i < used; i++) add_tick(scale, parts[i] * pow(10, decade));
}

/* Multiples of 1, 2 or 5 times a power of ten, five to ten of them. */
static void linear_ticks(struct scale *scale)
{
    const double rough = (scale->high - scale->low) / 6, power = pow(10, floor(log10(rough)));
    const double part = rough / power, step = (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10) * power;
    for (double i = ceil(scale->low / step); i * step <= scale->high; i++) add_tick(scale, i * step);
}

/* Covers all points with a little room around. */
static struct scale make_scale(const struct chart *chart, bool vertical)
{
    struct scale scale = {.logarithmic = vertical ? chart->y.logarithmic : chart->x.logarithmic,
        .low = INFINITY,
        .high = -INFINITY,
        .begin = vertical ? HEIGHT - BOTTOM : LEFT,
        .length = vertical ? TOP + BOTTOM - HEIGHT : WIDTH - LEFT - RIGHT};
    for (size_t s = 0; s < chart->count; s++)
        for (size_t i = 0; i < chart->series[s].count; i++) {
            const struct chart_point *point = &chart->series[s].points[i];
            widen(&scale, vertical ? point->y : point->x);
            if (vertical && point->low < point->high) {
                widen(&scale, point->low);
                widen(&scale, point->high);
            }
        }
    if (!(scale.low <= scale.high)) scale.low = scale.high = 0;
    double room = 0.06 * (scale.high - scale.low);
    if (!(room > 0)) room = scale.logarithmic ? 0.5 : fabs(scale.low) > 0 ? 0.1 * fabs(scale.low) : 1;
    scale.low -= room;
    scale.high += room;
    if (scale.logarithmic)
        logarithmic_ticks(&scale);
    else
        linear_ticks(&scale);
    return scale;
}

/* ---- the frame ---- */

static void draw_axes(const struct chart *chart, const struct scale *x, const struct scale *y, FILE *out)
{
    const double right = WIDTH - RIGHT, bottom = HEIGHT - BOTTOM;
    fputs("<g stroke=\"#dddddd\" stroke-width=\"1\">\n", out);
    for (size_t i = 0; i < x->ticks; i++) {
        const double at = place(x, x->tick[i]);
        fprintf(out, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%.1f\"/>\n", at, TOP, at, bottom);
    }
    for (size_t i = 0; i < y->ticks; i++) {
        const double at = place(y, y->tick[i]);
        fprintf(out, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", LEFT, at, right, at);
    }
    fprintf(out,
        "</g>\n<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#333333\"/>\n"
        "<g font-size=\"13\">\n",
        LEFT, TOP, right - LEFT, bottom - TOP);
    for (size_t i = 0; i < x->ticks; i++)
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.6g</text>\n", place(x, x->tick[i]),
            bottom + 20, x->tick[i]);
    for (size_t i = 0; i < y->ticks; i++)
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n", LEFT - 8, place(y, y->tick[i]) + 4,
            y->tick[i]);
    fprintf(out, "</g>\n<g font-size=\"15\">\n<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (LEFT + right) / 2,
        bottom + 46);
    text(out, chart->x.label);
    fprintf(
        out, "</text>\n<text transform=\"translate(24 %.1f) rotate(-90)\" text-anchor=\"middle\">", (TOP + bottom) / 2);
    text(out, chart->y.label);
    fputs("</text>\n</g>\n", out);
}

static void draw_titles(const struct chart *chart, FILE *out)
{
    fprintf(out, "<text x=\"%d\" y=\"32\" font-size=\"19\" font-weight=\"bold\">", LEFT);
    text(out, chart->title);
    fprintf(out, "</text>\n<text x=\"%d\" y=\"54\" font-size=\"13\" fill=\"#555555\">", LEFT);
    text(out, chart->subtitle);
    fputs("</text>\n", out);
}

/* ---- curves ---- */

static void draw_marker(size_t shape, double x, double y, FILE *out)
{
    switch (shape % SHAPES) {
    case 0: fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>\n", x, y); break;
    case 1: fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"9\" height=\"9\"/>\n", x - 4.5, y - 4.5); break;
    case 2: fprintf(out, "<path d=\"M%.1f %.1f l6 10 h-12 z\"/>\n", x, y - 6); break;
    case 3: fprintf(out, "<path d=\"M%.1f %.1f l6 6 l-6 6 l-6 -6 z\"/>\n", x, y - 6); break;
    case 4: fprintf(out, "<path d=\"M%.1f %.1f l6 -10 h-12 z\"/>\n", x, y + 6); break;
    default: fprintf(out, "<path d=\"M%.1f %.1f h4 v-4 h3 v4 h4 v3 h-4 v4 h-3 v-4 h-4 z\"/>\n", x - 5.5, y - 1.5);
    }
}

static bool is_line(const struct chart_series *series)
{
    return series->count == 1 && isnan(series->points[0].y);
}

static void draw_line(const struct scale *x, const struct chart_point *point, FILE *out)
{
    if (!on_scale(x, point->x)) return;
    const double at = place(x, point->x);
    fprintf(out,
        "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" fill=\"none\" stroke-width=\"2\" "
        "stroke-dasharray=\"7 5\"/>\n",
        at, TOP, at, HEIGHT - BOTTOM);
}

static void draw_series(
    const struct chart_series *series, size_t shape, const struct scale *x, const struct scale *y, FILE *out)
{
    char path[] = "M";
    fputs("<path fill=\"none\" stroke-width=\"2\" d=\"", out);
    for (size_t i = 0; i < series->count; i++) {
        const struct chart_point *point = &series->points[i];
        if (!on_scale(x, point->x) || !on_scale(y, point->y)) continue;
        fprintf(out, "%s%.1f %.1f ", path, place(x, point->x), place(y, point->y));
        path[0] = 'L';
    }
    fputs("\"/>\n", out);
    for (size_t i = 0; i < series->count; i++) {
        const struct chart_point *point = &series->points[i];
        if (!on_scale(x, point->x) || !on_scale(y, point->y)) continue;
        const double across = place(x, point->x), up = place(y, point->y);
        if (point->low < point->high && on_scale(y, point->low) && on_scale(y, point->high))
            fprintf(out, "<path fill=\"none\" stroke-width=\"1.5\" d=\"M%.1f %.1f V%.1f m-4 0 h8 M%.1f %.1f h8\"/>\n",
                across, place(y, point->low), place(y, point->high), across - 4, place(y, point->low));
        draw_marker(shape, across, up, out);
        if (!point->label[0]) continue;
        fprintf(out,
            "<text x=\"%.1f\" y=\"%.1f\" font-size=\"10\" fill=\"#333333\" stroke=\"#ffffff\" "
            "stroke-width=\"3\" paint-order=\"stroke\">",
            across + 7, up - 6);
        text(out, point->label);
        fputs("</text>\n", out);
    }
}

static void draw_legend_entry(const struct chart_series *series, size_t number, FILE *out)
{
    const double left = WIDTH - RIGHT + 18, y = TOP + 14 + 24 * (double)number;
    fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke-width=\"2\"%s/>\n", left, y, left + 28,
        y, is_line(series) ? " stroke-dasharray=\"7 5\"" : "");
    if (!is_line(series)) draw_marker(number, left + 14, y, out);
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"14\" fill=\"#000000\" stroke=\"none\">", left + 36, y + 5);
    text(out, series->name);
    fputs("</text>\n", out);
}

void t2t_chart_svg(const struct chart *chart, FILE *out)
{
    const struct scale x = make_scale(chart, false), y = make_scale(chart, true);
    fprintf(out,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
        "font-family=\"DejaVu Sans, Verdana, sans-serif\">\n<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_titles(chart, out);
    draw_axes(chart, &x, &y, out);
    for (size_t s = 0; s < chart->count; s++) {
        const char *color = colors[s % COLORS];
        fprintf(out, "<g fill=\"%s\" stroke=\"%s\">\n", color, color);
        if (is_line(&chart->series[s]))
            draw_line(&x, chart->series[s].points, out);
        else
            draw_series(&chart->series[s], s, &x, &y, out);
        draw_legend_entry(&chart->series[s], s, out);
        fputs("</g>\n", out);
    }
    fputs("</svg>\n", out);
}
