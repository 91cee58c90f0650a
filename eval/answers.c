/* Printing answers; see answers.h. */
#include "eval/answers.h"

#include <stdlib.h>

#include "eval/metrics.h"
#include "eval/text_formats.h"

enum { NAME_COLUMN = 22 };

/* One run's best classes. */
struct best {
    size_t index[ANSWER_MOST];
    double *probability; /* [classes] */
    const float *logits;
};

void t2t_answers_begin(FILE *out, const struct answer_style *style)
{
    if (style->format != ANSWER_CSV) return;
    fprintf(out, "picture,attention,rank,index,wnid,name%s%s\n", style->value != ANSWER_LOGIT ? ",prob" : "",
        style->value != ANSWER_PROBABILITY ? ",logit" : "");
}

/* ---- table ---- */

static void print_value(FILE *out, const struct answer_style *style, const struct best *best, size_t index)
{
    if (style->value != ANSWER_LOGIT) fprintf(out, "  %6.2f %%", 100 * best->probability[index]);
    if (style->value != ANSWER_PROBABILITY) fprintf(out, "  %8.4f", (double)best->logits[index]);
}

/* The first characters (UTF-8) of a name, filled up with blanks. */
static void print_column(FILE *out, const char *name)
{
    size_t shown = 0;
    for (; *name; name++) {
        const bool begins = ((unsigned char)*name & 0xc0) != 0x80;
        if (begins && shown == NAME_COLUMN) break;
        shown += begins;
        fputc(*name, out);
    }
    fprintf(out, "%*s", (int)(NAME_COLUMN - shown), "");
}

/* Best classes of all runs side by side. */
static void print_table(FILE *out, const struct answer_style *style, const char *picture, const struct best *best)
{
    const size_t runs = style->runs->count, number = style->value == ANSWER_BOTH ? 20 : 10;
    char text[CLASS_NAME_BYTES];
    t2t_plain_text(out, picture);
    fputc('\n', out);
    if (runs > 1) {
        fputs("   ", out);
        for (size_t run = 0; run < runs; run++)
            fprintf(out, "%-*s", (int)(number + 7 + NAME_COLUMN), style->runs->run[run].name);
        fputc('\n', out);
    }
    for (size_t rank = 0; rank < style->top; rank++) {
        for (size_t run = 0; run < runs; run++) {
            const size_t index = best[run].index[rank];
            print_value(out, style, &best[run], index);
            const char *name = t2t_class_name(style->classes, index, style->names, text);
            fprintf(out, "  %4zu ", index);
            if (run + 1 < runs)
                print_column(out, name);
            else
                fputs(name, out);
        }
        fputc('\n', out);
    }
}

/* ---- JSON lines ---- */

static json_t *best_as_json(const struct answer_style *style, const struct best *best)
{
    json_t *list = json_array();
    for (size_t rank = 0; rank < style->top; rank++) {
        char text[CLASS_NAME_BYTES];
        const size_t index = best->index[rank];
        json_t *entry = json_pack("{s:I,s:o}", "index", (json_int_t)index, "name",
            t2t_json_text(t2t_class_name(style->classes, index, style->names, text)));
        if (!style->classes->names && style->classes->count == 1000)
            json_object_set_new(
                entry, "wnid", t2t_json_text(t2t_class_name(style->classes, index, CLASS_NAME_WNID, text)));
        if (style->value != ANSWER_LOGIT) json_object_set_new(entry, "prob", json_real(best->probability[index]));
        if (style->value != ANSWER_PROBABILITY)
            json_object_set_new(entry, "logit", json_real((double)best->logits[index]));
        json_array_append_new(list, entry);
    }
    return list;
}

static bool print_json(FILE *out, const struct answer_style *style, const char *picture, const struct best *best)
{
    json_t *root = json_pack("{s:o}", "picture", t2t_json_text(picture));
    json_t *answers = json_object();
    for (size_t run = 0; run < style->runs->count; run++)
        json_object_set_new(answers, style->runs->run[run].name, best_as_json(style, &best[run]));
    json_object_set_new(root, "answers", answers);
    const bool printed = root && json_dumpf(root, out, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;
    fputc('\n', out);
    json_decref(root);
    return printed;
}

/* ---- CSV ---- */

static void print_csv(FILE *out, const struct answer_style *style, const char *picture, const struct best *best)
{
    char text[CLASS_NAME_BYTES];
    for (size_t run = 0; run < style->runs->count; run++)
        for (size_t rank = 0; rank < style->top; rank++) {
            const size_t index = best[run].index[rank];
            t2t_csv_text(out, picture);
            fprintf(out, ",%s,%zu,%zu,", style->runs->run[run].name, rank + 1, index);
            if (!style->classes->names && style->classes->count == 1000)
                t2t_csv_text(out, t2t_class_name(style->classes, index, CLASS_NAME_WNID, text));
            fputc(',', out);
            t2t_csv_text(out, t2t_class_name(style->classes, index, style->names, text));
            if (style->value != ANSWER_LOGIT) fprintf(out, ",%.9g", best[run].probability[index]);
            if (style->value != ANSWER_PROBABILITY) fprintf(out, ",%.9g", (double)best[run].logits[index]);
            fputc('\n', out);
        }
}

/* ---- any ---- */

bool t2t_answers_print(
    FILE *out, const struct answer_style *style, const char *picture, const float *logits, size_t stride)
{
    const size_t runs = style->runs->count, classes = style->classes->count;
    struct best *best = calloc(runs, sizeof *best);
    double *probability = calloc(runs * classes, sizeof *probability);
    bool printed = best && probability;
    for (size_t run = 0; run < runs && printed; run++) {
        best[run].logits = logits + run * stride;
        best[run].probability = probability + run * classes;
        t2t_top_classes(best[run].logits, classes, style->top, best[run].index);
        t2t_probabilities(best[run].logits, classes, best[run].probability);
    }
    if (printed && style->format == ANSWER_JSONL)
        printed = print_json(out, style, picture, best);
    else if (printed && style->format == ANSWER_CSV)
        print_csv(out, style, picture, best);
    else if (printed)
        print_table(out, style, picture, best);
    free(best);
    free(probability);
    return printed;
}
