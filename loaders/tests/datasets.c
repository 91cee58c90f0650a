/* Layouts and label lists: every rule that gives a picture its label, and every contradiction that is refused. */
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

#include "loaders/dataset.h"
#include "loaders/imagenet_classes.h"

static char root[64];
static const char *const names[] = {"ant", "bee and wasp", "cat"};

static void make(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    if (full[strlen(full) - 1] == '/') return;
    FILE *file = fopen(full, "wb");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/t2tvit_data_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static char *path_of(const char *relative)
{
    static char full[512];
    snprintf(full, sizeof full, "%s/%s", root, relative);
    return full;
}

static struct t2t_dataset opened(const struct t2t_dataset_options *options)
{
    struct t2t_dataset dataset;
    if (t2t_dataset_open(&dataset, options)) fail_msg("%s", t2t_last_error());
    return dataset;
}

static void refused(const struct t2t_dataset_options *options, enum t2t_status expected, const char *word)
{
    struct t2t_dataset dataset;
    assert_int_equal(t2t_dataset_open(&dataset, options), expected);
    assert_int_equal(dataset.count, 0);
    if (!strstr(t2t_last_error(), word)) fail_msg("\"%s\" does not say \"%s\"", t2t_last_error(), word);
}

static void wnids_are_ranked_among_all_thousand(void **state)
{
    (void)state;
    make("val/n15075141/b.JPEG", "");
    make("val/n01440764/z.JPEG", "");
    make("val/n01440764/A.jpg", "");
    make("val/n01440764/note.txt", "");
    make("val/n01440764/.hidden.jpg", "");
    make("val/n01751748/x.JpEg", "");
    const char *const roots[] = {"val", "val/", ""};
    for (size_t i = 0; i < 3; i++) { /* the folder itself, or the one above */
        struct t2t_dataset dataset =
            opened(&(struct t2t_dataset_options){.path = path_of(roots[i]), .num_classes = 1000});
        assert_string_equal(dataset.layout, "wnid");
        assert_int_equal(dataset.count, 4);
        assert_int_equal(dataset.total, 4);
        assert_int_equal(dataset.classes_present, 3);
        assert_int_equal(dataset.smallest_class, 1);
        assert_int_equal(dataset.largest_class, 2);
        assert_int_equal(dataset.ignored, 1);
        assert_non_null(strstr(dataset.first_ignored, "note.txt"));
        const int32_t labels[] = {0, 0, 65, 999};
        const char *const sorted[] = {"n01440764/A.jpg", "n01440764/z.JPEG", "n01751748/x.JpEg", "n15075141/b.JPEG"};
        for (size_t j = 0; j < 4; j++) {
            assert_string_equal(dataset.samples[j].name, sorted[j]);
            assert_int_equal(dataset.samples[j].label, labels[j]);
            assert_int_equal(dataset.samples[j].index, j);
            assert_int_equal(access(dataset.samples[j].path, R_OK), 0);
        }
        t2t_dataset_close(&dataset);
    }
    refused(&(struct t2t_dataset_options){.path = path_of("val"), .num_classes = 3, .class_names = names}, T2T_BAD_DATA,
        "3 classes");
    make("val/n99999999/x.JPEG", "");
    refused(&(struct t2t_dataset_options){.path = path_of("val"), .num_classes = 1000}, T2T_BAD_DATA, "n99999999");
}

static void class_folders_follow_the_weights(void **state)
{
    (void)state;
    make("cat/1.png", "");
    make("bee and wasp/2.jpg", "");
    struct t2t_dataset_options options = {.path = root, .num_classes = 3, .class_names = names};
    struct t2t_dataset dataset = opened(&options);
    assert_string_equal(dataset.layout, "classes");
    assert_int_equal(dataset.count, 2);
    assert_int_equal(dataset.samples[0].label, 1);
    assert_int_equal(dataset.samples[1].label, 2);
    t2t_dataset_close(&dataset);
    make("dog/3.jpg", "");
    refused(&options, T2T_BAD_DATA, "dog: is no class of these weights; they know ant, bee and wasp, cat");
    options.class_names = NULL;
    refused(&options, T2T_BAD_DATA, "class_names");
}

static void equal_class_names_say_nothing(void **state)
{
    (void)state;
    static const char *const twins[] = {"crane", "ant", "crane"};
    make("twins/ant/1.png", "");
    make("twins/crane/2.png", "");
    make("flat/1.png", "");
    make("twins.txt", "1.png crane\n");
    make("one.txt", "1.png ant\n");
    struct t2t_dataset_options options = {.num_classes = 3, .class_names = twins};
    char path[512], list[512];
    snprintf(path, sizeof path, "%s/twins", root);
    options.path = path;
    refused(&options, T2T_BAD_DATA, "/twins/crane: the weights call more than one class by this name");
    snprintf(path, sizeof path, "%s/flat", root);
    snprintf(list, sizeof list, "%s/twins.txt", root);
    options.labels = list;
    refused(&options, T2T_BAD_DATA, "line 1: the weights call more than one class \"crane\"");
    snprintf(list, sizeof list, "%s/one.txt", root);
    struct t2t_dataset dataset = opened(&options);
    assert_int_equal(dataset.samples[0].label, 1);
    t2t_dataset_close(&dataset);
}

static void a_list_is_for_one_flat_folder(void **state)
{
    (void)state;
    make("ant/1.png", "");
    make("list.txt", "1.png 2\n");
    char list[512];
    snprintf(list, sizeof list, "%s/list.txt", root);
    refused(&(struct t2t_dataset_options){.path = root, .num_classes = 3, .class_names = names, .labels = list},
        T2T_BAD_USAGE, "its folders say the labels");
}

static void numbered_folders_are_named(void **state)
{
    (void)state;
    make("0/a.jpeg", "");
    make("10/a.jpeg", "");
    refused(&(struct t2t_dataset_options){.path = root, .num_classes = 1000}, T2T_BAD_DATA, "ImageNet-V2");
}

static void a_limit_spreads_over_the_list(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s/%d.jpg", i < 5 ? "ant" : "cat", i);
        make(name, "");
    }
    struct t2t_dataset_options options = {.path = root, .num_classes = 3, .class_names = names, .limit = 4};
    struct t2t_dataset dataset = opened(&options);
    assert_int_equal(dataset.count, 4);
    assert_int_equal(dataset.total, 10);
    const uint64_t index[] = {0, 2, 5, 7};
    for (size_t i = 0; i < 4; i++) assert_int_equal(dataset.samples[i].index, index[i]);
    t2t_dataset_close(&dataset);
    options.limit = 99;
    dataset = opened(&options);
    assert_int_equal(dataset.count, 10);
    t2t_dataset_close(&dataset);
}

static void label_lists(void **state)
{
    (void)state;
    make("p/ILSVRC2012_val_00000001.JPEG", "");
    make("p/ILSVRC2012_val_00000002.JPEG", "");
    make("p/ILSVRC2012_val_00000003.JPEG", "");
    static const struct {
        const char *text, *kind, *found;
        int32_t label[3];
    } good[] = {
        {"65\n970\n230\n", "auto", "index", {65, 970, 230}},
        {"ILSVRC2012_val_00000003.JPEG 230\r\nILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 0\n",
            "auto", "index", {65, 0, 230}},
        {"val/ILSVRC2012_val_00000003.JPEG\t7\nval/ILSVRC2012_val_00000001.JPEG\t8\nILSVRC2012_val_00000002\t9", "auto",
            "index", {8, 9, 7}},
        {"490\n361\n171\n", "ilsvrc-id", "ilsvrc-id", {65, 970, 230}},
        {"n01751748\nn01440764\nn15075141\n", "auto", "wnid", {65, 0, 999}},
        {"ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 1 2 3 4 n01440764 5 6 7 8\n"
         "ILSVRC2012_val_00000001,n01751748 1 2 3 4\nILSVRC2012_val_00000003,n15075141 1 2 3 4\n",
            "auto", "wnid", {65, 0, 999}},
    };
    struct t2t_dataset_options options = {.num_classes = 1000};
    char pictures[128], list[128];
    snprintf(pictures, sizeof pictures, "%s/p", root);
    snprintf(list, sizeof list, "%s/labels.txt", root);
    options.path = pictures;
    refused(&options, T2T_BAD_DATA, "--labels");
    options.labels = list;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        make("labels.txt", good[i].text);
        options.label_kind = good[i].kind;
        struct t2t_dataset dataset = opened(&options);
        assert_string_equal(dataset.layout, "flat");
        assert_string_equal(dataset.label_kind, good[i].found);
        for (size_t j = 0; j < 3; j++) assert_int_equal(dataset.samples[j].label, good[i].label[j]);
        t2t_dataset_close(&dataset);
    }
    static const struct {
        const char *text, *kind, *word;
    } bad[] = {
        {"", "auto", "no labels"},
        {"1\n2\n", "auto", "2 labels for 3 pictures"},
        {"1000\n1\n2\n", "auto", "ilsvrc-id"},
        {"0\n1\n1000\n", "auto", "line 3"},
        {"0\n-1\n2\n", "auto", "line 2"},
        {"0\n1\n1001\n", "ilsvrc-id", "line 1"},
        {"n01440764\nn01440765\nn01751748\n", "auto", "n01440765"},
        {"ILSVRC2012_val_00000001 1\n5\nILSVRC2012_val_00000003 1\n", "auto", "line 2"},
        {"ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000002 1\n", "auto", "no label for ILSVRC2012_val_00000003.JPEG"},
        {"ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000001.JPEG 2\n", "auto", "second label"},
        {"tench\ntench\ntench\n", "auto", "tench"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        make("labels.txt", bad[i].text);
        options.label_kind = bad[i].kind;
        refused(&options, T2T_BAD_DATA, bad[i].word);
    }
    options.label_kind = "colour";
    make("labels.txt", "1\n1\n1\n");
    refused(&options, T2T_BAD_USAGE, "colour");
    unlink(list);
    options.label_kind = "auto";
    refused(&options, T2T_BAD_DATA, "labels.txt");
}

static void names_as_labels(void **state)
{
    (void)state;
    make("p/1.jpg", "");
    make("p/2.jpg", "");
    make("labels.txt", "bee and wasp\nant\n");
    char list[512];
    snprintf(list, sizeof list, "%s", path_of("labels.txt"));
    struct t2t_dataset_options options = {
        .path = path_of("p"), .labels = list, .num_classes = 3, .class_names = names, .layout = "flat"};
    struct t2t_dataset dataset = opened(&options);
    assert_string_equal(dataset.label_kind, "name");
    assert_int_equal(dataset.samples[0].label, 1);
    assert_int_equal(dataset.samples[1].label, 0);
    t2t_dataset_close(&dataset);
}

static void refuses_what_is_no_data_set(void **state)
{
    (void)state;
    struct t2t_dataset_options options = {.path = path_of("missing"), .num_classes = 1000};
    refused(&options, T2T_BAD_DATA, "missing");
    make("file.tar", "x");
    options.path = path_of("file.tar");
    refused(&options, T2T_BAD_DATA, "unpack an archive");
    make("empty/", "");
    options.path = path_of("empty");
    refused(&options, T2T_BAD_DATA, "neither class folders nor pictures");
    make("no_pictures/n01440764/readme.txt", "");
    options.path = path_of("no_pictures");
    refused(&options, T2T_BAD_DATA, "hold no pictures");
    options.layout = "zip";
    refused(&options, T2T_BAD_USAGE, "zip");
}

static void classes_are_imagenets(void **state)
{
    (void)state;
    assert_string_equal(t2t_imagenet_wnid(0), "n01440764");
    assert_string_equal(t2t_imagenet_name(999) ? t2t_imagenet_wnid(999) : "", "n15075141");
    assert_null(t2t_imagenet_wnid(1000));
    bool seen[1000] = {false};
    for (size_t i = 0; i < 1000; i++) {
        if (i) assert_true(strcmp(t2t_imagenet_wnid(i - 1), t2t_imagenet_wnid(i)) < 0);
        assert_int_equal(t2t_imagenet_index_of_wnid(t2t_imagenet_wnid(i)), i);
        const int32_t index = t2t_imagenet_index_of_ilsvrc_id((long)i + 1);
        assert_true(index >= 0 && !seen[index]);
        seen[index] = true;
    }
    /* the first five validation pictures: ILSVRC2012 ids and the indices they stand for */
    const long ids[] = {490, 361, 171, 822, 297};
    const int32_t indices[] = {65, 970, 230, 809, 516};
    for (size_t i = 0; i < 5; i++) assert_int_equal(t2t_imagenet_index_of_ilsvrc_id(ids[i]), indices[i]);
    assert_int_equal(t2t_imagenet_index_of_ilsvrc_id(0), -1);
    assert_int_equal(t2t_imagenet_index_of_ilsvrc_id(1001), -1);
}

#define WITH_FOLDER(TEST) cmocka_unit_test_setup_teardown(TEST, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(wnids_are_ranked_among_all_thousand),
        WITH_FOLDER(class_folders_follow_the_weights),
        WITH_FOLDER(equal_class_names_say_nothing),
        WITH_FOLDER(a_list_is_for_one_flat_folder),
        WITH_FOLDER(numbered_folders_are_named),
        WITH_FOLDER(a_limit_spreads_over_the_list),
        WITH_FOLDER(label_lists),
        WITH_FOLDER(names_as_labels),
        WITH_FOLDER(refuses_what_is_no_data_set),
        cmocka_unit_test(classes_are_imagenets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
