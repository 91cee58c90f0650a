/* PNG to RGB with libpng, as Pillow's convert("RGB"): alpha and transparency are dropped, palettes expanded, 16-bit
 * colour keeps its high byte, and 16-bit grey is clipped at 255, as Pillow does it.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "loaders/picture.h"

struct reader {
    const uint8_t *bytes;
    size_t size, at;
    struct picture *picture;
    char sentence[160];
};

static void on_error(png_structp png, png_const_charp text)
{
    struct reader *reader = png_get_error_ptr(png);
    snprintf(reader->sentence, sizeof reader->sentence, "%s", text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    struct reader *reader = png_get_error_ptr(png);
    if (reader->picture->warned) return;
    reader->picture->warned = true;
    snprintf(reader->picture->warning, sizeof reader->picture->warning, "%s", text);
}

static void read_bytes(png_structp png, png_bytep to, size_t count)
{
    struct reader *reader = png_get_io_ptr(png);
    if (count > reader->size - reader->at) png_error(png, "the file is truncated");
    memcpy(to, reader->bytes + reader->at, count);
    reader->at += count;
}

static void ask_for_rgb(png_structp png, png_infop info, bool *deep_grey)
{
    const int type = png_get_color_type(png, info);
    *deep_grey = type == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, info) == 16;
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
    if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
    if (!*deep_grey) {
        png_set_strip_16(png);
        if (!(type & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(png);
    }
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

/* In place: two bytes a pixel, the high one first, become three. */
static void widen_deep_grey(uint8_t *row, size_t width)
{
    for (size_t x = width; x-- > 0;) {
        const uint8_t grey = row[2 * x] ? 255 : row[2 * x + 1];
        row[3 * x] = row[3 * x + 1] = row[3 * x + 2] = grey;
    }
}

/* Everything that may jump. */
static enum t2t_status decode(
    png_structp png, png_infop info, const char *name, struct picture *picture, png_bytep **rows)
{
    bool deep_grey;
    png_read_info(png, info);
    const enum t2t_status status =
        t2t_picture_allocate(name, png_get_image_width(png, info), png_get_image_height(png, info), picture);
    if (status) return status;
    ask_for_rgb(png, info, &deep_grey);
    if (png_get_rowbytes(png, info) > picture->width * 3) png_error(png, "an unknown kind of pixels");
    *rows = malloc(picture->height * sizeof **rows);
    if (!*rows) return t2t_fail_memory("rows of a picture", picture->height * sizeof **rows);
    for (size_t y = 0; y < picture->height; y++) (*rows)[y] = picture->rgb + y * picture->width * 3;
    png_read_image(png, *rows);
    png_read_end(png, NULL);
    for (size_t y = 0; deep_grey && y < picture->height; y++) widen_deep_grey((*rows)[y], picture->width);
    return T2T_OK;
}

enum t2t_status t2t_png_decode(const char *name, const void *bytes, size_t size, struct picture *picture)
{
    *picture = (struct picture){.rgb = NULL};
    struct reader reader = {.bytes = bytes, .size = size, .picture = picture};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    png_bytep *rows = NULL;
    png_bytep **const rows_at = &rows; /* seen by the jump's other side through memory */
    volatile enum t2t_status status = T2T_OK;
    if (!info) {
        status = t2t_fail_memory("a PNG reader", size);
    } else if (setjmp(png_jmpbuf(png)) == 0) {
        png_set_read_fn(png, &reader, read_bytes);
        png_set_user_limits(png, T2T_MOST_PIXELS, T2T_MOST_PIXELS);
        png_set_chunk_malloc_max(png, 8 << 20);
        png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
        status = decode(png, info, name, picture, rows_at);
    } else {
        status = t2t_fail(T2T_BAD_DATA, "%s: cannot be decoded: PNG: %s", name, reader.sentence);
    }
    png_destroy_read_struct(&png, &info, NULL);
    free(*rows_at);
    if (status) {
        free(picture->rgb);
        picture->rgb = NULL;
    }
    return status;
}
