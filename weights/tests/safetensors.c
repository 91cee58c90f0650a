/* safetensors: every malformed file is refused with a sentence that names it and says what is wrong; what is written is
 * read back bit for bit; a failed write leaves nothing behind; half precision agrees with a slow definition.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "layers/base/half.h"
#include "weights/safetensors.h"

static char folder[] = "/tmp/t2tvit_safetensors_XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static size_t files_in_folder(void)
{
    DIR *open_folder = opendir(folder);
    assert_non_null(open_folder);
    size_t count = 0;
    const struct dirent *entry;
    while ((entry = readdir(open_folder))) count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(open_folder);
    return count;
}

static void write_bytes(const void *first, size_t first_bytes, const void *second, size_t second_bytes)
{
    FILE *file = fopen(path, "wb");
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
    refused_as(path, T2T_BAD_MODEL, word);
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
    if (t2t_tensors_open(&file, path)) fail_msg("%s", t2t_last_error());
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
    refused_as(folder, T2T_BAD_MODEL, "is a folder");
    refused_as("/dev/null", T2T_BAD_MODEL, "a pipe or device");
    unlink(path);
    refused("No such file");
    assert_int_equal(mkfifo(path, 0600), 0);
    refused("a pipe or device"); /* and is not waited for */
    unlink(path);
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
    const enum t2t_status status = t2t_tensors_open(&file, path);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(status, T2T_NO_RESOURCE);
    assert_non_null(strstr(t2t_last_error(), path));
}

/* ---- round trips ---- */

static struct t2t_tensor tensor_of(const char *name, enum t2t_dtype dtype, size_t elements, const void *data)
{
    return (struct t2t_tensor){
        .name = name, .dtype = dtype, .rank = 1, .shape = {elements}, .elements = elements, .data = data};
}

static struct t2t_tensors *write_and_open(
    const struct t2t_tensor *tensors, size_t count, const struct t2t_metadata *metadata, size_t metadata_count)
{
    if (t2t_tensors_write(path, tensors, count, metadata, metadata_count)) fail_msg("%s", t2t_last_error());
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, path)) fail_msg("%s", t2t_last_error());
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
    assert_string_equal(t2t_tensors_path(file), path);
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
    if (t2t_tensors_write(path, &tensor, 1, NULL, 0)) fail_msg("%s", t2t_last_error());
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, path)) fail_msg("%s", t2t_last_error());
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

static void header_of_a_foreign_writer(void **state)
{
    (void)state; /* data at an odd address, unordered names, blanks, an unknown field */
    static const char header[] = "{ \"b\" : {\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[1,5]},"
                                 "\"a\":{\"shape\":[],\"extra\":{},\"data_offsets\":[0,1],\"dtype\":\"BOOL\"}}\n\t ";
    write_file(header, sizeof header - 1, 5);
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, path)) fail_msg("%s", t2t_last_error());
    assert_string_equal(t2t_tensors_at(file, 0)->name, "a");
    assert_string_equal(t2t_tensors_at(file, 1)->name, "b");
    float values[2] = {1, 1};
    assert_int_equal(t2t_tensor_to_float(t2t_tensors_at(file, 1), values), T2T_OK);
    assert_true(values[0] == 0 && values[1] == 0);
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

/* ---- half precision, against a definition in double ---- */

static double value_of(uint16_t half, int exponent_bits, int mantissa_bits)
{
    const int exponent = half >> mantissa_bits & ((1 << exponent_bits) - 1),
              mantissa = half & ((1 << mantissa_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    double value;
    if (exponent == (1 << exponent_bits) - 1)
        value = mantissa ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        value = ldexp(mantissa, 1 - bias - mantissa_bits);
    else
        value = ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return half & 0x8000 ? -value : value;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void all_values(float (*to_float)(uint16_t), uint16_t (*from_float)(float), int exponent_bits, int mantissa_bits)
{
    const uint16_t infinity = (uint16_t)(((1 << exponent_bits) - 1) << mantissa_bits);
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t half = (uint16_t)i;
        const double value = value_of(half, exponent_bits, mantissa_bits);
        const float converted = to_float(half);
        if (isnan(value)) {
            assert_true(isnan(converted));
            assert_true(isnan(to_float(from_float(converted))));
            continue;
        }
        assert_int_equal(bits_of(converted), bits_of((float)value)); /* also the sign of zero */
        assert_int_equal(from_float(converted), half);
        if ((half & 0x7fff) >= infinity) continue;
        /* between this value and the next: below the middle down, above it up, on it to the even one */
        const double next = (half & 0x7fff) + 1 == infinity
                                ? ldexp(1, 1 << (exponent_bits - 1))
                                : fabs(value_of((uint16_t)(half + 1), exponent_bits, mantissa_bits));
        const float middle = (float)copysign((fabs(value) + next) / 2, value);
        assert_int_equal(from_float(nextafterf(middle, 0)), half);
        assert_int_equal(from_float(middle), half & 1 ? half + 1 : half);
        assert_int_equal(from_float(nextafterf(middle, middle * 2)), half + 1);
    }
}

static void half_precision(void **state)
{
    (void)state;
    all_values(t2t_half_to_float, t2t_float_to_half, 5, 10);
    all_values(t2t_bfloat16_to_float, t2t_float_to_bfloat16, 8, 7);
    assert_int_equal(t2t_float_to_half(1e30F), 0x7c00);
    assert_int_equal(t2t_float_to_half(-1e30F), 0xfc00);
    assert_int_equal(t2t_float_to_half(65520), 0x7c00);
    assert_int_equal(t2t_float_to_half(65519), 0x7bff);
    assert_int_equal(t2t_float_to_half(1e-30F), 0);
    assert_int_equal(t2t_float_to_half(-1e-45F), 0x8000);
    assert_int_equal(t2t_float_to_bfloat16(3.4e38F), 0x7f80);
}

/* ---- a failed write leaves what was ---- */

static void old_file_stands(const struct t2t_tensor *old)
{
    assert_int_equal(files_in_folder(), 1);
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, path)) fail_msg("%s", t2t_last_error());
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
        const enum t2t_status status = t2t_tensors_write(path, &large, 1, NULL, 0);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(status, T2T_CANNOT_WRITE);
        assert_non_null(strstr(t2t_last_error(), path));
        assert_non_null(strstr(t2t_last_error(), strerror(EFBIG)));
        old_file_stands(&old);
    }

    /* memory that is not there: what a mapping of a truncated file looks like to the kernel */
    struct t2t_tensor gone = large;
    gone.data = (const void *)16;
    assert_int_equal(t2t_tensors_write(path, &gone, 1, NULL, 0), T2T_CANNOT_WRITE);
    old_file_stands(&old);

    struct t2t_tensor twice[2] = {old, old};
    assert_int_equal(t2t_tensors_write(path, twice, 2, NULL, 0), T2T_CANNOT_WRITE);
    assert_non_null(strstr(t2t_last_error(), "two entries of the name old"));
    twice[1].name = "\xff";
    assert_int_equal(t2t_tensors_write(path, twice, 2, NULL, 0), T2T_CANNOT_WRITE);
    assert_non_null(strstr(t2t_last_error(), "UTF-8"));
    old_file_stands(&old);

    t2t_tensors_close(write_and_open(&large, 1, NULL, 0));
    assert_int_equal(files_in_folder(), 1);
}

static void refuses_odd_targets(void **state)
{
    (void)state;
    const float one = 1;
    const struct t2t_tensor tensor = tensor_of("t", T2T_F32, 1, &one);
    const char *targets[] = {folder, "/dev/full", "/dev/null", "/t2tvit/no/such/folder/file", ""};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        assert_int_equal(t2t_tensors_write(targets[i], &tensor, 1, NULL, 0), T2T_CANNOT_WRITE);
        assert_int_equal(strncmp(t2t_last_error(), targets[i], strlen(targets[i])), 0);
    }
    struct stat device;
    assert_int_equal(stat("/dev/null", &device), 0);
    assert_true(S_ISCHR(device.st_mode));
    assert_int_equal(files_in_folder(), 1);
}

/* A name of 255 bytes leaves no room for an ending. */
static void longest_name(void **state)
{
    (void)state;
    char long_path[512];
    snprintf(long_path, sizeof long_path, "%s/%0255d", folder, 1);
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
        cmocka_unit_test(refuses_malformed_headers),
        cmocka_unit_test(refuses_a_wrong_length),
        cmocka_unit_test(refuses_deep_and_wide_headers),
        cmocka_unit_test(bounds_the_text_of_headers),
        cmocka_unit_test(names_other_kinds_of_files),
        cmocka_unit_test(says_when_descriptors_are_short),
        cmocka_unit_test(round_trip_of_every_dtype),
        cmocka_unit_test(released_pages_leave_and_come_back),
        cmocka_unit_test(scalars_and_empty_tensors),
        cmocka_unit_test(header_of_a_foreign_writer),
        cmocka_unit_test(to_float_refuses),
        cmocka_unit_test(half_precision),
        cmocka_unit_test(writes_whole_or_not_at_all),
        cmocka_unit_test(refuses_odd_targets),
        cmocka_unit_test(longest_name),
        cmocka_unit_test(signals_are_held_back_not_lost),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
