/* Reading safetensors: every malformed file is refused with a sentence that names it and says what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
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

static void write_bytes(const void *first, size_t first_bytes, const void *second, size_t second_bytes)
{
    FILE *file = fopen(scratch_path, "wb");
    assert_non_null(file);
    if (first_bytes) assert_int_equal(fwrite(first, 1, first_bytes, file), first_bytes);
    if (second_bytes) assert_int_equal(fwrite(second, 1, second_bytes, file), second_bytes);
    assert_int_equal(fclose(file), 0);
}

/* Length, header, `data_bytes` zeros. */
static void write_file(const char *header, size_t header_bytes, size_t data_bytes)
{
    static const char zeros[4096];
    assert_true(data_bytes <= sizeof zeros);
    char *text = malloc(header_bytes + 8);
    assert_non_null(text);
    for (size_t i = 0; i < 8; i++) text[i] = (char)(unsigned char)((uint64_t)header_bytes >> 8 * i);
    memcpy(text + 8, header, header_bytes);
    write_bytes(text, header_bytes + 8, zeros, data_bytes);
    free(text);
}

static void refused_as(const char *name, enum t2t_status expected, const char *word)
{
    struct t2t_tensors *file = (struct t2t_tensors *)&file;
    const enum t2t_status status = t2t_tensors_open(&file, name);
    if (!status) fail_msg("accepted, expected a sentence with \"%s\"", word);
    assert_int_equal(status, expected);
    assert_null(file);
    if (!strstr(t2t_last_error(), word)) fail_msg("\"%s\" does not say \"%s\"", t2t_last_error(), word);
    if (strncmp(t2t_last_error(), name, strlen(name)) != 0) fail_msg("\"%s\" does not name the file", t2t_last_error());
}

static void refused(const char *word)
{
    refused_as(scratch_path, T2T_BAD_MODEL, word);
}

/* ---- malformed headers ---- */

#define ONE(DTYPE, SHAPE, OFFSETS) "{\"t\":{\"dtype\":" DTYPE ",\"shape\":" SHAPE ",\"data_offsets\":" OFFSETS "}}"
#define F32(NAME, SHAPE, OFFSETS) "\"" NAME "\":{\"dtype\":\"F32\",\"shape\":" SHAPE ",\"data_offsets\":" OFFSETS "}"

static const struct {
    const char *header;
    size_t data_bytes;
    const char *word;
} malformed[] = {
    {"[]", 0, "begins with byte 0x5b"},
    {" {}", 0, "begins with byte 0x20"},
    {"\"\"", 0, "begins with byte 0x22"},
    {"{}x", 0, "not valid JSON"},
    {"{}{}", 0, "not valid JSON"},
    {"{\"t\"", 0, "not valid JSON"},
    {"{\"t\":}", 0, "not valid JSON"},
    {"{'t':1}", 0, "not valid JSON"},
    {"{\"t\":1,}", 0, "not valid JSON"},
    {"{\"\xff\":1}", 0, "unable to decode byte 0xff"},
    {"{\"a\\u0000b\":1}", 0, "not valid JSON"},
    {"{\"\\ud800\":1}", 0, "not valid JSON"},
    {"{" F32("t", "[1]", "[0,4]") "," F32("t", "[1]", "[4,8]") "}", 8, "only once"},
    {"{\"t\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "only once"},
    {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, "only once"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "only once"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is no object"},
    {"{\"__metadata__\":\"x\"}", 0, "__metadata__ is no object"},
    {"{\"__metadata__\":{\"depth\":14}}", 0, "__metadata__ depth is not a string"},
    {"{\"__metadata__\":{\"depth\":null}}", 0, "__metadata__ depth is not a string"},
    {"{\"t\":1}", 0, "tensor t: is described by something else"},
    {"{\"t\":null}", 0, "tensor t: is described by something else"},
    {"{\"t\":[]}", 0, "tensor t: is described by something else"},
    {"{\"t\":{}}", 0, "tensor t: dtype is missing"},
    {ONE("1", "[1]", "[0,4]"), 4, "tensor t: dtype is missing or no string"},
    {ONE("\"F8_E4M3\"", "[4]", "[0,4]"), 4, "tensor t: dtype \"F8_E4M3\" is not known"},
    {ONE("\"f32\"", "[1]", "[0,4]"), 4, "dtype \"f32\" is not known"},
    {ONE("\"\"", "[1]", "[0,4]"), 4, "dtype \"\" is not known"},
    {"{\"t\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor t: shape is missing"},
    {ONE("\"F32\"", "1", "[0,4]"), 4, "tensor t: shape is missing or no list"},
    {ONE("\"F32\"", "{}", "[0,4]"), 4, "tensor t: shape is missing or no list"},
    {ONE("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "tensor t: has 9 dimensions, expected at most 8"},
    {ONE("\"F32\"", "[-1]", "[0,4]"), 4, "tensor t: shape holds something else"},
    {ONE("\"F32\"", "[1.0]", "[0,4]"), 4, "tensor t: shape holds something else"},
    {ONE("\"F32\"", "[\"1\"]", "[0,4]"), 4, "tensor t: shape holds something else"},
    {ONE("\"F32\"", "[true]", "[0,4]"), 4, "tensor t: shape holds something else"},
    {ONE("\"F32\"", "[4294967296,4294967296]", "[0,4]"), 4, "tensor t: the product of its shape is beyond 64 bits"},
    {ONE("\"F32\"", "[9223372036854775807,4]", "[0,0]"), 0, "tensor t: the product of its shape is beyond 64 bits"},
    {ONE("\"F32\"", "[4611686018427387905]", "[0,4]"), 4, "tensor t: its size is beyond 64 bits"},
    {ONE("\"F32\"", "[99999999999999999999]", "[0,4]"), 4, "too big integer"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "tensor t: data_offsets is not"},
    {ONE("\"F32\"", "[1]", "[0]"), 4, "tensor t: data_offsets is not"},
    {ONE("\"F32\"", "[1]", "[0,4,8]"), 4, "tensor t: data_offsets is not"},
    {ONE("\"F32\"", "[1]", "[0,4.0]"), 4, "tensor t: data_offsets is not"},
    {ONE("\"F32\"", "[1]", "[-4,0]"), 4, "tensor t: data_offsets is not"},
    {ONE("\"F32\"", "[1]", "[4,0]"), 4, "tensor t: data_offsets is not"},
    {ONE("\"F32\"", "[1]", "{\"0\":0}"), 4, "tensor t: data_offsets is not"},
    {ONE("\"F32\"", "[1]", "[0,8]"), 4, "ends at byte 8 of the data, but the file holds 4"},
    {ONE("\"F32\"", "[1]", "[0,9223372036854775807]"), 4, "but the file holds 4"},
    {ONE("\"F32\"", "[2]", "[0,4]"), 4, "data_offsets span 4 bytes, F32 of its shape needs 8"},
    {ONE("\"F16\"", "[1]", "[0,4]"), 4, "data_offsets span 4 bytes, F16 of its shape needs 2"},
    {ONE("\"F32\"", "[0]", "[0,4]"), 4, "data_offsets span 4 bytes, F32 of its shape needs 0"},
    {ONE("\"F32\"", "[1]", "[0,4]"), 5, "1 trailing bytes"},
    {"{}", 1, "1 trailing bytes"},
    {ONE("\"F32\"", "[1]", "[4,8]"), 8, "tensor t leaves a hole before it, bytes 0 to 4"},
    {"{" F32("a", "[1]", "[0,4]") "," F32("b", "[1]", "[8,12]") "}", 12,
        "tensor b leaves a hole before it, bytes 4 to 8"},
    {"{" F32("a", "[2]", "[0,8]") "," F32("b", "[1]", "[4,8]") "}", 8, "tensors a and b overlap at byte 4"},
    {"{" F32("a", "[1]", "[0,4]") "," F32("b", "[1]", "[0,4]") "}", 4, "tensors a and b overlap at byte 0"},
    {"{" F32("a", "[2]", "[0,8]") "," F32("b", "[0]", "[4,4]") "}", 8, "tensors a and b overlap at byte 4"},
};

static void refuses_malformed_headers(void **state)
{
    (void)state;
    const size_t count = sizeof malformed / sizeof *malformed;
    assert_true(count >= 40);
    for (size_t i = 0; i < count; i++) {
        write_file(malformed[i].header, strlen(malformed[i].header), malformed[i].data_bytes);
        refused(malformed[i].word);
    }
}

static void refuses_a_wrong_length(void **state)
{
    (void)state;
    write_bytes("\0\0\0\0\0\0\0\0{}", 10, NULL, 0);
    refused("header length of 0 bytes, expected 2 to 100000000");
    write_bytes("\1\0\0\0\0\0\0\0{}", 10, NULL, 0);
    refused("header length of 1 bytes");
    write_bytes("\3\0\0\0\0\0\0\0{}", 10, NULL, 0);
    refused("header length of 3 bytes but has only 10");
    write_bytes("\1\341\365\5\0\0\0\0{}", 10, NULL, 0);
    refused("header length of 100000001 bytes, expected");
    write_bytes("\377\377\377\377\377\377\377\377{}", 10, NULL, 0);
    refused("header length of 18446744073709551615 bytes");
    write_bytes("\2\0\0\0\0\0\0\0{", 9, NULL, 0);
    refused("has 9 bytes, too few");
    write_bytes("x", 1, NULL, 0);
    refused("has 1 bytes, too few");
}

static void refuses_deep_and_wide_headers(void **state)
{
    (void)state;
    const size_t bytes = 900000;
    char *header = malloc(bytes);
    assert_non_null(header);
    memset(header, '[', bytes);
    memcpy(header, "{\"t\":", 5);
    write_file(header, bytes, 0);
    refused("more than 200000 values");
    write_file(header, 100000, 0);
    refused("not valid JSON");
    free(header);
}

/* Padding may be long; text and space between values may not. */
static void bounds_the_text_of_headers(void **state)
{
    (void)state;
    const size_t bytes = 3 << 20;
    char *header = malloc(bytes);
    assert_non_null(header);
    memset(header, ' ', bytes);
    memcpy(header, "{}", 2);
    write_file(header, bytes, 0);
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, scratch_path)) fail_msg("%s", t2t_last_error());
    t2t_tensors_close(file);
    memcpy(header, "{ ", 2);
    header[bytes - 1] = '}';
    write_file(header, bytes, 0);
    refused("without a value");
    memset(header, 'x', bytes);
    memcpy(header, "{\"\\\"", 4);
    write_file(header, bytes, 0);
    refused("without a value");
    free(header);
}

static void names_other_kinds_of_files(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
        const char *word;
    } kinds[] = {
        {"PK\3\4\0\0\10\10\0\0\0\0", 12, "t2tvit-convert"},
        {"\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2", 17, "t2tvit-convert"},
        {"\x80\4\x95\0\0\0\0\0\0\0\0}.", 13, "t2tvit-convert"},
        {"<!DOCTYPE html><html><head>", 27, "a web page"},
        {"\n\n <html lang=en>", 16, "a web page"},
        {"version https://git-lfs.github.com/spec/v1\noid", 46, "Git LFS"},
        {"\x1f\x8b\10\0\0\0\0\0\0\0\0", 11, "a compressed file"},
        {"GGUF\3\0\0\0\0\0\0\0", 12, "a GGUF file"},
        {"\x89HDF\r\n\x1a\n\0\0\0\0", 12, "an HDF5 file"},
        {"\x93NUMPY\1\0v\0{'descr'", 18, "a NumPy array"},
        {"\x89PNG\r\n\x1a\n\0\0\0\r", 12, "a picture"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        write_bytes(kinds[i].text, kinds[i].bytes, NULL, 0);
        refused(kinds[i].word);
    }
    char tar[512] = "archive/data.pkl";
    memcpy(tar + 257, "ustar", 5);
    write_bytes(tar, sizeof tar, NULL, 0);
    refused("a tar archive");
    write_bytes(NULL, 0, NULL, 0);
    refused("is empty");
    refused_as(scratch_folder, T2T_BAD_MODEL, "is a folder");
    refused_as("/dev/null", T2T_BAD_MODEL, "a pipe or device");
    unlink(scratch_path);
    refused("No such file");
    assert_int_equal(mkfifo(scratch_path, 0600), 0);
    refused("a pipe or device"); /* and is not waited for */
    unlink(scratch_path);
}

static void says_when_descriptors_are_short(void **state)
{
    (void)state;
    write_file("{}", 2, 0);
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct t2t_tensors *file;
    const enum t2t_status status = t2t_tensors_open(&file, scratch_path);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(status, T2T_NO_RESOURCE);
    assert_non_null(strstr(t2t_last_error(), scratch_path));
}

/* ---- odd, but right ---- */

static void header_of_a_foreign_writer(void **state)
{
    (void)state; /* data at an odd address, unordered names, blanks, an unknown field */
    static const char header[] = "{ \"b\" : {\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[1,5]},"
                                 "\"a\":{\"shape\":[],\"extra\":{},\"data_offsets\":[0,1],\"dtype\":\"BOOL\"}}\n\t ";
    write_file(header, sizeof header - 1, 5);
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, scratch_path)) fail_msg("%s", t2t_last_error());
    assert_string_equal(t2t_tensors_at(file, 0)->name, "a");
    assert_string_equal(t2t_tensors_at(file, 1)->name, "b");
    float values[2] = {1, 1};
    assert_int_equal(t2t_tensor_to_float(t2t_tensors_at(file, 1), values), T2T_OK);
    assert_true(values[0] == 0 && values[1] == 0);
    t2t_tensors_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_malformed_headers),
        cmocka_unit_test(refuses_a_wrong_length),
        cmocka_unit_test(refuses_deep_and_wide_headers),
        cmocka_unit_test(bounds_the_text_of_headers),
        cmocka_unit_test(names_other_kinds_of_files),
        cmocka_unit_test(says_when_descriptors_are_short),
        cmocka_unit_test(header_of_a_foreign_writer),
    };
    return cmocka_run_group_tests(tests, make_scratch_folder, remove_scratch_folder);
}
