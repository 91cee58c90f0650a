/* Formats by the endings of file names, and the loop over outputs. */
#include "eval/report_format.h"

#include <stdlib.h>
#include <string.h>

#include "eval/output.h"
#include "eval/progress.h"

static enum t2t_status format_of(const struct report_request *request, const char *path, enum report_format *format)
{
    static const struct {
        const char *ending;
        enum report_format format;
    } endings[REPORT_FORMATS] = {{".json", REPORT_JSON}, {".csv", REPORT_CSV}, {".md", REPORT_MARKDOWN},
        {".txt", REPORT_TABLE}, {".svg", REPORT_SVG}};
    const char *dot = strrchr(path, '.');
    char known[64] = "";
    *format = (enum report_format)request->format;
    if (strcmp(path, "-") == 0) return T2T_OK;
    for (size_t i = 0; i < REPORT_FORMATS; i++) {
        if (!request->writers[endings[i].format]) continue;
        *format = endings[i].format;
        if (dot && strcmp(dot, endings[i].ending) == 0) return T2T_OK;
        strcat(strcat(known, " "), endings[i].ending);
    }
    *format = (enum report_format)request->format;
    if (t2t_output_in_place(path)) return T2T_OK; /* pipes and devices have no endings */
    return t2t_fail(T2T_BAD_USAGE, "--output \"%s\": its ending says no format; known are%s", path, known);
}

enum t2t_status t2t_report_check(const struct report_request *request)
{
    const struct option_texts *outputs = &request->outputs;
    enum t2t_status status = T2T_OK;
    for (size_t i = 0; i < outputs->count && !status; i++) {
        enum report_format format;
        for (size_t j = 0; j < i; j++)
            if (strcmp(outputs->text[i], outputs->text[j]) == 0)
                return t2t_fail(T2T_BAD_USAGE, "\"%s\" is named for two outputs", outputs->text[i]);
        status = format_of(request, outputs->text[i], &format);
        if (!status) status = t2t_output_check(outputs->text[i]);
    }
    return status;
}

static enum t2t_status write_one(const struct report_request *request, const char *path, const void *results)
{
    enum report_format format;
    enum t2t_status status = format_of(request, path, &format);
    if (status) return status;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    bool written = out && request->writers[format](results, out);
    if (out && fclose(out) != 0) written = false;
    status = written ? t2t_output_write(path, text, bytes) : t2t_fail_memory("the report", 1 << 16);
    free(text);
    return status;
}

void t2t_add_failure(struct t2t_failures *failures, enum t2t_status next)
{
    if (next && failures->status) t2t_error("%s", t2t_last_error());
    if (!next || failures->status) return;
    failures->status = next;
    snprintf(failures->sentence, sizeof failures->sentence, "%s", t2t_last_error());
}

enum t2t_status t2t_first_failure(const struct t2t_failures *failures)
{
    return failures->status ? t2t_fail(failures->status, "%s", failures->sentence) : T2T_OK;
}

enum t2t_status t2t_report_write(const struct report_request *request, const void *results)
{
    struct t2t_failures failures = {.status = T2T_OK};
    bool to_stdout = false;
    for (size_t i = 0; i < request->outputs.count; i++) {
        const char *path = request->outputs.text[i];
        to_stdout = to_stdout || strcmp(path, "-") == 0;
        t2t_add_failure(&failures, write_one(request, path, results));
    }
    if (!to_stdout) t2t_add_failure(&failures, write_one(request, "-", results));
    return t2t_first_failure(&failures);
}
