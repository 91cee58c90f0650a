/* The directory of a zip archive, read apart from the library that unpacks it, so that the two can be compared: an
 * archive that says different things in different places is refused. Internal to weights/.
 */
#ifndef T2T_WEIGHTS_ZIP_DIRECTORY_H
#define T2T_WEIGHTS_ZIP_DIRECTORY_H

#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

struct zip_entry {
    char *name;
    uint64_t header, data, end; /* places in the file: local header, packed data, behind it */
    uint64_t packed, size;
};

struct zip_directory {
    struct zip_entry *entries; /* in the order of the file */
    size_t count;
    char *names;
};

/* Reads and checks the directory and every local header. At most 25,000 entries, stored or deflated, not encrypted,
 * no name twice, none overlapping another. Release with t2t_zip_directory_free(), also after a failure. */
enum t2t_status t2t_zip_directory_read(
    struct zip_directory *directory, const char *path, int descriptor, uint64_t file_size);
void t2t_zip_directory_free(struct zip_directory *directory);

#endif
