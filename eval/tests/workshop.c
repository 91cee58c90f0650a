/* Folder, network and pictures for tests of the programs; see workshop.h. */
#include "eval/tests/workshop.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/demo_pictures.h"
#include "vit/tests/synthetic.h"
#include "weights/safetensors.h"

enum { MOST_TENSORS = 96, MOST_METADATA = 24, PATHS = 16 };

struct workshop shop;
static char programs[3][1024];

void workshop_find(const char *folder)
{
    static const char *const names[3] = {"eval", "classify", "draw"};
    for (size_t i = 0; i < 3; i++) snprintf(programs[i], sizeof programs[i], "%s/t2tvit-%s", folder, names[i]);
    shop.eval = programs[0];
    shop.classify = programs[1];
    shop.draw = programs[2];
}

const char *in_shop(const char *name)
{
    static char paths[PATHS][512];
    static size_t next;
    char *path = paths[next++ % PATHS];
    snprintf(path, sizeof paths[0], "%s/%s", shop.folder, name);
    return path;
}

/* Nothing of the user's own settings reaches the programs. */
static void set_environment(void)
{
    static const char *const unset[] = {"T2TVIT_WEIGHTS", "T2TVIT_CPU", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"};
    for (size_t i = 0; i < sizeof unset / sizeof *unset; i++) unsetenv(unset[i]);
    setenv("XDG_DATA_HOME", in_shop("no data"), 1);
    setenv("LC_ALL", "C", 1);
    setenv("OMP_WAIT_POLICY", "passive", 1); /* tests run beside each other: threads that wait should not spin */
    setenv("D", shop.folder, 1);
    setenv("W", shop.weights, 1);
    setenv("P", shop.pictures, 1);
    setenv("EVAL", shop.eval, 1);
    setenv("CLASSIFY", shop.classify, 1);
    setenv("DRAW", shop.draw, 1);
}

int workshop_open(void **state)
{
    (void)state;
    strcpy(shop.folder, "/tmp/t2tvit_shop_XXXXXX");
    if (!mkdtemp(shop.folder)) return -1;
    snprintf(shop.weights, sizeof shop.weights, "%s/network.safetensors", shop.folder);
    snprintf(shop.pictures, sizeof shop.pictures, "%s/pictures", shop.folder);
    set_environment();
    make_network("network.safetensors", T2T_TOKENS_TRANSFORMER, SHOP_SIZE, NULL);
    char count[8];
    snprintf(count, sizeof count, "%d", SHOP_PICTURES);
    const struct result result =
        command_run(shop.draw, (const char *const[]){"--out", shop.pictures, "--count", count, "--seed", "5", NULL});
    if (result.code) fprintf(stderr, "%s", result.text);
    return result.code;
}

int workshop_close(void **state)
{
    (void)state;
    return remove_all(shop.folder);
}

/* ---- networks ---- */

static char *class_names(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < SHOP_CLASSES; i++) json_array_append_new(list, json_string(t2t_demo_class_names[i]));
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return text;
}

/* A copy of a tensor's values times a factor; never freed before the test ends. */
static const float *scaled(const struct t2t_tensor *tensor, float factor)
{
    float *values = malloc(tensor->elements * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < tensor->elements; i++) values[i] = ((const float *)tensor->data)[i] * factor;
    return values;
}

static void write_changed(const char *path, struct t2t_tensors *file, const struct network_change *change)
{
    struct t2t_tensor tensors[MOST_TENSORS];
    struct t2t_metadata metadata[MOST_METADATA];
    size_t count = 0, entries = 0;
    const float *values = NULL;
    bool found = !change->tensor;
    for (; count < t2t_tensors_count(file); count++) {
        assert_true(count < MOST_TENSORS);
        tensors[count] = *t2t_tensors_at(file, count);
        if (!change->tensor || strcmp(tensors[count].name, change->tensor) != 0) continue;
        tensors[count].data = values = scaled(&tensors[count], change->factor);
        found = true;
    }
    assert_true(found);
    for (size_t i = 0; t2t_tensors_metadata_key(file, i); i++) {
        const char *key = t2t_tensors_metadata_key(file, i);
        if (change->key && strcmp(key, change->key) == 0) continue;
        metadata[entries++] = (struct t2t_metadata){key, t2t_tensors_metadata(file, key)};
    }
    if (change->value) metadata[entries++] = (struct t2t_metadata){change->key, change->value};
    if (t2t_tensors_write(path, tensors, count, metadata, entries)) fail_msg("%s", t2t_last_error());
    free((void *)(uintptr_t)values);
}

static void change_network(const char *path, const struct network_change *change)
{
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, path)) fail_msg("%s", t2t_last_error());
    write_changed(path, file, change); /* what is mapped stays as it was */
    t2t_tensors_close(file);
}

const char *make_network(
    const char *name, enum t2t_tokens_type type, size_t image_size, const struct network_change *change_or_null)
{
    const struct t2t_config config = {.name = "custom",
        .tokens_type = type,
        .image_size = image_size,
        .num_classes = SHOP_CLASSES,
        .embed_dim = 32,
        .depth = 3,
        .num_heads = 2,
        .mlp_ratio = 2,
        .token_dim = 16};
    const char *path = in_shop(name);
    if (synthetic_weights_write(path, &config, 3)) fail_msg("%s", t2t_last_error());
    char *names = class_names();
    change_network(path, &(struct network_change){.key = "class_names", .value = names});
    free(names);
    if (change_or_null) change_network(path, change_or_null);
    return path;
}

/* ---- sentences ---- */

void expect_one_sentence(const struct result *result, int code, const char *word)
{
    command_expect(result, code, word);
    const char *end = strchr(result->error, '\n');
    const char *rest = end ? end + 1 : "";
    const char *help = strstr(rest, " --help lists the options\n"); /* the second line of usage errors */
    if (code == 2 && help && strchr(rest, '\n') == help + strlen(" --help lists the options"))
        rest = strchr(rest, '\n') + 1;
    if (!end || *rest || *result->out || strncmp(result->error, "t2tvit-", 7) != 0)
        fail_msg("expected one sentence on standard error and nothing else:\n%s", result->text);
}
