/* The study for programs: CSV with a row a case, and JSON with every seed and run. */
#include <jansson.h>

#include "eval/attention_parameters.h"
#include "eval/interrupt.h"
#include "eval/metrics.h"
#include "eval/study_report.h"
#include "eval/text_formats.h"
#include "eval/tool.h"

static bool is_partial(const struct study *study)
{
    return study->signal || t2t_interrupted();
}

static double speedup_of(const struct study_case *at, const struct study_case *exact)
{
    return t2t_speedup(exact->ms, at->ms, at->times < exact->times ? at->times : exact->times).median;
}

/* ---- CSV ---- */

bool t2t_study_csv(const void *results, FILE *out)
{
    const struct study *study = results;
    fputs("attention,features,seeds,spectral_error,spectral_error_sd,frobenius_error,frobenius_error_sd,runs,ms,ms_q25,"
          "ms_q75,draw_ms,speedup,mmac,partial\n",
        out);
    for (size_t i = 0; i < study->count; i++) {
        const struct study_case *at = &study->cases[i];
        if (!at->errors) continue;
        const struct mean_and_deviation spectral = t2t_over_seeds(at->spectral, at->errors);
        const struct mean_and_deviation frobenius = t2t_over_seeds(at->frobenius, at->errors);
        const struct quartiles ms = t2t_quartiles(at->ms, at->times);
        const double values[] = {
            ms.median, ms.low, ms.high, t2t_quartiles(at->draw_ms, at->times).median, speedup_of(at, &study->cases[0])};
        fprintf(out, "%s,%zu,%zu,%.8g,%.4g,%.8g,%.4g,%zu", at->name, at->features, at->errors, spectral.mean,
            spectral.deviation, frobenius.mean, frobenius.deviation, at->times);
        for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
            fputc(',', out);
            t2t_csv_number(out, "%.6g", values[j]);
        }
        fprintf(out, ",%.6g,%d\n", 1e-6 * at->macs, is_partial(study));
    }
    return true;
}

/* ---- JSON ---- */

static json_t *numbers(const double *values, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(list, t2t_json_number(values[i]));
    return list;
}

static json_t *errors_of(const double *values, size_t count)
{
    const struct mean_and_deviation error = t2t_over_seeds(values, count);
    return json_pack("{s:o,s:o,s:o}", "mean", t2t_json_number(error.mean), "sd", t2t_json_number(error.deviation),
        "seeds", numbers(values, count));
}

static json_t *case_of(const struct study_case *at, const struct study_case *exact)
{
    const struct quartiles ms = t2t_quartiles(at->ms, at->times);
    json_t *entry = json_pack("{s:s,s:o,s:o,s:o,s:o,s:o}", "attention", at->name, "options",
        t2t_config_as_json(&at->config), "spectral_error", errors_of(at->spectral, at->errors), "frobenius_error",
        errors_of(at->frobenius, at->errors), "macs", t2t_json_number(at->macs), "speedup",
        t2t_json_number(speedup_of(at, exact)));
    json_object_set_new(entry, "features", at->features ? json_integer((json_int_t)at->features) : json_null());
    json_object_set_new(entry, "ms",
        json_pack("{s:o,s:o,s:o,s:o}", "median", t2t_json_number(ms.median), "q25", t2t_json_number(ms.low), "q75",
            t2t_json_number(ms.high), "runs", numbers(at->ms, at->times)));
    t2t_set_taken(entry, &at->taken);
    json_object_set_new(entry, "draw_ms", t2t_json_number(t2t_quartiles(at->draw_ms, at->times).median));
    return entry;
}

bool t2t_study_json(const void *results, FILE *out)
{
    const struct study *study = results;
    const struct attention_shape *shape = &study->input->shape;
    json_t *cases = json_array(), *seeds = json_array();
    for (size_t i = 0; i < study->count; i++)
        if (study->cases[i].errors) json_array_append_new(cases, case_of(&study->cases[i], &study->cases[0]));
    for (size_t i = 0; i < study->seeds; i++) json_array_append_new(seeds, json_integer((json_int_t)study->seed[i]));
    json_t *root = json_pack("{s:s,s:s,s:s,s:b,s:o,s:{s:s,s:s},s:o,s:{s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:f},s:o}", "schema",
        "t2tvit-attention/1", "tool", "t2tvit-attention", "version", T2T_VERSION, "partial", is_partial(study),
        "command", t2t_json_texts(t2t_tool_arguments()), "environment", "compiler", t2t_compiler(), "device",
        study->device, "seeds", seeds, "input", "description", t2t_json_text(study->input->description), "units",
        (json_int_t)study->input->units, "heads", (json_int_t)shape->heads, "queries", (json_int_t)shape->queries,
        "keys", (json_int_t)shape->keys, "head_dim", (json_int_t)shape->head_dim, "value_dim",
        (json_int_t)shape->value_dim, "scale", (double)shape->scale, "cases", cases);
    if (!root) return false;
    const bool written = json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) == 0;
    fputc('\n', out);
    json_decref(root);
    return written;
}
