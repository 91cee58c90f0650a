/* Writes a picture as a JPEG file (libjpeg-turbo, integer DCT, chroma halved both ways as cameras do). */
#ifndef T2T_LOADERS_JPEG_ENCODE_H
#define T2T_LOADERS_JPEG_ENCODE_H

#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

/* pixels [height, width, 3] RGB; quality 1 ... 100. The file appears whole or not at all: it is written beside `path`
 * under a temporary name and then renamed, replacing what was there. T2T_CANNOT_WRITE with a sentence that names the
 * file; T2T_NO_RESOURCE when memory is short. */
enum t2t_status t2t_jpeg_write(const char *path, const uint8_t *pixels, size_t width, size_t height, int quality);

#endif
