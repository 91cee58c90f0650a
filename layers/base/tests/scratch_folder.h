/* A folder of a test's own, with one path in it. */
#ifndef T2T_LAYERS_BASE_TESTS_SCRATCH_FOLDER_H
#define T2T_LAYERS_BASE_TESTS_SCRATCH_FOLDER_H

#include <stddef.h>

extern char scratch_folder[], scratch_path[64];

/* cmocka's set-up and tear-down of a group; tear-down fails where something but scratch_path was left behind. */
int make_scratch_folder(void **state);
int remove_scratch_folder(void **state);

size_t files_in_scratch_folder(void);

#endif
