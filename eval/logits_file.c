/* Logits as tensors, names as metadata. */
#include "eval/logits_file.h"

#include <stdio.h>
#include <stdlib.h>

#include "eval/interrupt.h"
#include "eval/text_formats.h"
#include "weights/safetensors.h"

enum { TENSOR_NAME_BYTES = 96 };

static char *list_of_names(const char *const *names, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(list, t2t_json_text(names[i]));
    char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
    json_decref(list);
    return text;
}

enum t2t_status t2t_logits_write(const char *path, const struct logits_of_run *runs, size_t run_count, size_t pictures,
    size_t classes, const char *const *names, bool partial)
{
    struct t2t_tensor *tensors = calloc(run_count, sizeof *tensors);
    char(*tensor_name)[TENSOR_NAME_BYTES] = calloc(run_count, sizeof *tensor_name);
    char *files = list_of_names(names, pictures);
    enum t2t_status status = T2T_OK;
    if (!tensors || !tensor_name || !files) status = t2t_fail_memory("a list of pictures", pictures);
    for (size_t i = 0; i < run_count && !status; i++) {
        snprintf(tensor_name[i], sizeof tensor_name[i], run_count == 1 ? "logits" : "logits.%s", runs[i].name);
        tensors[i] = (struct t2t_tensor){.name = tensor_name[i],
            .dtype = T2T_F32,
            .rank = 2,
            .shape = {pictures, classes},
            .elements = pictures * classes,
            .data = runs[i].logits};
    }
    const struct t2t_metadata metadata[] = {{"files", files}, {"partial", "true"}};
    t2t_interrupt_defer();
    if (!status) status = t2t_tensors_write(path, tensors, run_count, metadata, partial ? 2 : 1);
    t2t_interrupt_resume();
    free(tensors);
    free(tensor_name);
    free(files);
    return status;
}
