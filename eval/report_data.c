/* Reports for programs: CSV with timm's columns first, and JSON. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/attention_parameters.h"
#include "eval/metrics.h"
#include "eval/report.h"
#include "eval/sha256.h"
#include "eval/text_formats.h"
#include "eval/tool.h"

/* ---- CSV ---- */

static void csv_row(const struct report *report, FILE *out, size_t run)
{
    const struct evaluation *evaluation = report->evaluation;
    const struct run_result *result = &evaluation->result[run];
    const struct run_result *reference = &evaluation->result[evaluation->runs->reference];
    const double images = evaluation->labelled ? (double)evaluation->images : NAN;
    const double top1 = 100 * (double)result->correct1 / images, top5 = 100 * (double)result->correct5 / images;
    const struct interval interval = t2t_wilson(result->correct1, evaluation->images);
    const struct quartiles forward = t2t_quartiles(result->forward_ms, evaluation->batches);
    const struct quartiles layer1 = t2t_quartiles(result->layer1_ms, evaluation->batches);
    const double values[] = {top1, 100 - top1, top5, 100 - top5};
    t2t_csv_text(out, t2t_model_config(evaluation->model)->name);
    fprintf(out, ",%zu", report->preprocess->image_size);
    for (size_t i = 0; i < 4; i++) {
        fputc(',', out);
        t2t_csv_number(out, "%.3f", values[i]);
    }
    fprintf(out, ",%.2f,%.4g,%s,", 1e-6 * (double)t2t_model_parameters(evaluation->model), report->preprocess->crop_pct,
        report->preprocess->interpolation == T2T_BILINEAR ? "bilinear" : "bicubic");
    t2t_csv_text(out, evaluation->runs->run[run].label);
    fprintf(out, ",%llu,%zu,", (unsigned long long)evaluation->runs->run[run].seed, evaluation->images);
    t2t_csv_number(out, "%.3f", evaluation->labelled ? 100 * interval.low : NAN);
    fputc(',', out);
    t2t_csv_number(out, "%.3f", evaluation->labelled ? 100 * interval.high : NAN);
    if (evaluation->labelled)
        fprintf(out, ",%zu,%zu,%.6g", result->lost, result->gained, t2t_mcnemar(result->lost, result->gained));
    else
        fputs(",,,", out);
    fprintf(out, ",%.3f", 100 * (double)result->agreed / (double)evaluation->images);
    const double times[] = {layer1.median, layer1.low, layer1.high, forward.median, forward.low, forward.high,
        1e3 / forward.median, t2t_speedup(reference->layer1_ms, result->layer1_ms, evaluation->batches).median,
        t2t_speedup(reference->forward_ms, result->forward_ms, evaluation->batches).median};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        fputc(',', out);
        t2t_csv_number(out, "%.5g", times[i]);
    }
    fprintf(out, ",%.6g,%.6g,%d\n", 1e-6 * result->layer1_macs, 1e-6 * result->macs, evaluation->signal != 0);
}

bool t2t_report_csv(const void *results, FILE *out)
{
    const struct report *report = results;
    fputs(
        "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,interpolation,attention,seed,images,"
        "top1_low,top1_high,lost,gained,mcnemar_p,same_answer,layer1_ms,layer1_ms_q25,layer1_ms_q75,forward_ms,"
        "forward_ms_q25,forward_ms_q75,forward_images_per_s,layer1_speedup,forward_speedup,layer1_mmac,mmac,partial\n",
        out);
    for (size_t run = 0; run < report->evaluation->runs->count; run++) csv_row(report, out, run);
    return true;
}

/* ---- JSON ---- */

static json_t *share(size_t correct, size_t total)
{
    const struct interval interval = t2t_wilson(correct, total);
    return json_pack("{s:I,s:I,s:f,s:[f,f]}", "correct", (json_int_t)correct, "total", (json_int_t)total, "share",
        (double)correct / (double)total, "ci95", interval.low, interval.high);
}

static json_t *times(const double *ms, size_t count)
{
    const struct quartiles quartiles = t2t_quartiles(ms, count);
    json_t *raw = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(raw, json_real(ms[i]));
    return json_pack("{s:o,s:o,s:o,s:o}", "median", t2t_json_number(quartiles.median), "q25",
        t2t_json_number(quartiles.low), "q75", t2t_json_number(quartiles.high), "batches", raw);
}

static json_t *layers_of(const struct evaluation *evaluation, size_t run)
{
    const struct t2t_config *config = t2t_model_config(evaluation->model);
    const struct t2t_plan *plan = &evaluation->runs->plan[run];
    json_t *layers = json_array();
    for (size_t layer = 0; layer < config->depth + T2T_TOKEN_LAYERS; layer++) {
        char name[T2T_NAME_BYTES];
        t2t_layer_name(layer, name);
        const struct attention_shape shape = t2t_layer_shape(evaluation->model, layer);
        const struct attention_config *attention = &plan->layer[layer];
        json_t *entry = json_pack("{s:s,s:s,s:I,s:f}", "layer", name, "attention",
            attention_method(attention->kind)->name, "tokens", (json_int_t)shape.queries, "attention_ms",
            1e3 * evaluation->result[run].layer_seconds[layer] / (double)evaluation->images);
        json_object_set_new(entry, "options", t2t_config_as_json(attention));
        t2t_set_taken(entry, &evaluation->result[run].taken[layer]);
        json_array_append_new(layers, entry);
    }
    return layers;
}

static json_t *run_of(const struct evaluation *evaluation, size_t run)
{
    const struct attention_run *attention = &evaluation->runs->run[run];
    const struct run_result *result = &evaluation->result[run];
    const struct run_result *reference = &evaluation->result[evaluation->runs->reference];
    const size_t images = evaluation->images, batches = evaluation->batches;
    json_t *entry = json_pack("{s:s,s:s,s:s,s:I,s:s,s:I}", "name", attention->name, "label", attention->label,
        "attention", attention->method->name, "seed", (json_int_t)attention->seed, "layers_replaced",
        evaluation->runs->layers, "same_answer", (json_int_t)result->agreed);
    if (evaluation->labelled) {
        const struct interval drop = t2t_paired_drop(result->lost, result->gained, images);
        json_object_set_new(entry, "top1", share(result->correct1, images));
        json_object_set_new(entry, "top5", share(result->correct5, images));
        json_object_set_new(entry, "loss", t2t_json_number(result->loss / (double)images));
        if (run != evaluation->runs->reference) /* against itself there is nothing to compare */
            json_object_set_new(entry, "paired",
                json_pack("{s:s,s:I,s:I,s:f,s:f,s:[f,f]}", "reference",
                    evaluation->runs->run[evaluation->runs->reference].name, "lost", (json_int_t)result->lost, "gained",
                    (json_int_t)result->gained, "mcnemar_p", t2t_mcnemar(result->lost, result->gained), "drop",
                    ((double)result->lost - (double)result->gained) / (double)images, "drop_ci95", drop.low,
                    drop.high));
    }
    json_object_set_new(entry, "forward_ms", times(result->forward_ms, batches));
    json_object_set_new(entry, "layer1_ms", times(result->layer1_ms, batches));
    json_object_set_new(entry, "forward_speedup",
        t2t_json_number(t2t_speedup(reference->forward_ms, result->forward_ms, batches).median));
    json_object_set_new(
        entry, "layer1_speedup", t2t_json_number(t2t_speedup(reference->layer1_ms, result->layer1_ms, batches).median));
    json_object_set_new(entry, "macs", t2t_json_number(result->macs));
    json_object_set_new(entry, "layer1_macs", t2t_json_number(result->layer1_macs));
    json_object_set_new(entry, "layers", layers_of(evaluation, run));
    return entry;
}

/* SHA-256 of the lines "LABEL NAME" in the data set's order: two runs with the same digest saw the same list. */
static json_t *digest_of(const struct t2t_dataset *pictures)
{
    char *lines = NULL, digest[T2T_SHA256_TEXT];
    size_t bytes = 0;
    FILE *out = open_memstream(&lines, &bytes);
    if (!out) return json_null();
    for (size_t i = 0; i < pictures->count; i++)
        fprintf(out, "%d %s\n", pictures->samples[i].label, pictures->samples[i].name);
    fclose(out);
    const enum t2t_status status = t2t_sha256_bytes(lines, bytes, digest);
    free(lines);
    return status ? json_null() : json_string(digest);
}

static json_t *dataset_of(const struct report *report)
{
    const struct evaluation *evaluation = report->evaluation;
    const struct t2t_dataset *pictures = evaluation->pictures;
    json_t *skipped = json_array();
    for (size_t i = 0; i < evaluation->skipped_count; i++)
        json_array_append_new(skipped, json_pack("{s:o,s:o}", "name", t2t_json_text(evaluation->skipped[i].name),
                                           "reason", t2t_json_text(evaluation->skipped[i].reason)));
    return json_pack("{s:o,s:s,s:s,s:I,s:I,s:I,s:I,s:o,s:I,s:o}", "path", t2t_json_text(report->data), "layout",
        pictures->layout, "label_kind", pictures->label_kind, "images", (json_int_t)evaluation->images, "listed",
        (json_int_t)pictures->count, "total", (json_int_t)pictures->total, "classes_present",
        (json_int_t)pictures->classes_present, "digest", digest_of(pictures), "warned", (json_int_t)evaluation->warned,
        "skipped", skipped);
}

static json_t *model_of(const struct report *report)
{
    const struct t2t_config *config = t2t_model_config(report->evaluation->model);
    const struct t2t_preprocess *p = report->preprocess;
    char digest[T2T_SHA256_TEXT];
    const bool hashed = t2t_sha256_file(report->weights, digest) == T2T_OK;
    return json_pack("{s:s,s:o,s:o,s:I,s:I,s:I,s:f,s:s,s:[f,f,f],s:[f,f,f],s:s}", "name", config->name, "weights",
        t2t_json_text(report->weights), "sha256", hashed ? json_string(digest) : json_null(), "parameters",
        (json_int_t)t2t_model_parameters(report->evaluation->model), "classes", (json_int_t)config->num_classes,
        "img_size", (json_int_t)config->image_size, "crop_pct", p->crop_pct, "interpolation",
        p->interpolation == T2T_BILINEAR ? "bilinear" : "bicubic", "mean", (double)p->mean[0], (double)p->mean[1],
        (double)p->mean[2], "std", (double)p->std[0], (double)p->std[1], (double)p->std[2], "dtype", "f32");
}

static json_t *methods_of(const struct evaluation *evaluation)
{
    json_t *methods = json_array();
    for (size_t run = 0; run < evaluation->runs->count;) {
        const struct seed_summary summary = t2t_summarise_seeds(evaluation, run);
        json_t *entry = json_pack("{s:s,s:I,s:o}", "attention", evaluation->runs->run[run].label, "seeds",
            (json_int_t)summary.count, "same_answer", t2t_json_number(summary.agreed));
        if (evaluation->labelled) {
            json_object_set_new(entry, "top1_mean", t2t_json_number(summary.top1));
            json_object_set_new(entry, "top1_sd", t2t_json_number(summary.top1_sd));
            json_object_set_new(entry, "top5_mean", t2t_json_number(summary.top5));
        }
        if (evaluation->labelled && run != evaluation->runs->reference) {
            json_object_set_new(entry, "lost_mean", t2t_json_number(summary.lost));
            json_object_set_new(entry, "gained_mean", t2t_json_number(summary.gained));
            json_object_set_new(entry, "drop_mean", t2t_json_number(summary.drop));
            json_object_set_new(
                entry, "drop_mean_ci95", json_pack("[f,f]", summary.drop_interval.low, summary.drop_interval.high));
            json_object_set_new(entry, "mcnemar_p", json_pack("[f,f]", summary.p.low, summary.p.high));
        }
        json_object_set_new(entry, "layer1_ms", t2t_json_number(summary.layer1_ms));
        json_object_set_new(entry, "layer1_speedup", t2t_json_number(summary.layer1_speedup));
        json_object_set_new(entry, "forward_ms", t2t_json_number(summary.forward_ms));
        json_object_set_new(entry, "forward_speedup", t2t_json_number(summary.forward_speedup));
        json_object_set_new(entry, "macs", t2t_json_number(summary.macs));
        json_object_set_new(entry, "layer1_macs", t2t_json_number(summary.layer1_macs));
        json_array_append_new(methods, entry);
        run += summary.count;
    }
    return methods;
}

bool t2t_report_json(const void *results, FILE *out)
{
    const struct report *report = results;
    const struct evaluation *evaluation = report->evaluation;
    const double images = (double)evaluation->images;
    json_t *runs = json_array();
    for (size_t run = 0; run < evaluation->runs->count; run++) json_array_append_new(runs, run_of(evaluation, run));
    json_t *root = json_pack("{s:s,s:s,s:s,s:b,s:o,s:{s:s,s:s,s:s,s:I,s:I,s:s},s:o,s:o,s:{s:o,s:o,s:o,s:o},s:o,s:o}",
        "schema", "t2tvit-eval/1", "tool", "t2tvit-eval", "version", T2T_VERSION, "partial", evaluation->signal != 0,
        "command", t2t_json_texts(t2t_tool_arguments()), "environment", "compiler", t2t_compiler(), "device",
        evaluation->device, "dtype", number_format_name(evaluation->options.device.options.format), "batch_size",
        (json_int_t)evaluation->options.batch, "workers", (json_int_t)report->workers, "pipeline",
        report->overlap ? "overlap" : "serial", "dataset", dataset_of(report), "model", model_of(report), "stages_ms",
        "decode", t2t_json_number(1e3 * evaluation->decode_seconds / images), "resize",
        t2t_json_number(1e3 * evaluation->resize_seconds / images), "wait",
        t2t_json_number(1e3 * evaluation->wait_seconds / images), "wall",
        t2t_json_number(1e3 * evaluation->wall_seconds / images), "runs", runs, "methods", methods_of(evaluation));
    if (!root) return false;
    const bool written = json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) == 0;
    fputc('\n', out);
    json_decref(root);
    return written;
}
