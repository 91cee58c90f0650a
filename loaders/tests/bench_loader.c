/* How long a picture takes from its file to the crop: for each path on standard input one line, the milliseconds of
 * decoding and of resizing and cropping, on one thread, at once. tests/compare_pillow.py asks it in turns with Pillow.
 */
#include <stdio.h>
#include <string.h>

#include "loaders/preprocess.h"

int main(void)
{
    static uint8_t crop[224 * 224 * 3];
    const struct t2t_preprocess options = {.image_size = 224, .crop_pct = 0.9, .interpolation = T2T_BICUBIC};
    char path[4096];
    while (fgets(path, sizeof path, stdin)) {
        struct t2t_picture_report report;
        path[strcspn(path, "\n")] = 0;
        if (t2t_picture_crop(path, &options, crop, &report)) {
            fprintf(stderr, "bench_loader: %s\n", t2t_last_error());
            return 1;
        }
        printf("%.6f %.6f\n", 1e3 * report.decode_seconds, 1e3 * report.resize_seconds);
        fflush(stdout);
    }
    return 0;
}
