/* Labelled pictures by formula: any number of them, the same bytes on every machine.
 *
 * Twelve classes that colour does not tell apart: three textures, three shapes, and three pairs that differ only by how
 * two distant parts relate (stripes parallel or crossing, colours alike or not, arrows facing or parting).
 */
#ifndef T2T_EVAL_DEMO_PICTURES_H
#define T2T_EVAL_DEMO_PICTURES_H

#include <stddef.h>
#include <stdint.h>

#include "layers/base/status.h"

enum { T2T_DEMO_CLASSES = 12 };

/* Sorted by name: labels follow the sorted folders. */
extern const char *const t2t_demo_class_names[T2T_DEMO_CLASSES];

struct demo_picture {
    size_t label;
    size_t width, height;
    int quality;     /* of its JPEG */
    uint8_t *pixels; /* [height, width, 3]; free() it */
};

/* Picture `index` of the endless series `seed`; its class is index modulo 12. T2T_NO_RESOURCE when memory is short. */
enum t2t_status t2t_demo_draw(uint64_t seed, uint64_t index, struct demo_picture *picture);

#endif
