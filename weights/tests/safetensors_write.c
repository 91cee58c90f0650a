/* Writing safetensors: what is written is read back bit for bit, and a failed write leaves nothing behind. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "layers/base/tests/scratch_folder.h"
#include "weights/safetensors.h"

/* ---- round trips ---- */

static struct t2t_tensor tensor_of(const char *name, enum t2t_dtype dtype, size_t elements, const void *data)
{
    return (struct t2t_tensor){
        .name = name, .dtype = dtype, .rank = 1, .shape = {elements}, .elements = elements, .data = data};
}

static struct t2t_tensors *write_and_open(
    const struct t2t_tensor *tensors, size_t count, const struct t2t_metadata *metadata, size_t metadata_count)
{
    if (t2t_tensors_write(scratch_path, tensors, count, metadata, metadata_count)) fail_msg("%s", t2t_last_error());
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, scratch_path)) fail_msg("%s", t2t_last_error());
    return file;
}

static void round_trip_of_every_dtype(void **state)
{
    (void)state;
    unsigned char bytes[T2T_DTYPES][21 * 8];
    char name[T2T_DTYPES][8];
    struct t2t_tensor tensors[T2T_DTYPES];
    for (size_t i = 0; i < T2T_DTYPES; i++) {
        for (size_t j = 0; j < sizeof bytes[i]; j++) bytes[i][j] = (unsigned char)(j * 37 + i * 11);
        snprintf(name[i], sizeof name[i], "t%zu", i);
        tensors[i] = tensor_of(name[i], (enum t2t_dtype)i, 21, bytes[i]);
        tensors[i].rank = 2;
        tensors[i].shape[0] = 3;
        tensors[i].shape[1] = 7;
    }
    const struct t2t_metadata metadata[] = {{"z", "last letter first"}, {"a", "\"quoted\"\n\xc3\xa9"}, {"", ""}};
    struct t2t_tensors *file = write_and_open(tensors, T2T_DTYPES, metadata, 3);
    assert_int_equal(t2t_tensors_count(file), T2T_DTYPES);
    for (size_t i = 0; i < T2T_DTYPES; i++) {
        const struct t2t_tensor *read = t2t_tensors_at(file, i);
        assert_string_equal(read->name, name[i]);
        assert_ptr_equal(read, t2t_tensors_find(file, name[i]));
        assert_int_equal(read->dtype, i);
        assert_int_equal(read->elements, 21);
        char text[128];
        assert_string_equal(t2t_tensor_shape_text(read, text), "[3, 7]");
        assert_memory_equal(read->data, bytes[i], 21 * t2t_dtype_bytes((enum t2t_dtype)i));
    }
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(t2t_tensors_metadata_key(file, i), metadata[i].key);
        assert_string_equal(t2t_tensors_metadata(file, metadata[i].key), metadata[i].value);
    }
    assert_null(t2t_tensors_metadata_key(file, 3));
    assert_null(t2t_tensors_metadata(file, "none"));
    assert_null(t2t_tensors_find(file, "none"));
    assert_null(t2t_tensors_find(file, "__metadata__"));
    assert_string_equal(t2t_tensors_path(file), scratch_path);
    assert_int_equal((uintptr_t)t2t_tensors_at(file, 0)->data % 64, 0);
    t2t_tensors_close(file);
}

/* Kilobytes of mapped files in memory. */
static long resident_file_pages(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    char line[256];
    long kilobytes = -1;
    while (kilobytes < 0 && fgets(line, sizeof line, status)) (void)sscanf(line, "RssFile: %ld", &kilobytes);
    fclose(status);
    return kilobytes;
}

static void released_pages_leave_and_come_back(void **state)
{
    (void)state;
    enum { ELEMENTS = 1 << 20, KILOBYTES = ELEMENTS * 4 / 1024 };
    uint32_t *values = malloc(ELEMENTS * sizeof *values);
    assert_non_null(values);
    for (uint32_t i = 0; i < ELEMENTS; i++) values[i] = i;
    const struct t2t_tensor tensor = {
        .name = "x", .dtype = T2T_I32, .rank = 1, .shape = {ELEMENTS}, .elements = ELEMENTS, .data = values};
    if (t2t_tensors_write(scratch_path, &tensor, 1, NULL, 0)) fail_msg("%s", t2t_last_error());
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, scratch_path)) fail_msg("%s", t2t_last_error());
    const void *data = t2t_tensors_find(file, "x")->data;
    assert_memory_equal(data, values, ELEMENTS * sizeof *values);
    const long before = resident_file_pages();
    t2t_tensors_release_pages(file);
    const long after = resident_file_pages();
    if (before >= 0) assert_true(before - after > KILOBYTES * 3 / 4); /* counted in batches of pages */
    assert_memory_equal(data, values, ELEMENTS * sizeof *values);
    t2t_tensors_close(file);
    free(values);
}

static void scalars_and_empty_tensors(void **state)
{
    (void)state;
    const float one = 1;
    struct t2t_tensor tensors[3] = {tensor_of("scalar", T2T_F32, 1, &one), tensor_of("none", T2T_F32, 0, NULL),
        tensor_of("rank8", T2T_F32, 1, &one)};
    tensors[0].rank = 0;
    tensors[2].rank = T2T_TENSOR_MAX_RANK;
    for (size_t i = 0; i < T2T_TENSOR_MAX_RANK; i++) tensors[2].shape[i] = 1;
    struct t2t_tensors *file = write_and_open(tensors, 3, NULL, 0);
    assert_int_equal(t2t_tensors_find(file, "scalar")->rank, 0);
    assert_int_equal(t2t_tensors_find(file, "scalar")->elements, 1);
    assert_int_equal(t2t_tensors_find(file, "none")->elements, 0);
    assert_int_equal(t2t_tensors_find(file, "rank8")->rank, 8);
    float value;
    assert_int_equal(t2t_tensor_to_float(t2t_tensors_find(file, "none"), &value), T2T_OK);
    t2t_tensors_close(file);
    file = write_and_open(NULL, 0, NULL, 0);
    assert_int_equal(t2t_tensors_count(file), 0);
    assert_null(t2t_tensors_at(file, 0));
    assert_null(t2t_tensors_metadata_key(file, 0));
    t2t_tensors_close(file);
}

static void to_float_refuses(void **state)
{
    (void)state;
    float out[9];
    float floats[9] = {0};
    floats[7] = NAN;
    struct t2t_tensor tensor = tensor_of("blocks.3.norm1.weight", T2T_F32, 9, floats);
    assert_int_equal(t2t_tensor_to_float(&tensor, out), T2T_BAD_MODEL);
    assert_non_null(strstr(t2t_last_error(), "blocks.3.norm1.weight holds NaN or infinity at element 7"));
    uint16_t halves[9] = {0};
    halves[2] = 0x7c00;
    tensor = tensor_of("w", T2T_F16, 9, halves);
    assert_int_equal(t2t_tensor_to_float(&tensor, out), T2T_BAD_MODEL);
    assert_non_null(strstr(t2t_last_error(), "tensor w holds NaN or infinity at element 2"));
    halves[2] = 0x7f80;
    tensor.dtype = T2T_BF16;
    assert_int_equal(t2t_tensor_to_float(&tensor, out), T2T_BAD_MODEL);
    for (int dtype = T2T_F64; dtype < T2T_DTYPES; dtype++) {
        tensor.dtype = (enum t2t_dtype)dtype;
        assert_int_equal(t2t_tensor_to_float(&tensor, out), T2T_BAD_MODEL);
        assert_non_null(strstr(t2t_last_error(), t2t_dtype_name(tensor.dtype)));
    }
}

/* ---- a failed write leaves what was ---- */

static void old_file_stands(const struct t2t_tensor *old)
{
    assert_int_equal(files_in_scratch_folder(), 1);
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, scratch_path)) fail_msg("%s", t2t_last_error());
    assert_memory_equal(t2t_tensors_at(file, 0)->data, old->data, old->elements * t2t_dtype_bytes(old->dtype));
    t2t_tensors_close(file);
}

static void writes_whole_or_not_at_all(void **state)
{
    (void)state;
    static const float old_values[4] = {1, 2, 3, 4};
    static float values[100000];
    const struct t2t_tensor old = tensor_of("old", T2T_F32, 4, old_values),
                            large = tensor_of("t", T2T_F32, 100000, values);
    t2t_tensors_close(write_and_open(&old, 1, NULL, 0));

    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (rlim_t bytes = 0; bytes < 400000; bytes = bytes ? bytes * 7 : 1) {
        limit = before;
        limit.rlim_cur = bytes;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const enum t2t_status status = t2t_tensors_write(scratch_path, &large, 1, NULL, 0);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(status, T2T_CANNOT_WRITE);
        assert_non_null(strstr(t2t_last_error(), scratch_path));
        assert_non_null(strstr(t2t_last_error(), strerror(EFBIG)));
        old_file_stands(&old);
    }

    /* memory that is not there: what a mapping of a truncated file looks like to the kernel */
    struct t2t_tensor gone = large;
    gone.data = (const void *)16;
    assert_int_equal(t2t_tensors_write(scratch_path, &gone, 1, NULL, 0), T2T_CANNOT_WRITE);
    old_file_stands(&old);

    struct t2t_tensor twice[2] = {old, old};
    assert_int_equal(t2t_tensors_write(scratch_path, twice, 2, NULL, 0), T2T_CANNOT_WRITE);
    assert_non_null(strstr(t2t_last_error(), "two entries of the name old"));
    twice[1].name = "\xff";
    assert_int_equal(t2t_tensors_write(scratch_path, twice, 2, NULL, 0), T2T_CANNOT_WRITE);
    assert_non_null(strstr(t2t_last_error(), "UTF-8"));
    old_file_stands(&old);

    t2t_tensors_close(write_and_open(&large, 1, NULL, 0));
    assert_int_equal(files_in_scratch_folder(), 1);
}

static void refuses_odd_targets(void **state)
{
    (void)state;
    const float one = 1;
    const struct t2t_tensor tensor = tensor_of("t", T2T_F32, 1, &one);
    const char *targets[] = {scratch_folder, "/dev/full", "/dev/null", "/t2tvit/no/such/folder/file", ""};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        assert_int_equal(t2t_tensors_write(targets[i], &tensor, 1, NULL, 0), T2T_CANNOT_WRITE);
        assert_int_equal(strncmp(t2t_last_error(), targets[i], strlen(targets[i])), 0);
    }
    struct stat device;
    assert_int_equal(stat("/dev/null", &device), 0);
    assert_true(S_ISCHR(device.st_mode));
    assert_int_equal(files_in_scratch_folder(), 1);
}

/* A name of 255 bytes leaves no room for an ending. */
static void longest_name(void **state)
{
    (void)state;
    char long_path[512];
    snprintf(long_path, sizeof long_path, "%s/%0255d", scratch_folder, 1);
    const float one = 1;
    const struct t2t_tensor tensor = tensor_of("t", T2T_F32, 1, &one);
    assert_int_equal(t2t_tensors_write(long_path, &tensor, 1, NULL, 0), T2T_OK);
    assert_int_equal(unlink(long_path), 0);
}

static volatile sig_atomic_t interrupted;

static void note_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static void signals_are_held_back_not_lost(void **state)
{
    (void)state;
    static float values[1 << 20];
    const struct t2t_tensor tensor = tensor_of("t", T2T_F32, 1 << 20, values);
    struct sigaction note = {.sa_handler = note_interrupt}, before;
    sigaction(SIGXFSZ, &note, &before);
    t2t_tensors_close(write_and_open(&tensor, 1, NULL, 0));
    assert_int_equal(interrupted, 0);
    raise(SIGXFSZ); /* the mask is as it was */
    assert_int_equal(interrupted, 1);
    sigaction(SIGXFSZ, &before, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_of_every_dtype),
        cmocka_unit_test(released_pages_leave_and_come_back),
        cmocka_unit_test(scalars_and_empty_tensors),
        cmocka_unit_test(to_float_refuses),
        cmocka_unit_test(writes_whole_or_not_at_all),
        cmocka_unit_test(refuses_odd_targets),
        cmocka_unit_test(longest_name),
        cmocka_unit_test(signals_are_held_back_not_lost),
    };
    return cmocka_run_group_tests(tests, make_scratch_folder, remove_scratch_folder);
}
