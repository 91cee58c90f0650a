/* t2tvit-classify --tensor-digest prints the sha256 that timm's crops have, without any weights, as sha256sum prints it.
 *
 * Reads the folder preprocess/ of $T2TVIT_GOLDEN, else that of the loaders' tests. The first argument is the folder of
 * the programs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/tests/written.h"

static char golden[1024];

/* One run over all pictures of the list. */
static void digests_of_size(const json_t *cases, const char *crop_pct, const char *interpolation, const char *size)
{
    char list[96], key[32], path[2048];
    snprintf(list, sizeof list, "%s/list", shop.folder);
    FILE *names = fopen(list, "w");
    assert_non_null(names);
    for (size_t i = 0; i < json_array_size(cases); i++)
        fprintf(names, "%s/%s\n", golden, text_at(json_array_get(cases, i), "file"));
    fclose(names);
    const struct result result =
        command_run(shop.classify, (const char *const[]){"--tensor-digest", "--img-size", size, "--crop-pct", crop_pct,
                                       "--interpolation", interpolation, "--files-from", list, "-b", "5", NULL});
    command_expect(&result, 0, "");
    const char *line = result.out;
    snprintf(key, sizeof key, "crop_%s_sha256", size);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *picture = json_array_get(cases, i);
        snprintf(path, sizeof path, "%s  %s/%s\n", text_at(picture, key), golden, text_at(picture, "file"));
        if (strncmp(line, path, strlen(path)) != 0) fail_msg("expected %sfound %.300s", path, line);
        line += strlen(path);
    }
    assert_string_equal(line, "");
}

static void crops(void **state)
{
    (void)state;
    char path[1100], crop_pct[32];
    snprintf(path, sizeof path, "%s/index.json", golden);
    char *text = file_text(path);
    json_t *index = parsed(text);
    free(text);
    const json_t *cases = at(index, "cases");
    snprintf(crop_pct, sizeof crop_pct, "%.17g", json_number_value(at(index, "crop_pct")));
    if (!json_array_size(cases)) fail_msg("%s: lists no cases", path);
    digests_of_size(cases, crop_pct, text_at(index, "interpolation"), "224");
    digests_of_size(cases, crop_pct, text_at(index, "interpolation"), "384");
    print_message("compared %zu files of %s\n", json_array_size(cases), golden);
    json_decref(index);
}

/* The same escapes as sha256sum's, which can therefore name the line's file. */
static void escaped_names(void **state)
{
    (void)state;
    const struct result result = SHELL("cd \"$D\" && cp \"$P/dots/dots_5_5.JPEG\" plain.JPEG && "
                                       "for name in \"$(printf 'a\\nb.JPEG')\" 'c\\d.JPEG' \"$(printf 'e\\rf.JPEG')\" "
                                       "\"$(printf '\\351.JPEG')\" ' g .JPEG'; do cp plain.JPEG \"$name\"; "
                                       "\"$CLASSIFY\" --tensor-digest \"$name\" | sed 's/[0-9a-f]\\{64\\}/SUM/'; done");
    command_expect(&result, 0, "");
    assert_string_equal(
        result.text, "\\SUM  a\\nb.JPEG\n\\SUM  c\\\\d.JPEG\n\\SUM  e\\rf.JPEG\nSUM  \351.JPEG\nSUM   g .JPEG\n");
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    const char *root = getenv("T2TVIT_GOLDEN");
    snprintf(golden, sizeof golden, "%s/preprocess", root ? root : "../loaders/tests/golden");
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crops),
        cmocka_unit_test(escaped_names),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
