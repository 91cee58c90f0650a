/* Every set of resampling kernels gives the bytes of plain C: random pictures and sizes, enlarged, reduced and kept, so
 * that every edge of a vector comes up, and weights of any size. Inputs and outputs end where memory may not be touched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "loaders/resample_kernels.h"

static uint32_t state = 1;

static uint32_t random_below(uint32_t bound)
{
    state = state * 1664525 + 1013904223; /* Numerical Recipes */
    return (uint32_t)((uint64_t)state * bound >> 32);
}

/* Bytes that end right before a page that nobody may read. */
struct fenced {
    uint8_t *map, *bytes;
    size_t mapped;
};

static struct fenced fence(size_t count)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (count + page - 1) / page * page;
    struct fenced fenced = {.mapped = room + page};
    fenced.map = mmap(NULL, fenced.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(fenced.map, MAP_FAILED);
    assert_int_equal(mprotect(fenced.map + room, page, PROT_NONE), 0);
    fenced.bytes = fenced.map + room - count;
    return fenced;
}

static void unfence(struct fenced *fenced)
{
    munmap(fenced->map, fenced->mapped);
}

static const struct resample_kernels *plain_c(void)
{
    size_t last = 0;
    while (t2t_resample_sets[last + 1]) last++;
    assert_string_equal(t2t_resample_sets[last]->name, "c");
    return t2t_resample_sets[last];
}

static void compare(const struct resample_kernels *set, const struct resample *shape)
{
    const size_t in = shape->in_width * shape->in_height * 3, out = shape->side * shape->side * 3;
    struct fenced picture = fence(in), found = fence(out), wanted = fence(out);
    const bool sharp = random_below(2); /* black and white overshoots both ends of a byte */
    for (size_t i = 0; i < in; i++) picture.bytes[i] = (uint8_t)(sharp ? 255 * random_below(2) : random_below(256));
    assert_int_equal(t2t_resample_with(set, shape, picture.bytes, found.bytes), T2T_OK);
    assert_int_equal(t2t_resample_with(plain_c(), shape, picture.bytes, wanted.bytes), T2T_OK);
    if (memcmp(found.bytes, wanted.bytes, out) != 0)
        fail_msg("%s: %zu x %zu to %zu x %zu, %zu pixels at %zu, %zu differ from plain C", set->name, shape->in_width,
            shape->in_height, shape->out_width, shape->out_height, shape->side, shape->left, shape->top);
    unfence(&picture);
    unfence(&found);
    unfence(&wanted);
}

static void equals_plain_c(void **unused)
{
    (void)unused;
    for (size_t set = 0; t2t_resample_sets[set]; set++) {
        if (!t2t_resample_sets[set]->supported()) continue;
        for (size_t i = 0; i < 600; i++) {
            const uint32_t most = i % 20 == 0 ? 900 : 60;
            struct resample shape = {.in_width = 1 + random_below(most),
                .in_height = 1 + random_below(most),
                .interpolation = random_below(2) ? T2T_BICUBIC : T2T_BILINEAR};
            shape.out_width = random_below(5) ? 1 + random_below(70) : shape.in_width;
            shape.out_height = random_below(5) ? 1 + random_below(70) : shape.in_height;
            const size_t shorter = shape.out_width < shape.out_height ? shape.out_width : shape.out_height;
            shape.side = 1 + random_below((uint32_t)shorter);
            shape.left = random_below((uint32_t)(shape.out_width - shape.side + 1));
            shape.top = random_below((uint32_t)(shape.out_height - shape.side + 1));
            compare(t2t_resample_sets[set], &shape);
        }
        print_message("  %s: 600 sizes\n", t2t_resample_sets[set]->name);
    }
}

/* Weights up to the largest that 16 bits of high part hold. */
static void any_weights(void **unused)
{
    (void)unused;
    enum { BYTES = 77, MOST = 40 };
    for (size_t set = 0; t2t_resample_sets[set]; set++)
        for (size_t i = 0; i < 200 && t2t_resample_sets[set]->supported(); i++) {
            const size_t used = 1 + random_below(MOST);
            struct fenced in = fence(BYTES * used);
            int32_t tap[MOST];
            for (size_t t = 0; t < BYTES * used; t++) in.bytes[t] = (uint8_t)random_below(256);
            for (size_t t = 0; t < used; t++) tap[t] = (int32_t)random_below(1 << 24) - (1 << 23);
            for (size_t t = 0; t < used; t++) tap[t] /= (int32_t)used; /* plain C's sum must not overflow */
            uint8_t found[BYTES], wanted[BYTES];
            t2t_resample_sets[set]->along_columns(in.bytes, BYTES, tap, used, found);
            plain_c()->along_columns(in.bytes, BYTES, tap, used, wanted);
            assert_memory_equal(found, wanted, BYTES);
            unfence(&in);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_plain_c),
        cmocka_unit_test(any_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
