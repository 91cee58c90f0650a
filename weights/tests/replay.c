/* Runs a fuzz target on every file of the folders and files named as arguments, so that a stored corpus is a
 * regression test with any compiler. Fails when there was nothing to run.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static size_t run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    size_t bytes = 0, capacity = 1 << 16;
    uint8_t *data = malloc(capacity);
    for (size_t got; data && (got = fread(data + bytes, 1, capacity - bytes, file)) > 0;) {
        bytes += got;
        if (bytes < capacity) continue;
        capacity *= 2;
        uint8_t *larger = realloc(data, capacity);
        if (!larger) free(data);
        data = larger;
    }
    const int whole = data && !ferror(file);
    fclose(file);
    if (whole) {
        uint8_t *exact = malloc(bytes ? bytes : 1); /* so that AddressSanitizer sees the end */
        if (exact) {
            memcpy(exact, data, bytes);
            LLVMFuzzerTestOneInput(exact, bytes);
        }
        free(exact);
    }
    free(data);
    return whole ? 1 : 0;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static size_t run_folder(const char *folder)
{
    struct dirent **entries = NULL;
    const int count = scandir(folder, &entries, is_visible, alphasort);
    if (count < 0) return run_file(folder);
    size_t done = 0;
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        done += run_file(path);
        free(entries[i]);
    }
    free(entries);
    return done;
}

int main(int argc, char **argv)
{
    size_t done = 0;
    for (int i = 1; i < argc; i++) done += run_folder(argv[i]);
    printf("%zu inputs\n", done);
    return done ? EXIT_SUCCESS : EXIT_FAILURE;
}
