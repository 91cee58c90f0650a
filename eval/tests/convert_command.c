/* t2tvit-convert as a user runs it: options, exit codes, what lies on the disk afterwards. The first argument is the
 * program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/tests/run_tool.h"
#include "weights/safetensors.h"
#include "weights/tests/torch_writer.h"

#define GOLDEN "../weights/tests/golden/checkpoints/"
#define TINY GOLDEN "transformer_zip.pth.tar"

static void expect_metadata(const char *key, const char *value)
{
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, run_out)) fail_msg("%s", t2t_last_error());
    const char *found = t2t_tensors_metadata(file, key);
    if (!found || strcmp(found, value) != 0) fail_msg("metadata %s is %s, expected %s", key, found, value);
    t2t_tensors_close(file);
}

/* ---- conversions ---- */

static void golden_forms(void **state)
{
    (void)state;
    static const char *const transformers[] = {"transformer_zip.pth.tar", "transformer_legacy.pth.tar",
        "transformer_dataparallel_legacy.pth.tar", "transformer_shared_storage.pth", "transformer_training_ema.pth.tar",
        "transformer_expected.safetensors"};
    for (size_t i = 0; i < sizeof transformers / sizeof *transformers; i++) {
        char file[128];
        snprintf(file, sizeof file, GOLDEN "%s", transformers[i]);
        EXPECT(0, "custom: transformer, 224 px, 10 classes", "--force", "--num-heads", "3", file, run_out);
        EXPECT(0, "equal: 52 tensors compared, largest difference 0", "--verify", run_out,
            GOLDEN "transformer_expected.safetensors");
    }
    EXPECT(0, "performer", "--force", "--num-heads=3", GOLDEN "performer_zip.pth", run_out);
    EXPECT(0, "equal: 56 tensors", "--verify", run_out, GOLDEN "performer_expected.safetensors");
    expect_metadata("tokens_type", "performer");
    expect_metadata("num_heads", "3");
    expect_metadata("model", "custom");
    expect_metadata("source", "performer_zip.pth");
    unlink(run_out);
}

static void types(void **state)
{
    (void)state;
    EXPECT(0, "52 BF16", "--num-heads", "3", "--dtype", "bf16", TINY, run_out);
    EXPECT(0, "equal", "--verify", run_out, GOLDEN "transformer_bfloat16.pth");
    EXPECT(0, "52 F16", "--num-heads", "3", "--dtype", "f16", "-f", TINY, run_out);
    EXPECT(0, "equal", "--verify", run_out, GOLDEN "transformer_half.pth");
    EXPECT(1, "not equal", "--verify", run_out, TINY);
    EXPECT(0, "equal", "--verify", "--tolerance", "1e-2", run_out, TINY);
    EXPECT(0, "52 F16", "--num-heads", "3", "-f", GOLDEN "transformer_half.pth", run_out); /* kept */
    EXPECT(0, "52 F32", "--num-heads", "3", "--dtype", "f32", "-f", GOLDEN "transformer_half.pth", run_out);
    EXPECT(0, "equal", "--verify", run_out, GOLDEN "transformer_half.pth");
    EXPECT(0, "custom", "--dtype", "f16", "-n", run_out); /* heads from its metadata */
    unlink(run_out);
}

static void keys(void **state)
{
    (void)state;
    static const char file[] = GOLDEN "transformer_training_ema.pth.tar";
    EXPECT(0, "state_dict_ema (the file also holds state_dict", "--num-heads", "3", "-n", file);
    EXPECT(
        0, "state_dict (the file also holds state_dict_ema", "--num-heads", "3", "-n", "--weights-key", "model", file);
    EXPECT(0, "\"module.\" taken off", "--num-heads", "3", "-n", "--weights-key", "model", file);
    EXPECT(4, "holds no state_dict_ema", "--num-heads", "3", "-n", "--weights-key", "ema", TINY);
    EXPECT(0, "nan+inf", "--list", file);
    EXPECT(0, "tokens_to_token.attention1.attn.qkv.weight   F32   [192, 147]", "--list", file);
}

static void metadata_and_positions(void **state)
{
    (void)state;
    EXPECT(0, "resized from 224 to 384 px", "--num-heads", "3", "--resize-pos-embed", "384", "--metadata",
        "crop_pct=1.0", "--metadata", "note=a=b", TINY, run_out);
    expect_metadata("image_size", "384");
    expect_metadata("crop_pct", "1.0");
    expect_metadata("note", "a=b");
    EXPECT(0, "384 px", "-n", run_out);
    EXPECT(0, "224 px", "--resize-pos-embed", "224", "-f", "-n", run_out, run_in);
    EXPECT(2, "multiple of 16", "--resize-pos-embed", "100", TINY, run_out);
    EXPECT(2, "KEY=VALUE", "--metadata", "novalue", "-f", TINY, run_out);
    EXPECT(2, "without control characters", "--metadata", "note=\x1b[2J", "-f", TINY, run_out);
    EXPECT(2, "cannot be given", "--metadata", "num_heads=4", "-f", TINY, run_out);
    unlink(run_out);
}

static void models(void **state)
{
    (void)state;
    EXPECT(4, "give --num-heads N, a divisor of 48", "-n", TINY);
    EXPECT(4, "give --num-heads N, a divisor of 48", "--num-heads", "5", "-n", TINY);
    EXPECT(4, "are not those of t2t_vit_t_14", "--model", "t2t_vit_t_14", "-n", TINY);
    EXPECT(2, "did you mean t2t_vit_t_14?", "--model", "t2t_vit_t14", "-n", TINY);
    EXPECT(2, "has 6 heads", "--model", "t2t_vit_14", "--num-heads", "3", "-n", TINY);
    EXPECT(0, "custom", "--model", "custom", "--num-heads", "6", "-n", TINY);
    EXPECT(4, "has 10 classes, not the 1000", "--num-classes", "1000", "--num-heads", "3", "-n", TINY);
    EXPECT(0, "10 classes", "--num-classes", "10", "--num-heads", "3", "-n", TINY);
}

/* The tiny network's tensors and more, or other values. */
static void save_changed(void (*change)(struct t2t_tensor *tensors, size_t *count))
{
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, GOLDEN "transformer_expected.safetensors")) fail_msg("%s", t2t_last_error());
    struct t2t_tensor tensors[64];
    size_t count = t2t_tensors_count(file);
    assert_true(count < 60);
    for (size_t i = 0; i < count; i++) tensors[i] = *t2t_tensors_at(file, i);
    change(tensors, &count);
    struct bytes bytes = {0};
    torch_zip(&bytes, tensors, count, (struct torch_form){0});
    bytes_save(&bytes, run_in);
    bytes_free(&bytes);
    t2t_tensors_close(file);
}

static float other_values[48];

static struct t2t_tensor *named(struct t2t_tensor *tensors, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(tensors[i].name, name) == 0) return &tensors[i];
    fail_msg("no %s", name);
    return NULL;
}

static void add_auxiliary_head(struct t2t_tensor *tensors, size_t *count)
{
    tensors[(*count)++] =
        (struct t2t_tensor){.name = "aux_head.weight", .rank = 1, .shape = {48}, .elements = 48, .data = other_values};
}
static void replace_norm(struct t2t_tensor *tensors, size_t *count)
{
    named(tensors, *count, "norm.weight")->data = other_values;
}
static void remove_norm(struct t2t_tensor *tensors, size_t *count)
{
    *named(tensors, *count, "norm.weight") = tensors[*count - 1];
    --*count;
}
static void reshape_norm(struct t2t_tensor *tensors, size_t *count)
{
    struct t2t_tensor *norm = named(tensors, *count, "norm.weight");
    norm->rank = 2;
    norm->shape[0] = 6;
    norm->shape[1] = 8;
}
static void integer_norm(struct t2t_tensor *tensors, size_t *count)
{
    named(tensors, *count, "norm.weight")->dtype = T2T_I32;
}
static void remove_positions(struct t2t_tensor *tensors, size_t *count)
{
    *named(tensors, *count, "pos_embed") = tensors[*count - 1];
    --*count;
}

static void odd_weights(void **state)
{
    (void)state;
    save_changed(add_auxiliary_head);
    EXPECT(4, "1 tensors are no part of a custom: aux_head.weight; --allow-unknown leaves them out", "--num-heads", "3",
        run_in, run_out);
    EXPECT(0, "left out   1 tensors that are no part of it: aux_head.weight", "--num-heads", "3", "--allow-unknown",
        run_in, run_out);
    EXPECT(0, "equal: 52 tensors", "--verify", run_out, TINY);
    unlink(run_out);

    memcpy(&other_values[7], &(const uint32_t){0x7fc00000}, 4);
    save_changed(replace_norm);
    EXPECT(4, "norm.weight holds NaN or infinity at element 7", "--num-heads", "3", run_in, run_out);
    EXPECT(0, "wrote", "--num-heads", "3", "--allow-nonfinite", run_in, run_out);
    EXPECT(0, "equal: 52 tensors", "--verify", run_out, run_in); /* NaN where NaN was */
    unlink(run_out);
    other_values[7] = 70000;
    save_changed(replace_norm);
    EXPECT(4, "norm.weight holds 70000 at element 7, which F16 cannot hold", "--num-heads", "3", "--dtype", "f16",
        run_in, run_out);
    save_changed(remove_norm);
    EXPECT(4, "norm.weight is missing", "--num-heads", "3", run_in, run_out);
    save_changed(reshape_norm);
    EXPECT(4, "norm.weight is [6, 8]", "--num-heads", "3", run_in, run_out);
    save_changed(integer_norm);
    EXPECT(4, "norm.weight holds I32 values", "--num-heads", "3", run_in, run_out);
    save_changed(remove_positions);
    EXPECT(4, "pos_embed is missing", "--num-heads", "3", run_in, run_out);
    unlink(run_in);
    assert_int_equal(run_files_in_folder(), 0);
}

/* mmpretrain's names, and those of a network within a module, for the tiny network's. */
static char other_names[64][96];

static void replace_text(char *name, const char *from, const char *to)
{
    char *at = strstr(name, from), rest[96];
    if (!at) return;
    snprintf(rest, sizeof rest, "%s", at + strlen(from));
    snprintf(at, sizeof rest - (size_t)(at - name), "%s%s", to, rest);
}

static void name_as(struct t2t_tensor *tensors, size_t count, const char *prefix, const char *const rows[][2])
{
    for (size_t i = 0; i < count; i++) {
        const bool head = strncmp(tensors[i].name, "head.", 5) == 0;
        snprintf(other_names[i], sizeof *other_names, "%s%s", head ? "" : prefix, tensors[i].name);
        for (size_t j = 0; rows[j][0]; j++) replace_text(other_names[i], rows[j][0], rows[j][1]);
        tensors[i].name = other_names[i];
    }
}

static void name_as_mmpretrain(struct t2t_tensor *tensors, size_t *count)
{
    static const char *const rows[][2] = {{".blocks.", ".encoder."}, {".norm1.", ".ln1."}, {".norm2.", ".ln2."},
        {".mlp.fc1.", ".ffn.layers.0.0."}, {".mlp.fc2.", ".ffn.layers.1."}, {"head.", "head.layers.head."},
        {NULL, NULL}};
    name_as(tensors, *count, "backbone.", rows);
}
static void name_as_part(struct t2t_tensor *tensors, size_t *count)
{
    static const char *const rows[][2] = {{"head.", "classifier."}, {NULL, NULL}};
    name_as(tensors, *count, "student.model.", rows);
}
static void name_two_alike(struct t2t_tensor *tensors, size_t *count)
{
    static const char *const rows[][2] = {{".blocks.0.norm1.weight", ".blocks.0.ln1.weight"},
        {".blocks.0.norm2.weight", ".encoder.0.ln1.weight"}, {NULL, NULL}};
    name_as(tensors, *count, "backbone.", rows);
}

static void names_of_other_code_bases(void **state)
{
    (void)state;
    void (*const namings[])(struct t2t_tensor *, size_t *) = {name_as_mmpretrain, name_as_part};
    for (size_t i = 0; i < 2; i++) {
        save_changed(namings[i]);
        EXPECT(0, "names      rewritten to those of the official code", "--num-heads", "3", run_in, run_out);
        EXPECT(0, "equal: 52 tensors", "--verify", run_out, TINY);
        EXPECT(0, "equal: 52 tensors", "--verify", run_in, TINY);
        unlink(run_out);
    }
    save_changed(name_two_alike);
    EXPECT(4, "two tensors are called blocks.0.norm1.weight", "--num-heads", "3", run_in, run_out);
    unlink(run_in);
    assert_int_equal(run_files_in_folder(), 0);
}

/* ---- where to ---- */

static void targets(void **state)
{
    (void)state;
    EXPECT(0, "wrote", "--num-heads", "3", TINY, run_out);
    EXPECT(6, "exists already; --force replaces it", "--num-heads", "3", TINY, run_out);
    EXPECT(6, "is the input", "--force", run_out, run_out);
    EXPECT(6, "is a folder or device", "--num-heads", "3", TINY, run_folder);
    EXPECT(6, "is a folder or device", "--num-heads", "3", "-f", TINY, "/dev/full");
    EXPECT(6, "/t2tvit/none/out", "--num-heads", "3", TINY, "/t2tvit/none/out");
    EXPECT(4, "none.pth: cannot be opened", "--num-heads", "3", "-f", "none.pth", run_out);
    EXPECT(4, "is a folder", "--num-heads", "3", "-f", run_folder, run_out);
    EXPECT(0, "equal: 52", "--verify", run_out, TINY); /* as it was */
    unlink(run_out);
    assert_int_equal(run_files_in_folder(), 0);
}

static void installs(void **state)
{
    (void)state;
    char installed[128], inner[96];
    snprintf(inner, sizeof inner, "%s/t2tvit", run_folder);
    snprintf(installed, sizeof installed, "%s/default.safetensors", inner);
    EXPECT(4, "give --num-heads", "--install", TINY);
    assert_int_equal(run_files_in_folder(), 0); /* no folder either */
    EXPECT(0, installed, "--install", "--num-heads", "3", TINY);
    EXPECT(0, "equal: 52", "--verify", installed, TINY);
    EXPECT(6, "exists already", "--install", "--num-heads", "3", TINY);
    EXPECT(0, installed, "--install", "--num-heads", "3", "-f", TINY);
    unlink(installed);
    rmdir(inner);
    assert_int_equal(run_files_in_folder(), 0);
}

static void usage(void **state)
{
    (void)state;
    EXPECT(0, "usage: t2tvit-convert", "--help");
    EXPECT(0, "t2tvit-convert ", "--version");
    EXPECT(2, "no such option", "--instal-l", TINY);
    EXPECT(2, "expected IN and OUT.safetensors, found 1", TINY);
    EXPECT(2, "expected IN and OUT.safetensors, found 3", TINY, run_out, run_out);
    EXPECT(2, "expected IN with --install, found 2", "--install", TINY, run_out);
    EXPECT(2, "exclude each other", "--install", "--list", TINY);
    EXPECT(2, "--list expects one file", "--list", TINY, TINY);
    EXPECT(2, "--verify expects two files", "--verify", TINY);
    EXPECT(4, "none: cannot be opened", "--verify", TINY, "none");
    EXPECT(1, "only in", "--verify", TINY, GOLDEN "performer_zip.pth");
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    run_tool_begin(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_forms),
        cmocka_unit_test(types),
        cmocka_unit_test(keys),
        cmocka_unit_test(metadata_and_positions),
        cmocka_unit_test(models),
        cmocka_unit_test(odd_weights),
        cmocka_unit_test(names_of_other_code_bases),
        cmocka_unit_test(targets),
        cmocka_unit_test(installs),
        cmocka_unit_test(usage),
    };
    return cmocka_run_group_tests(tests, run_make_folder, run_remove_folder);
}
