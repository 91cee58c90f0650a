/* File to crop to normalised pixels; see preprocess.h. */
#include "loaders/preprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layers/base/clock.h"
#include "loaders/picture.h"
#include "loaders/resample.h"

/* ---- files ---- */

static enum t2t_status cannot_read(const char *path)
{
    const bool short_of = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
    return t2t_fail(short_of ? T2T_NO_RESOURCE : T2T_BAD_DATA, "%s: cannot be read: %s", path, strerror(errno));
}

static enum t2t_status check_file(const char *path, const struct stat *about)
{
    if (S_ISDIR(about->st_mode)) return t2t_fail(T2T_BAD_DATA, "%s: is a folder, expected a picture", path);
    if (!S_ISREG(about->st_mode)) return t2t_fail(T2T_BAD_DATA, "%s: is a pipe or device, expected a picture", path);
    if (about->st_size == 0) return t2t_fail(T2T_BAD_DATA, "%s: is empty, expected a picture", path);
    if (about->st_size > T2T_MOST_FILE_BYTES)
        return t2t_fail(T2T_BAD_DATA, "%s: has %lld bytes; pictures of more than %d are refused", path,
            (long long)about->st_size, T2T_MOST_FILE_BYTES);
    return T2T_OK;
}

static enum t2t_status read_all(const char *path, int descriptor, uint8_t *bytes, size_t size)
{
    for (size_t got = 0; got < size;) {
        const ssize_t count = read(descriptor, bytes + got, size - got);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return cannot_read(path);
        if (count == 0) return t2t_fail(T2T_BAD_DATA, "%s: became shorter while it was read", path);
        got += (size_t)count;
    }
    return T2T_OK;
}

/* A whole file into memory that the caller frees. */
static enum t2t_status read_file(const char *path, uint8_t **bytes, size_t *size)
{
    int descriptor;
    do /* a pipe without a writer would be waited for */
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return cannot_read(path);
    struct stat about;
    enum t2t_status status = fstat(descriptor, &about) ? cannot_read(path) : check_file(path, &about);
    if (!status) {
        *size = (size_t)about.st_size;
        *bytes = malloc(*size);
        status = *bytes ? read_all(path, descriptor, *bytes, *size) : t2t_fail_memory("a picture's file", *size);
        if (status) free(*bytes);
    }
    close(descriptor);
    return status;
}

/* ---- decoding ---- */

enum t2t_status t2t_picture_allocate(const char *name, size_t width, size_t height, struct picture *picture)
{
    if (!width || !height) return t2t_fail(T2T_BAD_DATA, "%s: a picture without pixels", name);
    if (width > T2T_MOST_PIXELS / height)
        return t2t_fail(T2T_BAD_DATA, "%s: %zu x %zu pixels; more than %d in all are refused", name, width, height,
            T2T_MOST_PIXELS);
    picture->width = width;
    picture->height = height;
    picture->rgb = calloc(width * height, 3);
    return picture->rgb ? T2T_OK : t2t_fail_memory("a decoded picture", width * height * 3);
}

struct format {
    const char *name, *magic;
    size_t offset, bytes;
    enum t2t_status (*decode)(const char *name, const void *bytes, size_t size, struct picture *picture);
};

static const struct format formats[] = {
    {"JPEG", "\xff\xd8\xff", 0, 3, t2t_jpeg_decode},
    {"PNG", "\x89PNG\r\n\x1a\n", 0, 8, t2t_png_decode},
    {"WebP", "WEBP", 8, 4, NULL},
    {"GIF", "GIF8", 0, 4, NULL},
    {"BMP", "BM", 0, 2, NULL},
    {"TIFF", "II*\0", 0, 4, NULL},
    {"TIFF", "MM\0*", 0, 4, NULL},
    {"JPEG 2000", "\0\0\0\fjP  ", 0, 8, NULL},
    {"JPEG 2000", "\xff\x4f\xff\x51", 0, 4, NULL},
    {"JPEG XL", "\xff\n", 0, 2, NULL},
    {"AVIF or HEIC", "ftyp", 4, 4, NULL},
    {"PDF", "%PDF", 0, 4, NULL},
    {"zip", "PK\3\4", 0, 4, NULL},
    {"gzip", "\x1f\x8b", 0, 2, NULL},
    {"HTML or XML", "<", 0, 1, NULL},
};

enum t2t_status t2t_picture_decode(const char *name, const void *bytes, size_t size, struct picture *picture)
{
    *picture = (struct picture){.rgb = NULL};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const struct format *format = &formats[i];
        if (size < format->offset + format->bytes ||
            memcmp((const char *)bytes + format->offset, format->magic, format->bytes) != 0)
            continue;
        if (format->decode) return format->decode(name, bytes, size, picture);
        return t2t_fail(
            T2T_BAD_DATA, "%s: is %s inside, whatever its name; JPEG and PNG can be read", name, format->name);
    }
    return t2t_fail(T2T_BAD_DATA, "%s: is no picture known here (JPEG and PNG can be read)", name);
}

/* ---- the crop ---- */

/* Half of a difference, rounded to even as Python's round(). */
static size_t half_to_even(size_t difference)
{
    const size_t half = difference / 2;
    return difference % 2 ? half + half % 2 : half;
}

static enum t2t_status crop_picture(const struct picture *picture, const struct t2t_preprocess *options, uint8_t *crop)
{
    const size_t shorter = (size_t)floor((double)options->image_size / options->crop_pct);
    const bool wide = picture->width > picture->height;
    const size_t in_short = wide ? picture->height : picture->width, in_long = wide ? picture->width : picture->height;
    const size_t longer = (size_t)((double)(shorter * in_long) / (double)in_short);
    struct resample shape = {.in_width = picture->width,
        .in_height = picture->height,
        .out_width = wide ? longer : shorter,
        .out_height = wide ? shorter : longer,
        .side = options->image_size,
        .interpolation = options->interpolation};
    shape.left = half_to_even(shape.out_width - shape.side);
    shape.top = half_to_even(shape.out_height - shape.side);
    return t2t_resample(&shape, picture->rgb, crop);
}

enum t2t_status t2t_picture_crop_memory(const char *name, const void *bytes, size_t size,
    const struct t2t_preprocess *options, uint8_t *crop, struct t2t_picture_report *report)
{
    const double begin = t2t_now();
    struct picture picture;
    enum t2t_status status = t2t_picture_decode(name, bytes, size, &picture);
    if (status) return status;
    const double decoded = t2t_now();
    *report = (struct t2t_picture_report){
        .width = picture.width, .height = picture.height, .decode_seconds = decoded - begin, .warned = picture.warned};
    snprintf(report->warning, sizeof report->warning, "%s", picture.warning);
    if (options->strict && picture.warned)
        status = t2t_fail(T2T_BAD_DATA, "%s: refused since the decoder warned: %s", name, picture.warning);
    else
        status = crop_picture(&picture, options, crop);
    report->resize_seconds = t2t_now() - decoded;
    free(picture.rgb);
    return status;
}

enum t2t_status t2t_picture_crop(
    const char *path, const struct t2t_preprocess *options, uint8_t *crop, struct t2t_picture_report *report)
{
    const double begin = t2t_now();
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum t2t_status status = read_file(path, &bytes, &size);
    if (status) return status;
    const double read_seconds = t2t_now() - begin;
    status = t2t_picture_crop_memory(path, bytes, size, options, crop, report);
    if (!status) report->decode_seconds += read_seconds;
    free(bytes);
    return status;
}

void t2t_picture_normalise(const uint8_t *crop, const struct t2t_preprocess *options, float *pixels)
{
    const size_t area = options->image_size * options->image_size;
    for (size_t c = 0; c < 3; c++) {
        float value[256]; /* only so many are possible */
        for (size_t i = 0; i < 256; i++) value[i] = ((float)i / 255.0F - options->mean[c]) / options->std[c];
        for (size_t i = 0; i < area; i++) pixels[c * area + i] = value[crop[3 * i + c]];
    }
}
