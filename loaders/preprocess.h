/* From the bytes of a picture file to the network's input, bit for bit as Pillow and timm's evaluation transform:
 * decode to RGB, resize the shorter side to floor(size / crop_pct) with an antialiased filter, centre crop,
 * (x / 255 - mean) / std in float32, channels first. EXIF rotation is not applied (neither does the reference).
 */
#ifndef T2T_LOADERS_PREPROCESS_H
#define T2T_LOADERS_PREPROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

enum t2t_interpolation { T2T_BICUBIC, T2T_BILINEAR };

struct t2t_preprocess {
    size_t image_size; /* side of the crop */
    double crop_pct;
    enum t2t_interpolation interpolation;
    float mean[3], std[3];
    bool strict; /* refuse pictures whose decoder warned */
};

/* What happened to one picture. */
struct t2t_picture_report {
    size_t width, height; /* as stored */
    double decode_seconds, resize_seconds;
    bool warned; /* the decoder warned, the picture was used; `warning` says what it said */
    char warning[200];
};

/* Reads, decodes, resizes and crops one file: crop [image_size, image_size, 3] bytes.
 * T2T_BAD_DATA with a sentence that begins with the path; T2T_NO_RESOURCE when memory is short. */
enum t2t_status t2t_picture_crop(
    const char *path, const struct t2t_preprocess *options, uint8_t *crop, struct t2t_picture_report *report);

/* The same from memory; `name` stands for the path in sentences. */
enum t2t_status t2t_picture_crop_memory(const char *name, const void *bytes, size_t size,
    const struct t2t_preprocess *options, uint8_t *crop, struct t2t_picture_report *report);

/* pixels [3, image_size, image_size] = (crop / 255 - mean) / std, each step in float32 as torchvision does it. */
void t2t_picture_normalise(const uint8_t *crop, const struct t2t_preprocess *options, float *pixels);

#endif
