/* t2tvit-convert as a user runs it: options, exit codes, what lies on the disk afterwards, and what a refusal costs. The
 * first argument is the program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/tests/command.h"
#include "weights/safetensors.h"
#include "weights/tests/hostile.h"

#define GOLDEN "../weights/tests/golden/checkpoints/"
#define TINY GOLDEN "transformer_zip.pth.tar"

static const char *program;
static char folder[] = "/tmp/t2tvit_command_XXXXXX";
static char out_file[64], in_file[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(out_file, sizeof out_file, "%s/out.safetensors", folder);
    snprintf(in_file, sizeof in_file, "%s/in.pth", folder);
    return setenv("XDG_DATA_HOME", folder, 1);
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(out_file);
    unlink(in_file);
    return rmdir(folder);
}

static size_t files_in_folder(void)
{
    return files_in(folder);
}

static void expect_metadata(const char *key, const char *value)
{
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, out_file)) fail_msg("%s", t2t_last_error());
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
        EXPECT(0, "custom: transformer, 224 px, 10 classes", "--force", "--num-heads", "3", file, out_file);
        EXPECT(0, "equal: 52 tensors compared, largest difference 0", "--verify", out_file,
            GOLDEN "transformer_expected.safetensors");
    }
    EXPECT(0, "performer", "--force", "--num-heads=3", GOLDEN "performer_zip.pth", out_file);
    EXPECT(0, "equal: 56 tensors", "--verify", out_file, GOLDEN "performer_expected.safetensors");
    expect_metadata("tokens_type", "performer");
    expect_metadata("num_heads", "3");
    expect_metadata("model", "custom");
    expect_metadata("source", "performer_zip.pth");
    unlink(out_file);
}

static void types(void **state)
{
    (void)state;
    EXPECT(0, "52 BF16", "--num-heads", "3", "--dtype", "bf16", TINY, out_file);
    EXPECT(0, "equal", "--verify", out_file, GOLDEN "transformer_bfloat16.pth");
    EXPECT(0, "52 F16", "--num-heads", "3", "--dtype", "f16", "-f", TINY, out_file);
    EXPECT(0, "equal", "--verify", out_file, GOLDEN "transformer_half.pth");
    EXPECT(1, "not equal", "--verify", out_file, TINY);
    EXPECT(0, "equal", "--verify", "--tolerance", "1e-2", out_file, TINY);
    EXPECT(0, "52 F16", "--num-heads", "3", "-f", GOLDEN "transformer_half.pth", out_file); /* kept */
    EXPECT(0, "52 F32", "--num-heads", "3", "--dtype", "f32", "-f", GOLDEN "transformer_half.pth", out_file);
    EXPECT(0, "equal", "--verify", out_file, GOLDEN "transformer_half.pth");
    EXPECT(0, "custom", "--dtype", "f16", "-n", out_file); /* heads from its metadata */
    unlink(out_file);
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
        "crop_pct=1.0", "--metadata", "note=a=b", TINY, out_file);
    expect_metadata("image_size", "384");
    expect_metadata("crop_pct", "1.0");
    expect_metadata("note", "a=b");
    EXPECT(0, "384 px", "-n", out_file);
    EXPECT(0, "224 px", "--resize-pos-embed", "224", "-f", "-n", out_file, in_file);
    EXPECT(2, "multiple of 16", "--resize-pos-embed", "100", TINY, out_file);
    EXPECT(2, "KEY=VALUE", "--metadata", "novalue", "-f", TINY, out_file);
    EXPECT(2, "cannot be given", "--metadata", "num_heads=4", "-f", TINY, out_file);
    unlink(out_file);
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
    bytes_save(&bytes, in_file);
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
        in_file, out_file);
    EXPECT(0, "left out   1 tensors that are no part of it: aux_head.weight", "--num-heads", "3", "--allow-unknown",
        in_file, out_file);
    EXPECT(0, "equal: 52 tensors", "--verify", out_file, TINY);
    unlink(out_file);

    memcpy(&other_values[7], &(const uint32_t){0x7fc00000}, 4);
    save_changed(replace_norm);
    EXPECT(4, "norm.weight holds NaN or infinity at element 7", "--num-heads", "3", in_file, out_file);
    EXPECT(0, "wrote", "--num-heads", "3", "--allow-nonfinite", in_file, out_file);
    EXPECT(0, "equal: 52 tensors", "--verify", out_file, in_file); /* NaN where NaN was */
    unlink(out_file);
    other_values[7] = 70000;
    save_changed(replace_norm);
    EXPECT(4, "norm.weight holds 70000 at element 7, which F16 cannot hold", "--num-heads", "3", "--dtype", "f16",
        in_file, out_file);
    save_changed(remove_norm);
    EXPECT(4, "norm.weight is missing", "--num-heads", "3", in_file, out_file);
    save_changed(reshape_norm);
    EXPECT(4, "norm.weight is [6, 8]", "--num-heads", "3", in_file, out_file);
    save_changed(integer_norm);
    EXPECT(4, "norm.weight holds I32 values", "--num-heads", "3", in_file, out_file);
    save_changed(remove_positions);
    EXPECT(4, "pos_embed is missing", "--num-heads", "3", in_file, out_file);
    unlink(in_file);
    assert_int_equal(files_in_folder(), 0);
}

/* ---- where to ---- */

static void targets(void **state)
{
    (void)state;
    EXPECT(0, "wrote", "--num-heads", "3", TINY, out_file);
    EXPECT(6, "exists already; --force replaces it", "--num-heads", "3", TINY, out_file);
    EXPECT(6, "is the input", "--force", out_file, out_file);
    EXPECT(6, "is a folder or device", "--num-heads", "3", TINY, folder);
    EXPECT(6, "is a folder or device", "--num-heads", "3", "-f", TINY, "/dev/full");
    EXPECT(6, "/t2tvit/none/out", "--num-heads", "3", TINY, "/t2tvit/none/out");
    EXPECT(4, "none.pth: cannot be opened", "--num-heads", "3", "-f", "none.pth", out_file);
    EXPECT(4, "is a folder", "--num-heads", "3", "-f", folder, out_file);
    EXPECT(0, "equal: 52", "--verify", out_file, TINY); /* as it was */
    unlink(out_file);
    assert_int_equal(files_in_folder(), 0);
}

static void installs(void **state)
{
    (void)state;
    char installed[128], inner[96];
    snprintf(inner, sizeof inner, "%s/t2tvit", folder);
    snprintf(installed, sizeof installed, "%s/default.safetensors", inner);
    EXPECT(4, "give --num-heads", "--install", TINY);
    assert_int_equal(files_in_folder(), 0); /* no folder either */
    EXPECT(0, installed, "--install", "--num-heads", "3", TINY);
    EXPECT(0, "equal: 52", "--verify", installed, TINY);
    EXPECT(6, "exists already", "--install", "--num-heads", "3", TINY);
    EXPECT(0, installed, "--install", "--num-heads", "3", "-f", TINY);
    unlink(installed);
    rmdir(inner);
    assert_int_equal(files_in_folder(), 0);
}

static void usage(void **state)
{
    (void)state;
    EXPECT(0, "usage: t2tvit-convert", "--help");
    EXPECT(0, "t2tvit-convert ", "--version");
    EXPECT(2, "no such option", "--instal-l", TINY);
    EXPECT(2, "expected IN and OUT.safetensors, found 1", TINY);
    EXPECT(2, "expected IN and OUT.safetensors, found 3", TINY, out_file, out_file);
    EXPECT(2, "expected IN with --install, found 2", "--install", TINY, out_file);
    EXPECT(2, "exclude each other", "--install", "--list", TINY);
    EXPECT(2, "--list expects one file", "--list", TINY, TINY);
    EXPECT(2, "--verify expects two files", "--verify", TINY);
    EXPECT(4, "none: cannot be opened", "--verify", TINY, "none");
    EXPECT(1, "only in", "--verify", TINY, GOLDEN "performer_zip.pth");
}

/* ---- refusals ---- */

static void hostile_files(void **state)
{
    (void)state;
    struct hostile hostile;
    double slowest = 0;
    size_t largest = 0, count = 0;
    for (; hostile_case(count, &hostile); count++) {
        bytes_save(&hostile.file, in_file);
        bytes_free(&hostile.file);
        const struct result result = RUN("--num-heads", "3", in_file, out_file);
        slowest = result.seconds > slowest ? result.seconds : slowest;
        largest = result.most_bytes > largest ? result.most_bytes : largest;
        if (result.code != 4 || !strstr(result.text, in_file))
            fail_msg("%s: exit code %d: %s", hostile.name, result.code, result.text);
        unlink(in_file);
        if (files_in_folder() != 0) fail_msg("%s: left a file", hostile.name);
    }
    print_message(
        "%zu refused, the slowest after %.2f s, the largest with %.1f MB\n", count, slowest, (double)largest / 1e6);
    assert_true(count >= 150);
#ifndef T2T_SANITIZED
    assert_true(slowest < 1);
    assert_true(largest < 64000000);
#endif
}

/* The program has no means to run anything: none of these is among the symbols it could call. */
static void calls_nothing_that_runs_code(void **state)
{
    (void)state;
    static const char *const never[] = {"system", "popen", "execl", "execle", "execlp", "execv", "execve", "execvp",
        "execvpe", "fexecve", "posix_spawn", "posix_spawnp", "dlopen", "dlmopen", "fork", "vfork"};
    FILE *file = fopen(program, "rb");
    assert_non_null(file);
    struct bytes all = {0};
    char block[65536];
    for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;) bytes_add(&all, block, got);
    fclose(file);
    assert_non_null(memmem(all.data, all.size, "\0fsync\0", 7)); /* names do stand there between zeros */
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        char name[32] = {0};
        const size_t bytes = strlen(never[i]) + 2;
        memcpy(name + 1, never[i], strlen(never[i]));
        if (memmem(all.data, all.size, name, bytes)) fail_msg("the program refers to %s", never[i]);
    }
    bytes_free(&all);
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    program = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_forms),
        cmocka_unit_test(types),
        cmocka_unit_test(keys),
        cmocka_unit_test(metadata_and_positions),
        cmocka_unit_test(models),
        cmocka_unit_test(odd_weights),
        cmocka_unit_test(targets),
        cmocka_unit_test(installs),
        cmocka_unit_test(usage),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(calls_nothing_that_runs_code),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
