/* A chart of curves as SVG: one self-contained file, no fonts or scripts of its own. */
#ifndef T2T_EVAL_CHART_H
#define T2T_EVAL_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct chart_axis {
    const char *label;
    bool logarithmic; /* only positive values are then drawn */
};

struct chart_point {
    double x, y;
    double low, high; /* a vertical bar, drawn where low < high */
    char label[24];   /* beside the marker, "" for none */
};

/* One curve: markers, joined in the order of the points. A single point whose y is NaN is a vertical line at its x. */
struct chart_series {
    const char *name;
    const struct chart_point *points;
    size_t count;
};

struct chart {
    const char *title, *subtitle;
    struct chart_axis x, y;
    const struct chart_series *series; /* at most 12 look different */
    size_t count;
};

/* Writes the whole file. Points outside of the numbers (NaN, or not positive on a logarithmic axis) are left out. */
void t2t_chart_svg(const struct chart *chart, FILE *out);

#endif
