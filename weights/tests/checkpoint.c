/* Checkpoints: the tensors of every form are found bit for bit, the right dictionary is chosen, and everything hostile
 * is refused in words. The files of golden/checkpoints were written by PyTorch 2.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "layers/base/half.h"
#include "weights/checkpoint.h"
#include "weights/tests/hostile.h"

#define GOLDEN "tests/golden/checkpoints/"

#ifdef T2T_SANITIZED /* sanitizers are slow */
static const double most_seconds = 20;
#else
static const double most_seconds = 1;
#endif

static char path[] = "/tmp/t2tvit_checkpoint_XXXXXX";

static int make_file(void **state)
{
    (void)state;
    const int descriptor = mkstemp(path);
    return descriptor < 0 ? -1 : close(descriptor);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static struct t2t_checkpoint *loaded(const char *file, struct t2t_checkpoint_options options)
{
    struct t2t_checkpoint *checkpoint;
    if (t2t_checkpoint_open(&checkpoint, file, &options)) fail_msg("%s", t2t_last_error());
    if (t2t_checkpoint_load(checkpoint, NULL)) fail_msg("%s", t2t_last_error());
    return checkpoint;
}

/* ---- files of PyTorch ---- */

static void compare_tensor(const struct t2t_tensor *read, const struct t2t_tensor *expected, bool zero)
{
    assert_int_equal(read->rank, expected->rank);
    assert_memory_equal(read->shape, expected->shape, expected->rank * sizeof *expected->shape);
    const float *value = expected->data;
    for (size_t i = 0; i < expected->elements; i++) {
        const float wanted = zero ? value[i] * 0 : value[i]; /* times 0 as the writer did: -0 stays -0 */
        uint16_t half = read->dtype == T2T_F16 ? t2t_float_to_half(wanted) : t2t_float_to_bfloat16(wanted);
        const void *bits = read->dtype == T2T_F32 ? (const void *)&wanted : &half;
        const size_t bytes = t2t_dtype_bytes(read->dtype);
        if (memcmp((const char *)read->data + i * bytes, bits, bytes) != 0)
            fail_msg("%s: element %zu differs", read->name, i);
    }
}

static void golden_forms(void **state)
{
    (void)state;
    static const struct {
        const char *file, *expected;
        enum t2t_dtype dtype;
        enum t2t_weights_key choice;
        const char *format, *key, *beside, *stripped, *arch;
        bool zero;
    } forms[] = {
        {"transformer_zip.pth.tar", "transformer", T2T_F32, T2T_KEY_AUTO, "PyTorch zip archive", "", "", "", "", false},
        {"performer_zip.pth", "performer", T2T_F32, T2T_KEY_AUTO, "PyTorch zip archive", "", "", "", "", false},
        {"transformer_legacy.pth.tar", "transformer", T2T_F32, T2T_KEY_MODEL, "PyTorch legacy pickle stream", "", "",
            "", "", false},
        {"transformer_half.pth", "transformer", T2T_F16, T2T_KEY_AUTO, "PyTorch zip archive", "", "", "", "", false},
        {"transformer_bfloat16.pth", "transformer", T2T_BF16, T2T_KEY_AUTO, "PyTorch zip archive", "", "", "", "",
            false},
        {"transformer_shared_storage.pth", "transformer", T2T_F32, T2T_KEY_AUTO, "PyTorch zip archive", "", "", "", "",
            false},
        {"transformer_dataparallel_legacy.pth.tar", "transformer", T2T_F32, T2T_KEY_AUTO,
            "PyTorch legacy pickle stream", "state_dict", "", "module.", "", false},
        {"transformer_training_ema.pth.tar", "transformer", T2T_F32, T2T_KEY_AUTO, "PyTorch zip archive",
            "state_dict_ema", "state_dict", "", "t2t_vit_t_14", false},
        {"transformer_training_ema.pth.tar", "transformer", T2T_F32, T2T_KEY_EMA, "PyTorch zip archive",
            "state_dict_ema", "state_dict", "", "t2t_vit_t_14", false},
        {"transformer_training_ema.pth.tar", "transformer", T2T_F32, T2T_KEY_MODEL, "PyTorch zip archive", "state_dict",
            "state_dict_ema", "module.", "t2t_vit_t_14", true},
        {"transformer_expected.safetensors", "transformer", T2T_F32, T2T_KEY_AUTO, "safetensors", "", "", "", "",
            false},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char file[128], expected_file[128];
        snprintf(file, sizeof file, GOLDEN "%s", forms[i].file);
        snprintf(expected_file, sizeof expected_file, GOLDEN "%s_expected.safetensors", forms[i].expected);
        struct t2t_checkpoint *checkpoint = loaded(file, (struct t2t_checkpoint_options){.key = forms[i].choice});
        const struct t2t_checkpoint_info *info = t2t_checkpoint_info(checkpoint);
        assert_string_equal(info->format, forms[i].format);
        assert_string_equal(info->key, forms[i].key);
        assert_string_equal(info->beside, forms[i].beside);
        assert_string_equal(info->stripped, forms[i].stripped);
        assert_string_equal(info->arch, forms[i].arch);
        struct t2t_tensors *expected;
        if (t2t_tensors_open(&expected, expected_file)) fail_msg("%s", t2t_last_error());
        assert_int_equal(t2t_checkpoint_count(checkpoint), t2t_tensors_count(expected));
        for (size_t j = 0; j < t2t_tensors_count(expected); j++) {
            const struct t2t_tensor *tensor = t2t_tensors_at(expected, j);
            const struct t2t_tensor *read = t2t_checkpoint_find(checkpoint, tensor->name);
            if (!read) fail_msg("%s: no %s", file, tensor->name);
            assert_int_equal(read->dtype, forms[i].dtype);
            compare_tensor(read, tensor, forms[i].zero);
        }
        t2t_tensors_close(expected);
        t2t_checkpoint_close(checkpoint);
    }
}

/* ---- files of the test's own writer ---- */

static void writer_round_trip_of_every_dtype(void **state)
{
    (void)state;
    unsigned char data[T2T_DTYPES][6 * 8];
    char names[T2T_DTYPES][8];
    struct t2t_tensor tensors[T2T_DTYPES + 2];
    for (size_t i = 0; i < T2T_DTYPES; i++) {
        memset(data[i], (int)(17 * i + 1), sizeof data[i]);
        snprintf(names[i], sizeof names[i], "t%zu", i);
        tensors[i] = (struct t2t_tensor){.name = names[i], .dtype = (enum t2t_dtype)i, .rank = 2, .shape = {2, 3}};
        tensors[i].elements = 6;
        tensors[i].data = data[i];
    }
    tensors[T2T_DTYPES] = (struct t2t_tensor){.name = "scalar", .elements = 1, .data = data[0]};
    tensors[T2T_DTYPES + 1] = (struct t2t_tensor){.name = "none", .rank = 2, .shape = {0, 5}, .data = data[0]};
    for (int legacy = 0; legacy < 2; legacy++) {
        struct bytes file = {0};
        (legacy ? torch_legacy : torch_zip)(&file, tensors, T2T_DTYPES + 2, (struct torch_form){.key = "model"});
        bytes_save(&file, path);
        bytes_free(&file);
        struct t2t_checkpoint *checkpoint = loaded(path, (struct t2t_checkpoint_options){0});
        assert_string_equal(t2t_checkpoint_info(checkpoint)->key, "model");
        assert_int_equal(t2t_checkpoint_count(checkpoint), T2T_DTYPES + 2);
        for (size_t i = 0; i < T2T_DTYPES + 2; i++) {
            const struct t2t_tensor *read = t2t_checkpoint_at(checkpoint, i);
            assert_string_equal(read->name, tensors[i].name);
            assert_int_equal(read->dtype, tensors[i].dtype);
            assert_int_equal(read->elements, tensors[i].elements);
            assert_memory_equal(read->data, tensors[i].data, read->elements * t2t_dtype_bytes(read->dtype));
        }
        t2t_checkpoint_close(checkpoint);
    }
}

/* Archives that were packed anew: deflated, sizes behind the data, a folder with a name of its own. */
static void archives_of_other_writers(void **state)
{
    (void)state;
    static float numbers[20000];
    for (size_t i = 0; i < 20000; i++) numbers[i] = (float)(i % 77);
    const struct t2t_tensor tensor = {.name = "w", .rank = 2, .shape = {200, 100}, .elements = 20000, .data = numbers};
    zip_writer *const writers[] = {zip_archive, zip_stored_stream, zip_deflated_stream};
    static const char *const tops[] = {"archive", "81.5 T2T ViT.pth", "mod\xc3\xa8le", ".."};
    for (size_t i = 0; i < 12; i++) {
        struct bytes file = {0};
        torch_zip_by(writers[i / 4], tops[i % 4], &file, &tensor, 1, (struct torch_form){0});
        bytes_save(&file, path);
        bytes_free(&file);
        struct t2t_checkpoint *checkpoint = loaded(path, (struct t2t_checkpoint_options){0});
        assert_memory_equal(t2t_checkpoint_at(checkpoint, 0)->data, numbers, sizeof numbers);
        t2t_checkpoint_close(checkpoint);
    }
}

static void strips_the_prefix_that_is_asked_for(void **state)
{
    (void)state;
    static const float numbers[2] = {1, 2};
    const struct t2t_tensor tensor = {.name = "net.w", .rank = 1, .shape = {2}, .elements = 2, .data = numbers};
    struct bytes file = {0};
    torch_zip(&file, &tensor, 1, (struct torch_form){.prefix = "module."});
    bytes_save(&file, path);
    bytes_free(&file);
    static const char *const cases[][2] = {{NULL, "net.w"}, {"module.net.", "w"}, {"", "module.net.w"},
        {"other.", "module.net.w"}, {"module.net.w", "module.net.w"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct t2t_checkpoint *checkpoint = loaded(path, (struct t2t_checkpoint_options){.strip_prefix = cases[i][0]});
        assert_string_equal(t2t_checkpoint_at(checkpoint, 0)->name, cases[i][1]);
        t2t_checkpoint_close(checkpoint);
    }
    struct t2t_checkpoint *checkpoint = NULL;
    const struct t2t_checkpoint_options ema = {.key = T2T_KEY_EMA};
    assert_int_equal(t2t_checkpoint_open(&checkpoint, path, &ema), T2T_BAD_MODEL);
    assert_null(checkpoint);
    assert_non_null(strstr(t2t_last_error(), "holds no state_dict_ema; found module.net.w"));
}

static void loads_what_is_wanted(void **state)
{
    (void)state;
    static const float numbers[2][2] = {{1, 2}, {3, 4}};
    const struct t2t_tensor tensors[2] = {{.name = "a", .rank = 1, .shape = {2}, .elements = 2, .data = numbers[0]},
        {.name = "b", .rank = 1, .shape = {2}, .elements = 2, .data = numbers[1]}};
    for (int legacy = 0; legacy < 2; legacy++) {
        struct bytes file = {0};
        (legacy ? torch_legacy : torch_zip)(&file, tensors, 2, (struct torch_form){0});
        bytes_save(&file, path);
        bytes_free(&file);
        struct t2t_checkpoint *checkpoint;
        const struct t2t_checkpoint_options options = {0};
        if (t2t_checkpoint_open(&checkpoint, path, &options)) fail_msg("%s", t2t_last_error());
        const bool wanted[2] = {false, true};
        assert_int_equal(t2t_checkpoint_load(checkpoint, wanted), T2T_OK);
        assert_null(t2t_checkpoint_at(checkpoint, 0)->data);
        assert_memory_equal(t2t_checkpoint_at(checkpoint, 1)->data, numbers[1], sizeof numbers[1]);
        t2t_checkpoint_close(checkpoint);
    }
}

/* ---- hostile files ---- */

static enum t2t_status open_and_load(const char *file)
{
    const struct t2t_checkpoint_options options = {0};
    struct t2t_checkpoint *checkpoint = (struct t2t_checkpoint *)&checkpoint;
    enum t2t_status status = t2t_checkpoint_open(&checkpoint, file, &options);
    if (status && checkpoint) fail_msg("a refused checkpoint is still there");
    if (!status) status = t2t_checkpoint_load(checkpoint, NULL);
    t2t_checkpoint_close(checkpoint);
    return status;
}

static void refuses_hostile_files(void **state)
{
    (void)state;
    struct hostile hostile;
    size_t count = 0;
    for (; hostile_case(count, &hostile); count++) {
        bytes_save(&hostile.file, path);
        bytes_free(&hostile.file);
        const clock_t before = clock();
        const enum t2t_status status = open_and_load(path);
        const double seconds = (double)(clock() - before) / CLOCKS_PER_SEC;
        const char *sentence = t2t_last_error();
        if (!status) fail_msg("%s: accepted", hostile.name);
        if (status != T2T_BAD_MODEL || !strstr(sentence, hostile.word) || strncmp(sentence, path, strlen(path)) != 0)
            fail_msg("%s: status %d, \"%s\" does not say \"%s\"", hostile.name, status, sentence, hostile.word);
        if (seconds > most_seconds) fail_msg("%s: refused after %.1f s", hostile.name, seconds);
    }
    assert_true(count >= 600);
    print_message("%zu hostile files refused\n", count);
}

/* Whatever single byte of a small checkpoint changes, or wherever it is cut: an answer, never a crash. */
static void every_byte_changed(void **state)
{
    (void)state;
    static const float numbers[4] = {1, 2, 3, 4};
    const struct t2t_tensor tensor = {.name = "w", .rank = 2, .shape = {2, 2}, .elements = 4, .data = numbers};
    size_t accepted = 0, refused = 0;
    for (int legacy = 0; legacy < 2; legacy++) {
        struct bytes file = {0};
        (legacy ? torch_legacy : torch_zip)(&file, &tensor, 1, (struct torch_form){.key = "state_dict", .arch = "x"});
        const size_t size = file.size;
        for (size_t i = 0; i < size; i++) {
            static const unsigned char changes[] = {0x01, 0x80, 0xff};
            for (size_t j = 0; j < sizeof changes; j++) {
                file.data[i] ^= changes[j];
                bytes_save(&file, path);
                file.data[i] ^= changes[j];
                const enum t2t_status status = open_and_load(path);
                assert_true(status == T2T_OK || status == T2T_BAD_MODEL);
                status ? refused++ : accepted++;
            }
            file.size = i;
            bytes_save(&file, path);
            file.size = size;
            assert_int_equal(open_and_load(path), T2T_BAD_MODEL);
        }
        bytes_free(&file);
    }
    print_message("%zu changed files refused, %zu accepted\n", refused, accepted);
    assert_true(refused > accepted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_forms),
        cmocka_unit_test(writer_round_trip_of_every_dtype),
        cmocka_unit_test(archives_of_other_writers),
        cmocka_unit_test(strips_the_prefix_that_is_asked_for),
        cmocka_unit_test(loads_what_is_wanted),
        cmocka_unit_test(refuses_hostile_files),
        cmocka_unit_test(every_byte_changed),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
