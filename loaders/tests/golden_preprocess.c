/* Decoded bytes and crops of every listed picture have the sha256 that Pillow's and timm's have.
 *
 * Reads the folder preprocess/ of $T2TVIT_GOLDEN, else tests/golden/preprocess: index.json lists the cases.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "loaders/picture.h"
#include "loaders/preprocess.h"
#include "loaders/tests/whole_file.h"

static void sha256(const void *bytes, size_t size, char text[65])
{
    unsigned char digest[32];
    assert_int_equal(EVP_Digest(bytes, size, digest, NULL, EVP_sha256(), NULL), 1);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static void expect_digest(const char *path, const char *what, const void *bytes, size_t size, const json_t *expected)
{
    char found[65];
    sha256(bytes, size, found);
    assert_true(json_is_string(expected));
    if (strcmp(found, json_string_value(expected)) != 0)
        fail_msg("%s: sha256 of the %s is %s, expected %s", path, what, found, json_string_value(expected));
}

static void check_decoded(const char *path, const json_t *expected)
{
    size_t size;
    uint8_t *bytes = read_whole_file(path, &size);
    struct picture picture;
    if (t2t_picture_decode(path, bytes, size, &picture)) fail_msg("%s", t2t_last_error());
    expect_digest(path, "decoded pixels", picture.rgb, picture.width * picture.height * 3, expected);
    free(picture.rgb);
    free(bytes);
}

static void check_crop(
    const char *path, size_t side, double crop_pct, const char *interpolation, const json_t *expected)
{
    const struct t2t_preprocess options = {.image_size = side,
        .crop_pct = crop_pct,
        .interpolation = strcmp(interpolation, "bilinear") == 0 ? T2T_BILINEAR : T2T_BICUBIC,
        .mean = {0, 0, 0},
        .std = {1, 1, 1}};
    struct t2t_picture_report report;
    uint8_t *crop = malloc(side * side * 3);
    assert_non_null(crop);
    if (t2t_picture_crop(path, &options, crop, &report)) fail_msg("%s", t2t_last_error());
    expect_digest(path, side == 224 ? "crop of 224 px" : "crop of 384 px", crop, side * side * 3, expected);
    free(crop);
}

/* Cases of one index.json; pictures lie beside it. */
static void check_folder(const char *folder)
{
    char path[2048];
    snprintf(path, sizeof path, "%s/index.json", folder);
    json_error_t error;
    json_t *index = json_load_file(path, 0, &error);
    if (!index) fail_msg("%s: %s", path, error.text);
    const double crop_pct = json_number_value(json_object_get(index, "crop_pct"));
    const char *interpolation = json_string_value(json_object_get(index, "interpolation"));
    const json_t *cases = json_object_get(index, "cases");
    assert_true(crop_pct > 0 && interpolation);
    if (json_array_size(cases) == 0) fail_msg("%s: lists no cases", path);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *row = json_array_get(cases, i);
        const char *file = json_string_value(json_object_get(row, "file"));
        assert_non_null(file);
        snprintf(path, sizeof path, "%s/%s", folder, file);
        check_decoded(path, json_object_get(row, "decoded_rgb_sha256"));
        check_crop(path, 224, crop_pct, interpolation, json_object_get(row, "crop_224_sha256"));
        check_crop(path, 384, crop_pct, interpolation, json_object_get(row, "crop_384_sha256"));
    }
    print_message("compared %zu files of %s\n", json_array_size(cases), folder);
    json_decref(index);
}

static void golden_preprocess(void **state)
{
    (void)state;
    const char *root = getenv("T2TVIT_GOLDEN");
    char folder[1024];
    snprintf(folder, sizeof folder, "%s/preprocess", root ? root : "tests/golden");
    check_folder(folder);
}

/* Our own references for what those do not cover; see tests/pictures/README.md. */
static void own_references(void **state)
{
    (void)state;
    check_folder("tests/pictures/bicubic");
    check_folder("tests/pictures/bilinear");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_preprocess), cmocka_unit_test(own_references)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
