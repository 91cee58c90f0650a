/* The loader gives the same batches for any number of workers, with and without overlap, reports what failed, and can
 * be closed at any moment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "loaders/batch_loader.h"

enum { SIDE = 32, BYTES = SIDE * SIDE * 3, PICTURES = 23 };

/* Good pictures and two that are not: a missing file and a text. */
static const char *const files[] = {"small_48x33.jpg", "gray_odd.jpg", "missing.jpg", "exact_224.jpg", "small_32.jpg",
    "../index.json", "tiny_1x1.jpg", "short_249.jpg"};
enum { FILES = sizeof files / sizeof *files };

static char paths[FILES][128];
static uint8_t crops[FILES][BYTES]; /* what each gives on its own */
static float pixels[FILES][BYTES];
static size_t widths[FILES];
static struct t2t_sample samples[PICTURES];
static const struct t2t_dataset dataset = {.samples = samples, .count = PICTURES, .total = PICTURES};

static const struct t2t_preprocess preprocess = {.image_size = SIDE,
    .crop_pct = 0.9,
    .interpolation = T2T_BICUBIC,
    .mean = {0.5F, 0.4F, 0.3F},
    .std = {0.2F, 0.3F, 0.4F}};

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILES; i++)
        snprintf(paths[i], sizeof paths[i], "tests/golden/preprocess/images/%s", files[i]);
    for (size_t i = 0; i < PICTURES; i++)
        samples[i] = (struct t2t_sample){
            .path = paths[i % FILES], .name = files[i % FILES], .label = (int32_t)(i % 5), .index = 100 + i};
    for (size_t i = 0; i < FILES; i++) {
        struct t2t_picture_report report;
        if (t2t_picture_crop(paths[i], &preprocess, crops[i], &report)) continue;
        t2t_picture_normalise(crops[i], &preprocess, pixels[i]);
        widths[i] = report.width;
    }
    return 0;
}

static bool is_bad(size_t sample)
{
    return sample % FILES == 2 || sample % FILES == 5;
}

static void check_batch(const struct t2t_batch *batch, size_t *next)
{
    size_t good = 0, bad = 0;
    for (size_t i = 0; i < batch->count + batch->failed_count; i++, ++*next) {
        if (is_bad(*next)) {
            assert_int_equal(batch->failed[bad].sample, *next);
            assert_int_equal(batch->failed[bad].status, T2T_BAD_DATA);
            assert_non_null(strstr(batch->failed[bad].reason, files[*next % FILES]));
            bad++;
            continue;
        }
        assert_int_equal(batch->sample[good], *next);
        assert_int_equal(batch->label[good], *next % 5);
        assert_int_equal(batch->image_index[good], 100 + *next);
        const size_t file = *next % FILES;
        assert_memory_equal(batch->crops + good * BYTES, crops[file], sizeof crops[file]);
        assert_memory_equal(batch->pixels + good * BYTES, pixels[file], sizeof pixels[file]);
        assert_int_equal(batch->report[good].width, widths[file]);
        good++;
    }
    assert_int_equal(good, batch->count);
    assert_int_equal(bad, batch->failed_count);
}

static void same_batches_for_any_workers(void **state)
{
    (void)state;
    for (size_t workers = 1; workers <= 4; workers++)
        for (size_t size = 1; size <= 30; size += size < 8 ? 2 : 7)
            for (size_t ahead = 0; ahead <= T2T_MOST_AHEAD; ahead++) {
                const struct t2t_loader_options options = {
                    .preprocess = preprocess, .batch = size, .workers = workers, .ahead = ahead};
                struct t2t_loader *loader;
                if (t2t_loader_open(&loader, &dataset, &options)) fail_msg("%s", t2t_last_error());
                size_t next = 0;
                for (const struct t2t_batch *batch; (batch = t2t_loader_next(loader));) check_batch(batch, &next);
                assert_int_equal(next, PICTURES);
                assert_null(t2t_loader_next(loader));
                t2t_loader_close(loader);
            }
}

/* While one batch is held, the next comes into sight, and only where workers go ahead. */
static void shows_the_next_batch(void **state)
{
    (void)state;
    for (size_t ahead = 0; ahead <= T2T_MOST_AHEAD; ahead++) {
        const struct t2t_loader_options options = {.preprocess = preprocess, .batch = 4, .workers = 2, .ahead = ahead};
        struct t2t_loader *loader;
        size_t next = 0;
        if (t2t_loader_open(&loader, &dataset, &options)) fail_msg("%s", t2t_last_error());
        for (const struct t2t_batch *batch; (batch = t2t_loader_next(loader));) {
            const struct t2t_batch *shown = t2t_loader_peek(loader);
            for (int ms = 0; ahead && !shown && next + 4 < PICTURES && ms < 10000; ms++) {
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
                shown = t2t_loader_peek(loader);
            }
            size_t after = next + batch->count + batch->failed_count;
            assert_true((shown != NULL) == (ahead && after < PICTURES));
            if (shown) {
                check_batch(shown, &after);
                assert_ptr_equal(t2t_loader_peek(loader), shown);
            }
            check_batch(batch, &next); /* as it was */
        }
        assert_int_equal(next, PICTURES);
        assert_null(t2t_loader_peek(loader));
        t2t_loader_close(loader);
    }
}

static void closes_at_any_moment(void **state)
{
    (void)state;
    for (size_t taken = 0; taken < 6; taken++) {
        const struct t2t_loader_options options = {
            .preprocess = preprocess, .batch = 4, .workers = 3, .ahead = taken % 3};
        struct t2t_loader *loader;
        if (t2t_loader_open(&loader, &dataset, &options)) fail_msg("%s", t2t_last_error());
        for (size_t i = 0; i < taken; i++) assert_non_null(t2t_loader_next(loader));
        t2t_loader_close(loader);
    }
    t2t_loader_close(NULL);
}

static void normalises_as_torchvision(void **state)
{
    (void)state;
    const struct t2t_preprocess one = {
        .image_size = 1, .mean = {0.485F, 0.456F, 0.406F}, .std = {0.229F, 0.224F, 0.225F}};
    const uint8_t crop[3] = {0, 128, 255};
    float normalised[3];
    t2t_picture_normalise(crop, &one, normalised);
    /* torchvision's ToTensor and Normalize on the same bytes */
    const float expected[3] = {-2.1179039478302F, 0.20518219470978F, 2.6400001049042F};
    for (size_t i = 0; i < 3; i++) assert_true(normalised[i] == expected[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_batches_for_any_workers),
        cmocka_unit_test(shows_the_next_batch),
        cmocka_unit_test(closes_at_any_moment),
        cmocka_unit_test(normalises_as_torchvision),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
