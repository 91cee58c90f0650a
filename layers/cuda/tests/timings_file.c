/* What gpu/timings.c writes, on the emulation: every method, part, batch and way, and ratios that are ratios. The first
 * argument is the program.
 */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { METHODS = 7, PARTS = 4, BATCHES = 2, WAYS = 4 };

static const char *program;

static const char *text(const json_t *row, const char *key)
{
    const char *value = json_string_value(json_object_get(row, key));
    assert_non_null(value);
    return value;
}

static double number(const json_t *row, const char *key)
{
    assert_true(json_is_real(json_object_get(row, key)));
    return json_real_value(json_object_get(row, key));
}

static void every_method_has_its_times(void **state)
{
    (void)state;
    char path[] = "/tmp/timings.XXXXXX", command[1200];
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    snprintf(command, sizeof command, "'%s' %s --small >/dev/null", program, path);
    assert_int_equal(system(command), 0);
    json_t *report = json_load_file(path, 0, NULL);
    unlink(path);
    assert_non_null(report);
    assert_non_null(strstr(text(report, "device"), "emulation"));

    const json_t *rows = json_object_get(report, "results"), *row;
    assert_int_equal(json_array_size(rows), METHODS * PARTS * BATCHES * WAYS);
    size_t index, exact = 0, graphs = 0, halves = 0;
    json_array_foreach(rows, index, row)
    {
        const bool is_exact = strcmp(text(row, "method"), "exact") == 0;
        assert_true(number(row, "ms") > 0);
        if (is_exact) assert_true(number(row, "ratio_to_exact") == 1);
        /* the median of ratios and the ratio of medians are not the same, but not far */
        const json_t *same = json_array_get(rows, index - index % (METHODS * PARTS) + index % PARTS);
        assert_string_equal(text(same, "method"), "exact");
        assert_string_equal(text(same, "part"), text(row, "part"));
        const double ratio = number(row, "ms") / number(same, "ms") / number(row, "ratio_to_exact");
        assert_true(ratio > 0.1 && ratio < 10);
        exact += is_exact ? 1 : 0;
        halves += strcmp(text(row, "dtype"), "float16") == 0 ? 1 : 0;
        graphs += json_is_true(json_object_get(row, "cuda_graph")) ? 1 : 0;
    }
    assert_int_equal(exact, PARTS * BATCHES * WAYS);
    assert_int_equal(graphs, 2 * METHODS * PARTS * BATCHES);
    assert_int_equal(halves, METHODS * PARTS * BATCHES);

    const json_t *off = json_object_get(report, "logits_off_in_deviations");
    const char *method;
    json_t *value;
    assert_int_equal(json_object_size(off), METHODS);
    json_object_foreach((json_t *)off, method, value) assert_true(json_real_value(value) < 1e-4);
    json_decref(report);
}

int main(int argc, char **argv)
{
    if (argc < 2) return 1;
    program = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_method_has_its_times)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
