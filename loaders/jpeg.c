/* JPEG to RGB with libjpeg-turbo, as Pillow decodes: integer DCT, smooth upsampling, grey copied to three channels,
 * four-component files taken as Adobe's inverted CMYK. A file that ends early is an error; other warnings are kept.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "loaders/picture.h"

struct decoder {
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    const char *name;
    struct picture *picture;
    bool truncated, too_many_scans;
    char sentence[JMSG_LENGTH_MAX];
};

static void on_error(j_common_ptr cinfo)
{
    struct decoder *decoder = cinfo->client_data;
    cinfo->err->format_message(cinfo, decoder->sentence);
    longjmp(decoder->failed, 1);
}

static void on_message(j_common_ptr cinfo, int level)
{
    struct decoder *decoder = cinfo->client_data;
    if (level >= 0) return;
    cinfo->err->num_warnings++;
    if (cinfo->err->msg_code == JWRN_JPEG_EOF) decoder->truncated = true;
    if (decoder->picture->warned) return;
    char text[JMSG_LENGTH_MAX];
    cinfo->err->format_message(cinfo, text);
    decoder->picture->warned = true;
    snprintf(decoder->picture->warning, sizeof decoder->picture->warning, "%s", text);
}

/* A legal file of a few bytes a scan can ask for minutes of work. */
static void on_progress(j_common_ptr cinfo)
{
    struct decoder *decoder = cinfo->client_data;
    if (((j_decompress_ptr)cinfo)->input_scan_number <= T2T_MOST_SCANS) return;
    decoder->too_many_scans = true;
    longjmp(decoder->failed, 1);
}

/* Pillow's rounding of a * b / 255. */
static unsigned scaled(unsigned a, unsigned b)
{
    const unsigned product = a * b + 128;
    return (product + (product >> 8)) >> 8;
}

static void rgb_of_inverted_cmyk(const uint8_t *from, size_t width, uint8_t *to)
{
    for (size_t x = 0; x < width; x++, from += 4, to += 3) {
        const unsigned white = from[3]; /* stored inverted: 255 - black */
        for (size_t c = 0; c < 3; c++) {
            const unsigned ink = scaled(255U - from[c], white);
            to[c] = (uint8_t)(white > ink ? white - ink : 0);
        }
    }
}

static void rgb_of_grey(const uint8_t *from, size_t width, uint8_t *to)
{
    for (size_t x = width; x-- > 0;) to[3 * x] = to[3 * x + 1] = to[3 * x + 2] = from[x];
}

/* Everything that may jump to decoder->failed. */
static void decode_rows(struct jpeg_decompress_struct *cinfo, struct picture *picture, uint8_t *row)
{
    for (size_t y = 0; y < picture->height; y++) {
        uint8_t *out = picture->rgb + y * picture->width * 3;
        JSAMPROW target = cinfo->out_color_space == JCS_RGB ? out : row;
        while (jpeg_read_scanlines(cinfo, &target, 1) != 1) continue;
        if (cinfo->out_color_space == JCS_CMYK) rgb_of_inverted_cmyk(row, picture->width, out);
        if (cinfo->out_color_space == JCS_GRAYSCALE) rgb_of_grey(row, picture->width, out);
    }
}

static enum t2t_status start(struct jpeg_decompress_struct *cinfo, struct decoder *decoder)
{
    jpeg_read_header(cinfo, TRUE);
    const int components = cinfo->num_components;
    if (components != 1 && components != 3 && components != 4)
        return t2t_fail(T2T_BAD_DATA, "%s: a JPEG of %d components; 1, 3 or 4 can be shown", decoder->name, components);
    cinfo->out_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
    const enum t2t_status status =
        t2t_picture_allocate(decoder->name, cinfo->image_width, cinfo->image_height, decoder->picture);
    if (!status) jpeg_start_decompress(cinfo);
    return status;
}

static enum t2t_status say_what_failed(const struct decoder *decoder)
{
    if (decoder->too_many_scans)
        return t2t_fail(T2T_BAD_DATA, "%s: a JPEG of more than %d scans; no camera writes that, it is refused",
            decoder->name, T2T_MOST_SCANS);
    if (decoder->truncated)
        return t2t_fail(T2T_BAD_DATA, "%s: the JPEG is truncated; fetch or copy it again", decoder->name);
    return t2t_fail(T2T_BAD_DATA, "%s: cannot be decoded: %s", decoder->name, decoder->sentence);
}

enum t2t_status t2t_jpeg_decode(const char *name, const void *bytes, size_t size, struct picture *picture)
{
    *picture = (struct picture){.rgb = NULL};
    struct jpeg_decompress_struct cinfo;
    struct decoder decoder = {.name = name, .picture = picture};
    uint8_t *volatile row = NULL; /* changed between setjmp and longjmp */
    volatile enum t2t_status status = T2T_OK;
    cinfo.err = jpeg_std_error(&decoder.errors);
    decoder.errors.error_exit = on_error;
    decoder.errors.emit_message = on_message;
    decoder.progress.progress_monitor = on_progress;
    cinfo.client_data = &decoder;
    if (setjmp(decoder.failed) == 0) {
        jpeg_create_decompress(&cinfo);
        cinfo.progress = &decoder.progress;
        jpeg_mem_src(&cinfo, bytes, size);
        status = start(&cinfo, &decoder);
        if (!status && !(row = malloc(picture->width * 4))) status = t2t_fail_memory("a row of pixels", 4);
        if (!status) {
            decode_rows(&cinfo, picture, row);
            jpeg_finish_decompress(&cinfo);
            if (decoder.truncated) status = say_what_failed(&decoder);
        }
    } else {
        status = say_what_failed(&decoder);
    }
    jpeg_destroy_decompress(&cinfo);
    free(row);
    if (status) {
        free(picture->rgb);
        picture->rgb = NULL;
    }
    return status;
}
