/* A decoded picture, and the decoders by format. Internal to loaders/. */
#ifndef T2T_LOADERS_PICTURE_H
#define T2T_LOADERS_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

/* More is refused before anything is allocated: Pillow's limit for pixels, and what no photograph needs. */
enum { T2T_MOST_PIXELS = 178956970, T2T_MOST_FILE_BYTES = 256 << 20, T2T_MOST_SCANS = 500 };

struct picture {
    size_t width, height;
    uint8_t *rgb; /* [height, width, 3]; free() it */
    bool warned;
    char warning[200]; /* the decoder's first warning */
};

/* Decodes a whole file as Pillow's convert("RGB") gives it, whatever format its first bytes show. T2T_BAD_DATA with a
 * sentence that begins with `name`, T2T_NO_RESOURCE; then picture->rgb is NULL. */
enum t2t_status t2t_picture_decode(const char *name, const void *bytes, size_t size, struct picture *picture);

enum t2t_status t2t_jpeg_decode(const char *name, const void *bytes, size_t size, struct picture *picture);
enum t2t_status t2t_png_decode(const char *name, const void *bytes, size_t size, struct picture *picture);

/* Checks a size and allocates picture->rgb. */
enum t2t_status t2t_picture_allocate(const char *name, size_t width, size_t height, struct picture *picture);

#endif
