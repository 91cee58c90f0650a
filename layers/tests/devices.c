/* Choosing a device: the names, and every reason why a CUDA device cannot be used. Run once as the machine is, and once
 * with something in the place of NVIDIA's driver (LD_LIBRARY_PATH), so that modules are opened; these are the tests' own.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "layers/devices.h"

static bool have_driver(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (driver) dlclose(driver);
    return driver != NULL;
}

/* Whether `name` gives the device `expected` with these words of a reason or a failure. */
static void expect(const char *name, const char *expected, enum t2t_status status, const char *words)
{
    char reason[T2T_REASON_BYTES];
    const struct layer_ops *ops;
    struct layer_device_options options = {.threads = 3};
    assert_int_equal(t2t_device_choose(name, &ops, &options, reason), status);
    const char *text = status ? t2t_last_error() : reason;
    if (!strstr(text, words) || (!*words && *text)) fail_msg("%s: \"%s\", expected \"%s\"", name, text, words);
    if (!status) assert_string_equal(ops->name, expected);
    assert_int_equal(options.threads, 3);
}

static void use_module(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, MODULES "/%s", folder);
    setenv("T2TVIT_MODULES", path, 1);
}

static void refused(const char *words)
{
    expect("cuda", "", T2T_NO_RESOURCE, words);
    expect("cuda:1", "", T2T_NO_RESOURCE, words);
    expect("auto", "cpu", T2T_OK, words);
}

static void names(void **state)
{
    (void)state;
    expect("cpu", "cpu", T2T_OK, "");
    static const char *const wrong[] = {
        "", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:99999", "cuda1"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) expect(wrong[i], "", T2T_BAD_USAGE, "cuda:N");
}

static void without_a_driver(void **state)
{
    (void)state;
    if (have_driver()) skip();
    use_module("usable");
    refused("no NVIDIA driver");
}

/* A copy that was interrupted would end the program once it is touched. */
static void cut_short(void)
{
    char folder[] = "/tmp/t2tvit_devices_XXXXXX", path[64];
    static char bytes[1 << 20];
    FILE *whole = fopen(MODULES "/usable/libt2tvit_cuda.so", "rb");
    assert_non_null(whole);
    assert_non_null(mkdtemp(folder));
    const size_t count = fread(bytes, 1, sizeof bytes, whole);
    fclose(whole);
    snprintf(path, sizeof path, "%s/libt2tvit_cuda.so", folder);
    setenv("T2TVIT_MODULES", folder, 1);
    for (size_t length = 64; length < count; length += (count - 64) / 5) {
        FILE *part = fopen(path, "wb");
        assert_non_null(part);
        assert_int_equal(fwrite(bytes, 1, length, part), length);
        fclose(part);
        refused("is cut short");
    }
    remove(path);
    rmdir(folder);
}

static void modules(void **state)
{
    (void)state;
    if (!have_driver()) skip();
    static const char *const kinds[][2] = {{"nowhere", "$T2TVIT_MODULES has no libt2tvit_cuda.so"},
        {"missing_library", "cannot be loaded: libmodule_nowhere.so"}, {"other_abi", "belongs to another version"},
        {"no_entry", "belongs to another version"}, {"unusable", "no code for device"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        use_module(kinds[i][0]);
        refused(kinds[i][1]);
    }
    cut_short();
    use_module("usable");
    expect("cuda", "cuda", T2T_OK, "");
    expect("cuda:1", "cuda", T2T_OK, "");
    expect("auto", "cuda", T2T_OK, "");
    expect("cuda:2", "", T2T_NO_RESOURCE, "there are 2 devices");
    unsetenv("T2TVIT_MODULES");
    refused("the folder of the program or ../lib");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(without_a_driver),
        cmocka_unit_test(modules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
