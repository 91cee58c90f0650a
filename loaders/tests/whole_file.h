/* Files as tests want them. */
#ifndef T2T_LOADERS_TESTS_WHOLE_FILE_H
#define T2T_LOADERS_TESTS_WHOLE_FILE_H

#include <stddef.h>
#include <stdint.h>

/* All bytes of a file, to be freed; fails the test where there are none. */
uint8_t *read_whole_file(const char *path, size_t *size);

#endif
