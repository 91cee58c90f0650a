#include "layers/base/tests/scratch_folder.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

char scratch_folder[] = "/tmp/t2tvit_test_XXXXXX", scratch_path[64];

int make_scratch_folder(void **state)
{
    (void)state;
    if (!mkdtemp(scratch_folder)) return -1;
    return snprintf(scratch_path, sizeof scratch_path, "%s/file", scratch_folder) < 0;
}

int remove_scratch_folder(void **state)
{
    (void)state;
    unlink(scratch_path);
    return rmdir(scratch_folder);
}

size_t files_in_scratch_folder(void)
{
    DIR *folder = opendir(scratch_folder);
    assert_non_null(folder);
    size_t count = 0;
    while (readdir(folder)) count++;
    closedir(folder);
    return count - 2; /* itself and its parent */
}
