/* Real checkpoints, damaged: cut at every two hundredth, and five hundred times one flipped bit. Whatever comes of it is an
 * answer, and what is accepted of a form with checksums holds the right numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "weights/checkpoint.h"

#define GOLDEN "tests/golden/checkpoints/"

enum { CUTS = 200, FLIPS = 500, LAST_BYTES = 6000 };

static char path[] = "/tmp/t2tvit_damaged_XXXXXX";
static int descriptor;

static int make_file(void **state)
{
    (void)state;
    descriptor = mkstemp(path);
    return descriptor < 0 ? -1 : 0;
}

static int remove_file(void **state)
{
    (void)state;
    close(descriptor);
    return unlink(path);
}

static size_t copy_golden(const char *name)
{
    static char block[1 << 16];
    char from[128];
    snprintf(from, sizeof from, GOLDEN "%s", name);
    FILE *file = fopen(from, "rb");
    assert_non_null(file);
    assert_int_equal(ftruncate(descriptor, 0), 0);
    off_t size = 0;
    for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0; size += (off_t)got)
        assert_int_equal(pwrite(descriptor, block, got, size), (ssize_t)got);
    fclose(file);
    return (size_t)size;
}

static void flip(uint64_t bit)
{
    unsigned char byte;
    assert_int_equal(pread(descriptor, &byte, 1, (off_t)(bit / 8)), 1);
    byte ^= (unsigned char)(1 << bit % 8);
    assert_int_equal(pwrite(descriptor, &byte, 1, (off_t)(bit / 8)), 1);
}

/* *checkpoint is loaded, or NULL. */
static enum t2t_status load(struct t2t_checkpoint **checkpoint)
{
    const struct t2t_checkpoint_options options = {0};
    enum t2t_status status = t2t_checkpoint_open(checkpoint, path, &options);
    if (!status) status = t2t_checkpoint_load(*checkpoint, NULL);
    if (!status) return status;
    if (status != T2T_BAD_MODEL || !strstr(t2t_last_error(), path)) fail_msg("status %d: %s", status, t2t_last_error());
    t2t_checkpoint_close(*checkpoint);
    *checkpoint = NULL;
    return status;
}

static void same_tensors(const struct t2t_checkpoint *one, const struct t2t_checkpoint *other, uint64_t bit)
{
    if (t2t_checkpoint_count(one) != t2t_checkpoint_count(other)) fail_msg("bit %llu", (unsigned long long)bit);
    for (size_t i = 0; i < t2t_checkpoint_count(one); i++) {
        const struct t2t_tensor *a = t2t_checkpoint_at(one, i), *b = t2t_checkpoint_at(other, i);
        if (strcmp(a->name, b->name) != 0 || a->dtype != b->dtype || a->elements != b->elements ||
            memcmp(a->data, b->data, a->elements * t2t_dtype_bytes(a->dtype)) != 0)
            fail_msg("%s is other numbers when bit %llu is flipped", a->name, (unsigned long long)bit);
    }
}

/* Knuth's MMIX generator; the same bits on every run. */
static uint64_t draw(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* Every other bit anywhere, the others where a file describes itself: at its beginning and its end. */
static uint64_t draw_bit(uint64_t *seed, size_t size, size_t i)
{
    const uint64_t place = i % 2 ? draw(seed) % size : draw(seed) % (2 * LAST_BYTES);
    const uint64_t byte = i % 2 || place < LAST_BYTES ? place : size - 1 - (place - LAST_BYTES);
    return 8 * byte + draw(seed) % 8;
}

static void damage(const char *name, bool checksums)
{
    struct t2t_checkpoint *sound, *damaged;
    size_t accepted = 0;
    const size_t size = copy_golden(name);
    assert_true(size > (size_t)4 * LAST_BYTES);
    assert_int_equal(load(&sound), T2T_OK); /* only looked at when it is no mapping */
    uint64_t seed = 1;
    for (size_t i = 0; i < FLIPS; i++) {
        const uint64_t bit = draw_bit(&seed, size, i);
        flip(bit);
        if (load(&damaged) == T2T_OK) {
            accepted++;
            if (checksums) same_tensors(sound, damaged, bit);
            t2t_checkpoint_close(damaged);
        }
        flip(bit);
    }
    for (size_t i = CUTS; i-- > 0;) {
        assert_int_equal(ftruncate(descriptor, (off_t)(size * i / CUTS)), 0);
        assert_int_equal(load(&damaged), T2T_BAD_MODEL);
    }
    t2t_checkpoint_close(sound);
    print_message("  %s: accepted with %zu of %d flipped bits\n", name, accepted, FLIPS);
}

static void zip_archives(void **state)
{
    (void)state;
    damage("transformer_zip.pth.tar", true);
    damage("transformer_training_ema.pth.tar", true);
}

static void legacy_streams(void **state)
{
    (void)state;
    damage("transformer_legacy.pth.tar", false);
    damage("transformer_dataparallel_legacy.pth.tar", false);
}

static void safetensors(void **state)
{
    (void)state;
    damage("transformer_expected.safetensors", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zip_archives),
        cmocka_unit_test(legacy_streams),
        cmocka_unit_test(safetensors),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
