/* JPEG files from RGB pixels: encoded in memory, then written under a temporary name and renamed.
 *
 * The integer DCT gives the same bytes on every processor. Does not write metadata, grey pictures or progressive files.
 */
#include "loaders/jpeg_encode.h"

#include <errno.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h> /* before jpeglib.h, which uses FILE and size_t */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jpeglib.h>

struct encoder {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf escape;
    unsigned char *bytes; /* malloc'ed by libjpeg */
    unsigned long size;
};

static void escape(j_common_ptr jpeg)
{
    struct encoder *encoder = jpeg->client_data;
    longjmp(encoder->escape, 1);
}

static void keep_quiet(j_common_ptr jpeg)
{
    (void)jpeg;
}

/* Fills encoder->bytes, which the caller frees whatever the status. */
static enum t2t_status encode(
    struct encoder *encoder, const char *path, const uint8_t *pixels, size_t width, size_t height, int quality)
{
    struct jpeg_compress_struct *jpeg = &encoder->jpeg;
    jpeg->err = jpeg_std_error(&encoder->errors);
    jpeg->client_data = encoder;
    encoder->errors.error_exit = escape;
    encoder->errors.output_message = keep_quiet;
    if (setjmp(encoder->escape)) {
        char reason[JMSG_LENGTH_MAX];
        encoder->errors.format_message((j_common_ptr)jpeg, reason);
        jpeg_destroy_compress(jpeg);
        return t2t_fail(T2T_CANNOT_WRITE, "%s: %zu x %zu pixels cannot be encoded as JPEG (%s); use a smaller picture",
            path, width, height, reason);
    }
    jpeg_create_compress(jpeg);
    jpeg_mem_dest(jpeg, &encoder->bytes, &encoder->size);
    jpeg->image_width = (JDIMENSION)width;
    jpeg->image_height = (JDIMENSION)height;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg->dct_method = JDCT_ISLOW;
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = (JSAMPROW)(pixels + (size_t)jpeg->next_scanline * width * 3); /* libjpeg only reads it */
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
    jpeg_destroy_compress(jpeg);
    return T2T_OK;
}

static enum t2t_status replace_file(const char *path, const void *bytes, size_t size)
{
    char *temporary = malloc(strlen(path) + 32);
    if (!temporary) return t2t_fail_memory("a file name", strlen(path) + 32);
    sprintf(temporary, "%s.%ld.part", path, (long)getpid());
    FILE *file = fopen(temporary, "wb");
    bool whole = file && fwrite(bytes, 1, size, file) == size;
    int reason = errno;
    if (file && fclose(file) != 0 && whole) {
        whole = false;
        reason = errno;
    }
    if (whole && rename(temporary, path) != 0) {
        whole = false;
        reason = errno;
    }
    if (!whole && file) remove(temporary);
    free(temporary);
    if (whole) return T2T_OK;
    return t2t_fail(
        T2T_CANNOT_WRITE, "%s: cannot be written (%s); choose another folder or make room", path, strerror(reason));
}

enum t2t_status t2t_jpeg_write(const char *path, const uint8_t *pixels, size_t width, size_t height, int quality)
{
    struct encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder) return t2t_fail_memory("the JPEG encoder", sizeof *encoder);
    enum t2t_status status = encode(encoder, path, pixels, width, height, quality);
    if (!status) status = replace_file(path, encoder->bytes, encoder->size);
    free(encoder->bytes);
    free(encoder);
    return status;
}
