/* Pictures that are cut, damaged, oversized or something else: refused with a sentence that names the file, or used
 * with a warning that is reported; never a crash, and never pixels of a file that ended early.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "loaders/jpeg_encode.h"
#include "loaders/picture.h"
#include "loaders/preprocess.h"
#include "loaders/tests/whole_file.h"

static const struct t2t_preprocess options = {
    .image_size = 224, .crop_pct = 0.9, .interpolation = T2T_BICUBIC, .mean = {0, 0, 0}, .std = {1, 1, 1}};

static enum t2t_status crop_of(const void *bytes, size_t size, bool strict, struct t2t_picture_report *report)
{
    struct t2t_preprocess chosen = options;
    chosen.strict = strict;
    uint8_t *crop = malloc(224 * 224 * 3), *copy = malloc(size ? size : 1); /* an exact copy: overruns are seen */
    assert_true(crop && copy);
    memcpy(copy, bytes, size);
    const enum t2t_status status = t2t_picture_crop_memory("some/picture.JPEG", copy, size, &chosen, crop, report);
    if (status && strncmp(t2t_last_error(), "some/picture.JPEG", 17) != 0)
        fail_msg("\"%s\" does not begin with the file's name", t2t_last_error());
    free(copy);
    free(crop);
    return status;
}

static void refused(const void *bytes, size_t size, const char *word)
{
    struct t2t_picture_report report;
    assert_int_equal(crop_of(bytes, size, false, &report), T2T_BAD_DATA);
    if (!strstr(t2t_last_error(), word)) fail_msg("\"%s\" does not say \"%s\"", t2t_last_error(), word);
}

static void refuses_every_cut(void **state)
{
    (void)state;
    static const char *const files[] = {"images/landscape_420.jpg", "images/progressive_420.jpg", "images/gray.jpg",
        "images/cmyk.jpg", "images/restart_markers.jpg"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[256];
        snprintf(path, sizeof path, "tests/golden/preprocess/%s", files[i]);
        size_t size;
        uint8_t *bytes = read_whole_file(path, &size);
        struct t2t_picture_report report;
        assert_int_equal(crop_of(bytes, size, true, &report), T2T_OK);
        for (size_t length = 0; length < size - 2; length += length < 700 ? 7 : 977)
            assert_int_equal(crop_of(bytes, length, false, &report), T2T_BAD_DATA);
        refused(bytes, size / 2, "truncated");
        refused(bytes, size - 2, "truncated"); /* only the end marker is gone */
        free(bytes);
    }
    size_t size;
    uint8_t *bytes = read_whole_file("tests/pictures/bicubic/images/rgb.png", &size);
    for (size_t length = 0; length < size; length += 101) {
        struct t2t_picture_report report;
        assert_int_equal(crop_of(bytes, length, false, &report), T2T_BAD_DATA);
    }
    free(bytes);
}

/* One changed byte anywhere: an answer or a sentence. What the decoder warned about is refused when asked. */
static void survives_every_damage(void **state)
{
    (void)state;
    static const char *const files[] = {"tests/golden/preprocess/images/small_48x33.jpg",
        "tests/golden/preprocess/images/tiny_3x200.jpg", "tests/pictures/bicubic/images/palette.png",
        "tests/pictures/bicubic/images/bits.png"};
    size_t used = 0, warned = 0, bad = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t size;
        uint8_t *bytes = read_whole_file(files[i], &size);
        for (size_t at = 0; at < size; at++) {
            const uint8_t whole = bytes[at];
            bytes[at] = (uint8_t)(whole ^ (1U << at % 8));
            struct t2t_picture_report report = {.warned = false};
            const enum t2t_status status = crop_of(bytes, size, false, &report);
            assert_true(status == T2T_OK || status == T2T_BAD_DATA);
            used += status == T2T_OK;
            bad += status != T2T_OK;
            if (status == T2T_OK && report.warned) {
                warned++;
                assert_true(report.warning[0]);
                assert_int_equal(crop_of(bytes, size, true, &report), T2T_BAD_DATA);
            }
            bytes[at] = whole;
        }
        free(bytes);
    }
    print_message("  used %zu, of them with a warning %zu, refused %zu\n", used, warned, bad);
    assert_true(used && warned && bad);
}

/* The position of a JPEG's frame header: FF C0 (baseline) or FF C2 (progressive). */
static size_t frame_header(const uint8_t *bytes, size_t size, uint8_t kind)
{
    for (size_t i = 0; i + 9 < size; i++)
        if (bytes[i] == 0xff && bytes[i + 1] == kind) return i;
    fail_msg("no frame header");
    return 0;
}

static void refuses_what_cannot_be_right(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = read_whole_file("tests/golden/preprocess/images/small_32.jpg", &size);
    const size_t frame = frame_header(bytes, size, 0xc0);
    bytes[frame + 4] = 12; /* bits a sample */
    refused(bytes, size, "precision 12");
    bytes[frame + 4] = 8;
    memcpy(bytes + frame + 5, "\xff\xdc\xff\xdc", 4); /* 65500 x 65500 */
    refused(bytes, size, "65500 x 65500");
    bytes[frame + 1] = 0xc3; /* lossless */
    refused(bytes, size, "SOF");
    free(bytes);

    refused("", 0, "no picture");
    refused("RIFF\0\0\0\0WEBPVP8 ", 16, "WebP");
    refused("GIF89a..........", 16, "GIF");
    refused("BM..............", 16, "BMP");
    refused("II*\0............", 16, "TIFF");
    refused("<!DOCTYPE html><html></html>", 28, "HTML");
    refused("this is a text", 14, "no picture");
    refused("\xff\xd8\xff", 3, "truncated");
    refused("\x89PNG\r\n\x1a\n", 8, "PNG");
}

/* The scans of a progressive picture again and again: legal, and minutes of work. */
static void refuses_thousands_of_scans(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = read_whole_file("tests/golden/preprocess/images/progressive_420.jpg", &size);
    size_t first = frame_header(bytes, size, 0xda), scan = 0;
    for (size_t i = first + 2; i + 1 < size && !scan; i++) /* to the next table or scan */
        if (bytes[i] == 0xff && (bytes[i + 1] == 0xc4 || bytes[i + 1] == 0xda)) scan = i;
    assert_true(scan > first);
    const size_t length = scan - first, repeats = 600;
    uint8_t *many = malloc(size + repeats * length);
    assert_non_null(many);
    memcpy(many, bytes, scan);
    for (size_t i = 0; i < repeats; i++) memcpy(many + scan + i * length, bytes + first, length);
    memcpy(many + scan + repeats * length, bytes + scan, size - scan);
    refused(many, size + repeats * length, "scans");
    free(many);
    free(bytes);
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    char folder[] = "/tmp/t2tvit_pictures_XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[64];
    uint8_t *crop = malloc(224 * 224 * 3);
    assert_non_null(crop);
    const struct {
        const char *name, *word;
    } cases[] = {
        {"missing.jpg", "No such file"}, {"folder.jpg", "folder"}, {"pipe.jpg", "pipe"}, {"empty.jpg", "empty"}};
    snprintf(path, sizeof path, "%s/folder.jpg", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/pipe.jpg", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(path, sizeof path, "%s/empty.jpg", folder);
    fclose(fopen(path, "wb"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct t2t_picture_report report;
        snprintf(path, sizeof path, "%s/%s", folder, cases[i].name);
        assert_int_equal(t2t_picture_crop(path, &options, crop, &report), T2T_BAD_DATA);
        assert_non_null(strstr(t2t_last_error(), path));
        assert_non_null(strstr(t2t_last_error(), cases[i].word));
        if (i != 1) unlink(path);
        if (i == 1) rmdir(path);
    }
    free(crop);
    assert_int_equal(rmdir(folder), 0);
}

/* Shapes whose other side would be millions of pixels wide if all of it were computed: one colour stays one colour. */
static void crops_extreme_shapes(void **state)
{
    (void)state;
    const size_t sides[][2] = {{1, 60000}, {60000, 1}, {2, 3}, {3, 1}, {2000, 1}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        char path[] = "/tmp/t2tvit_extreme_XXXXXX";
        const int descriptor = mkstemp(path);
        assert_true(descriptor >= 0);
        close(descriptor);
        uint8_t *pixels = malloc(sides[i][0] * sides[i][1] * 3), *crop = malloc(224 * 224 * 3);
        assert_true(pixels && crop);
        memset(pixels, 128, sides[i][0] * sides[i][1] * 3);
        if (t2t_jpeg_write(path, pixels, sides[i][0], sides[i][1], 90)) fail_msg("%s", t2t_last_error());
        struct t2t_picture_report report;
        if (t2t_picture_crop(path, &options, crop, &report)) fail_msg("%s", t2t_last_error());
        assert_int_equal(report.width, sides[i][0]);
        for (size_t j = 0; j < 224 * 224 * 3; j++) assert_int_equal(crop[j], 128);
        unlink(path);
        free(pixels);
        free(crop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(survives_every_damage),
        cmocka_unit_test(refuses_what_cannot_be_right),
        cmocka_unit_test(refuses_thousands_of_scans),
        cmocka_unit_test(refuses_what_is_no_file),
        cmocka_unit_test(crops_extreme_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
