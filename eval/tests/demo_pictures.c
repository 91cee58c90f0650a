/* Demo pictures: a picture is its seed and index and nothing else, every class comes, sizes keep their limits, and what
 * is drawn is written as a JPEG that appears whole or not at all.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/demo_pictures.h"
#include "loaders/jpeg_encode.h"

static struct demo_picture drawn(uint64_t seed, uint64_t index)
{
    struct demo_picture picture;
    assert_int_equal(t2t_demo_draw(seed, index, &picture), T2T_OK);
    return picture;
}

static bool same_picture(const struct demo_picture *a, const struct demo_picture *b)
{
    return a->width == b->width && a->height == b->height && a->quality == b->quality &&
           memcmp(a->pixels, b->pixels, a->width * a->height * 3) == 0;
}

static uint64_t digest(const struct demo_picture *picture)
{
    uint64_t sum = 14695981039346656037U; /* FNV-1a */
    for (size_t i = 0; i < picture->width * picture->height * 3; i++) sum = (sum ^ picture->pixels[i]) * 1099511628211U;
    return sum;
}

static void picture_is_its_seed_and_index(void **state)
{
    (void)state;
    for (uint64_t index = 0; index < T2T_DEMO_CLASSES; index++) {
        struct demo_picture first = drawn(5, index), again = drawn(5, index);
        struct demo_picture other_seed = drawn(6, index), other_index = drawn(5, index + T2T_DEMO_CLASSES);
        assert_true(same_picture(&first, &again));
        assert_false(same_picture(&first, &other_seed));
        assert_false(same_picture(&first, &other_index));
        free(first.pixels);
        free(again.pixels);
        free(other_seed.pixels);
        free(other_index.pixels);
    }
}

/* One picture a class, as it was when the demo network was trained: every compiler and machine draws these pixels. */
static void pixels_are_those_of_every_machine(void **state)
{
    (void)state;
    static const uint64_t expected[T2T_DEMO_CLASSES] = {
        UINT64_C(0x935ce78749ff1585),
        UINT64_C(0xf42a6fd9683ec770),
        UINT64_C(0x3954a5635bd8f885),
        UINT64_C(0x4f4aeed7154cd065),
        UINT64_C(0x1650d6e2a813ab9c),
        UINT64_C(0xb15d7d35f24ae593),
        UINT64_C(0x77f22088e9471392),
        UINT64_C(0x6028a58470d68056),
        UINT64_C(0x1d6dbb49808d65e9),
        UINT64_C(0xa6db2ea638d610b0),
        UINT64_C(0x1b4cf0e469e89a39),
        UINT64_C(0xcf2ddf630ce0a465),
    };
    for (uint64_t index = 0; index < T2T_DEMO_CLASSES; index++) {
        struct demo_picture picture = drawn(5, index);
        assert_int_equal(digest(&picture), expected[index]);
        free(picture.pixels);
    }
}

static void classes_take_turns_and_sizes_keep_limits(void **state)
{
    (void)state;
    size_t landscapes = 0, portraits = 0;
    for (uint64_t index = 0; index < 120; index++) {
        struct demo_picture picture = drawn(7, index);
        assert_int_equal(picture.label, index % T2T_DEMO_CLASSES);
        assert_in_range(picture.width, 240, 800);
        assert_in_range(picture.height, 230, 600);
        assert_in_range(picture.quality, 70, 95);
        landscapes += picture.width > picture.height;
        portraits += picture.width < picture.height;
        free(picture.pixels);
    }
    assert_in_range(landscapes, 40, 110);
    assert_in_range(portraits, 10, 60);
}

static void class_names_are_sorted(void **state)
{
    (void)state;
    for (size_t i = 0; i + 1 < T2T_DEMO_CLASSES; i++)
        assert_true(strcmp(t2t_demo_class_names[i], t2t_demo_class_names[i + 1]) < 0);
}

static size_t files_in(const char *path)
{
    DIR *folder = opendir(path);
    assert_non_null(folder);
    size_t count = 0;
    for (const struct dirent *entry; (entry = readdir(folder));) count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void jpeg_is_written_whole_or_not_at_all(void **state)
{
    (void)state;
    char folder[] = "/tmp/t2tvit_draw_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.JPEG", folder);
    struct demo_picture picture = drawn(5, 0);
    for (int quality = 70; quality < 96; quality += 25) /* the second replaces the first */
        assert_int_equal(t2t_jpeg_write(path, picture.pixels, picture.width, picture.height, quality), T2T_OK);
    unsigned char bytes[4] = {0};
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, 2, file), 2);
    assert_int_equal(fseek(file, -2, SEEK_END), 0);
    assert_int_equal(fread(bytes + 2, 1, 2, file), 2);
    fclose(file);
    assert_memory_equal(bytes, "\xff\xd8\xff\xd9", 4);
    assert_int_equal(files_in(folder), 1);
    unlink(path);

    assert_int_equal(t2t_jpeg_write(path, picture.pixels, 70000, 1, 90), T2T_CANNOT_WRITE);
    assert_non_null(strstr(t2t_last_error(), path));
    assert_int_equal(files_in(folder), 0);
    assert_int_equal(mkdir(path, 0777), 0); /* a folder of that name cannot be replaced by a file */
    assert_int_equal(t2t_jpeg_write(path, picture.pixels, picture.width, picture.height, 90), T2T_CANNOT_WRITE);
    assert_non_null(strstr(t2t_last_error(), path));
    assert_int_equal(files_in(folder), 1);
    rmdir(path);
    rmdir(folder);
    assert_int_equal(t2t_jpeg_write(path, picture.pixels, picture.width, picture.height, 90), T2T_CANNOT_WRITE);
    free(picture.pixels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picture_is_its_seed_and_index),
        cmocka_unit_test(pixels_are_those_of_every_machine),
        cmocka_unit_test(classes_take_turns_and_sizes_keep_limits),
        cmocka_unit_test(class_names_are_sorted),
        cmocka_unit_test(jpeg_is_written_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
