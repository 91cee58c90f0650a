/* The JSON at the beginning of a safetensors file. Internal to weights/.
 */
#ifndef T2T_WEIGHTS_SAFETENSORS_HEADER_H
#define T2T_WEIGHTS_SAFETENSORS_HEADER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

/* Reads the header of an open file. *header is to be released with json_decref(); *data_begins lies in the file or at
 * its end. T2T_BAD_MODEL when it is something else, damaged or beyond the bounds. */
enum t2t_status t2t_safetensors_header(
    json_t **header, size_t *data_begins, const char *path, int descriptor, uint64_t size);

#endif
