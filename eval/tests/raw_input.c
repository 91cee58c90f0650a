/* --raw-input: tensors that are already normalised give what their pictures give. The first argument is the folder of
 * the programs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/tests/written.h"
#include "loaders/preprocess.h"
#include "vit/tests/synthetic.h"

static float pixels[SHOP_PICTURES][3 * SHOP_SIZE * SHOP_SIZE];

static void write_raw(const char *path, const int64_t *labels, size_t count)
{
    const struct t2t_tensor tensors[] = {{.name = "input",
                                             .dtype = T2T_F32,
                                             .rank = 4,
                                             .shape = {count, 3, SHOP_SIZE, SHOP_SIZE},
                                             .elements = count * 3 * SHOP_SIZE * SHOP_SIZE,
                                             .data = pixels},
        {.name = "label", .dtype = T2T_I64, .rank = 1, .shape = {count}, .elements = count, .data = labels}};
    if (t2t_tensors_write(path, tensors, labels ? 2 : 1, NULL, 0)) fail_msg("%s", t2t_last_error());
}

/* The pictures of the workshop as the network sees them, in the order of a run's logits. */
static void prepare_pixels(const char *logits)
{
    struct t2t_tensors *file;
    if (t2t_tensors_open(&file, logits)) fail_msg("%s", t2t_last_error());
    json_t *names = parsed(t2t_tensors_metadata(file, "files"));
    t2t_tensors_close(file);
    assert_int_equal(json_array_size(names), SHOP_PICTURES);
    const struct t2t_preprocess timm = {.image_size = SHOP_SIZE,
        .crop_pct = 0.9,
        .interpolation = T2T_BICUBIC,
        .mean = {0.485F, 0.456F, 0.406F},
        .std = {0.229F, 0.224F, 0.225F}};
    for (size_t i = 0; i < SHOP_PICTURES; i++) {
        char path[256];
        uint8_t crop[3 * SHOP_SIZE * SHOP_SIZE];
        struct t2t_picture_report report;
        snprintf(path, sizeof path, "%s/%s", shop.pictures, json_string_value(json_array_get(names, i)));
        if (t2t_picture_crop(path, &timm, crop, &report)) fail_msg("%s", t2t_last_error());
        t2t_picture_normalise(crop, &timm, pixels[i]);
    }
    json_decref(names);
}

static void raw_input_is_the_same_as_pictures(void **state)
{
    (void)state;
    int64_t labels[SHOP_PICTURES];
    for (size_t i = 0; i < SHOP_PICTURES; i++) labels[i] = (int64_t)(i / 2);
    for (size_t limited = 0; limited < 2; limited++) {
        const char *limit = limited ? "-n7" : "-n24";
        json_t *decoded = REPORT(shop.pictures, "-a", "exact,kdeformer", limit, "--save-logits", in_shop("decoded"));
        if (!limited) prepare_pixels(in_shop("decoded"));
        write_raw(in_shop("raw"), labels, SHOP_PICTURES);
        json_t *raw =
            REPORT("--raw-input", in_shop("raw"), "-a", "exact,kdeformer", limit, "--save-logits", in_shop("read"));
        expect_same_logits(in_shop("decoded"), in_shop("read"), "logits.exact");
        expect_same_logits(in_shop("decoded"), in_shop("read"), "logits.kdeformer");
        for (size_t run = 0; run < 2; run++)
            assert_true(json_equal(at(run_of(decoded, run), "top1"), at(run_of(raw, run), "top1")));
        json_decref(decoded);
        json_decref(raw);
    }
}

static void labels_and_none(void **state)
{
    (void)state;
    int64_t labels[SHOP_PICTURES];
    for (size_t i = 0; i < SHOP_PICTURES; i++) {
        labels[i] = (int64_t)(i / 2);
        synthetic_picture(SHOP_SIZE, 20 + i, pixels[i]);
    }
    write_raw(in_shop("raw.safetensors"), labels, 7);
    write_raw(in_shop("unlabelled.safetensors"), NULL, 7);
    json_t *report = REPORT("--raw-input", in_shop("raw.safetensors"), "-a", "exact,kdeformer", "-b", "3",
        "--save-logits", in_shop("raw_logits.safetensors"));
    assert_int_equal(count_at(at(run_of(report, 0), "top1"), "total"), 7);
    json_decref(report);
    report = REPORT("--raw-input", in_shop("unlabelled.safetensors"), "-a", "exact,kdeformer", "--save-logits",
        in_shop("unlabelled_logits.safetensors"));
    assert_null(json_object_get(run_of(report, 0), "top1"));
    assert_int_equal(count_at(run_of(report, 0), "same_answer"), 7);
    json_decref(report);
    expect_same_logits(in_shop("raw_logits.safetensors"), in_shop("unlabelled_logits.safetensors"), "logits.kdeformer");
    static const char *const formats[] = {"table", "md", "csv"};
    for (size_t i = 0; i < 3; i++)
        EXPECT_OF(EVAL("-q", "--raw-input", in_shop("unlabelled.safetensors"), "--format", formats[i]), 0, "exact");
    REFUSED(EVAL("-q", "--raw-input", in_shop("unlabelled.safetensors"), "--expect-top1=50"), 3, "no tensor label");
    REFUSED(EVAL("-q", "--raw-input", in_shop("raw.safetensors"), "--labels", "x"), 2, "--labels");
    labels[5] = SHOP_CLASSES;
    write_raw(in_shop("raw.safetensors"), labels, 7);
    REFUSED(
        EVAL("-q", "--raw-input", in_shop("raw.safetensors")), 3, "label 12 of picture 5 is none of the model's 12");
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raw_input_is_the_same_as_pictures),
        cmocka_unit_test(labels_and_none),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
