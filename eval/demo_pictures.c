/* Scenes as data: a background (slope and soft noise), clutter, the parts that make the class, grain.
 *
 * Lengths are in units of the crop's side: what matters lies inside the square that the evaluation keeps (224 / 248 of
 * the shorter side, in the middle). Only + - * / and square roots of IEEE doubles are used, and Philox, so every machine
 * draws the same.
 */
#include "eval/demo_pictures.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "eval/demo_scene.h"
#include "layers/base/random.h"

const char *const t2t_demo_class_names[T2T_DEMO_CLASSES] = {"arrows_facing", "arrows_parting", "checks",
    "colours_alike", "colours_differing", "dots", "plus", "rings", "square", "stripes_crossing", "stripes_parallel",
    "triangle"};

enum demo_class {
    ARROWS_FACING,
    ARROWS_PARTING,
    CHECKS,
    COLOURS_ALIKE,
    COLOURS_DIFFERING,
    DOTS,
    PLUS,
    RINGS,
    SQUARE,
    STRIPES_CROSSING,
    STRIPES_PARALLEL,
    TRIANGLE
};

enum { DIRECTIONS = 64, CHOICES = 512 };

/* ---- choices ---- */

struct choices {
    uint32_t number[CHOICES];
    size_t used;
};

/* Uniform in [low, high). */
static double between(struct choices *choices, double low, double high)
{
    const uint32_t number = choices->number[choices->used++ % CHOICES];
    return low + (high - low) * ((double)number * 0x1p-32);
}

static size_t below(struct choices *choices, size_t count)
{
    return (size_t)between(choices, 0, (double)count);
}

/* One of 64 directions around the circle, by repeated rotation: no trigonometry, so no library's rounding. */
static struct vector direction(size_t step)
{
    const double c = 0.99518472667219693, s = 0.098017140329560604; /* of 2 pi / 64 */
    struct vector v = {1, 0};
    for (size_t i = 0; i < step % DIRECTIONS; i++) v = (struct vector){c * v.x - s * v.y, s * v.x + c * v.y};
    return v;
}

/* A vivid colour: one hue of six sectors, at some lightness. */
static struct colour hue_colour(double hue, double light)
{
    struct colour colour;
    for (int i = 0; i < 3; i++) {
        double distance = fabs(hue - 2 * i); /* from the channel's own hue, on a circle of 6 */
        if (distance > 3) distance = 6 - distance;
        const double strength = distance < 1 ? 1 : distance > 2 ? 0 : 2 - distance;
        colour.channel[i] = light * (40 + 215 * strength);
    }
    return colour;
}

static double wrap_hue(double hue)
{
    return hue >= 6 ? hue - 6 : hue;
}

static struct colour any_colour(struct choices *choices)
{
    const double hue = between(choices, 0, 6);
    return hue_colour(hue, between(choices, 0.45, 1));
}

/* Of the opposite lightness, so that two colours of a pattern can be told apart. */
static void contrasting_pair(struct choices *choices, struct colour pair[2])
{
    const size_t bright = below(choices, 2);
    for (size_t i = 0; i < 2; i++) {
        const double hue = between(choices, 0, 6);
        pair[i] = hue_colour(hue, i == bright ? between(choices, 0.85, 1) : between(choices, 0.1, 0.3));
    }
}

/* ---- scenes ---- */

static struct vector along(struct vector from, struct vector way, double length)
{
    return (struct vector){from.x + way.x * length, from.y + way.y * length};
}

static struct part *add_part(struct scene *scene)
{
    struct part *part = &scene->part[scene->parts++];
    memset(part, 0, sizeof *part);
    return part;
}

static void choose_size(struct scene *scene, struct choices *choices)
{
    static const size_t sizes[][2] = {{500, 375}, {500, 375}, {500, 333}, {375, 500}, {333, 500}, {400, 300},
        {500, 500}, {640, 480}, {300, 250}, {800, 600}};
    const size_t pick = below(choices, sizeof sizes / sizeof *sizes);
    scene->width = sizes[pick][0] - below(choices, 12);
    scene->height = sizes[pick][1] - below(choices, 12);
    const size_t shorter = scene->width < scene->height ? scene->width : scene->height;
    scene->side = (double)shorter * 224 / 248;
}

static void choose_background(struct scene *scene, struct choices *choices)
{
    for (size_t i = 0; i < 4; i++) {
        const struct colour colour = any_colour(choices);
        for (size_t c = 0; c < 3; c++) /* greyed, so that parts stand out */
            scene->corner[i].channel[c] = 0.35 * colour.channel[c] + 0.65 * 118;
    }
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y <= NOISE_CELLS; y++)
            for (size_t x = 0; x <= NOISE_CELLS; x++) scene->soft[c][y][x] = between(choices, -14, 14);
    scene->grain = between(choices, 4, 16);
}

/* Small things anywhere, below everything that matters. */
static void choose_clutter(struct scene *scene, struct choices *choices)
{
    const size_t count = 4 + below(choices, CLUTTER - 4);
    for (size_t i = 0; i < count; i++) {
        struct part *part = add_part(scene);
        part->shape = (enum shape)below(choices, 4);
        part->centre.x = between(choices, 0, (double)scene->width);
        part->centre.y = between(choices, 0, (double)scene->height);
        part->direction = direction(below(choices, DIRECTIONS));
        part->radius = scene->side * between(choices, 0.012, 0.035);
        part->colour[0] = any_colour(choices);
    }
}

static struct vector jittered_centre(const struct scene *scene, struct choices *choices, double jitter)
{
    const struct vector centre = {(double)scene->width / 2, (double)scene->height / 2};
    const double x = between(choices, -jitter, jitter), y = between(choices, -jitter, jitter);
    return (struct vector){centre.x + scene->side * x, centre.y + scene->side * y};
}

/* One large patch whose pattern is the class. */
static void add_texture(struct scene *scene, struct choices *choices, enum fill fill)
{
    struct part *part = add_part(scene);
    part->shape = below(choices, 2) ? SHAPE_DISC : SHAPE_SQUARE;
    part->radius = scene->side * between(choices, 0.3, 0.4);
    part->centre = jittered_centre(scene, choices, 0.06);
    part->direction = direction(below(choices, DIRECTIONS));
    part->fill = fill;
    part->grain = direction(below(choices, DIRECTIONS));
    part->period = scene->side * between(choices, 0.1, 0.16);
    part->phase = between(choices, 0, 1);
    contrasting_pair(choices, part->colour);
}

/* One large plain thing whose outline is the class. */
static void add_shape(struct scene *scene, struct choices *choices, enum shape shape)
{
    struct part *part = add_part(scene);
    part->shape = shape;
    part->radius = scene->side * between(choices, 0.24, 0.36);
    part->centre = jittered_centre(scene, choices, 0.1);
    part->direction = direction(below(choices, DIRECTIONS));
    part->colour[0] = any_colour(choices);
}

/* Two equal things far apart, on a line of any direction through the middle. */
static void add_pair(
    struct scene *scene, struct choices *choices, enum shape shape, struct part *pair[2], struct vector *axis)
{
    *axis = direction(below(choices, DIRECTIONS));
    const struct vector middle = jittered_centre(scene, choices, 0.04);
    const double apart = scene->side * between(choices, 0.25, 0.28);
    const double radius = scene->side * between(choices, 0.16, 0.19);
    for (size_t i = 0; i < 2; i++) {
        pair[i] = add_part(scene);
        pair[i]->shape = shape;
        pair[i]->radius = radius;
        pair[i]->centre = along(middle, *axis, i ? apart : -apart);
        pair[i]->direction = *axis;
    }
}

static void add_striped_pair(struct scene *scene, struct choices *choices, bool crossing)
{
    struct part *pair[2];
    struct vector axis;
    add_pair(scene, choices, SHAPE_DISC, pair, &axis);
    const size_t step = below(choices, DIRECTIONS);
    const double period = scene->side * between(choices, 0.075, 0.1);
    for (size_t i = 0; i < 2; i++) {
        pair[i]->fill = FILL_STRIPES;
        pair[i]->grain = direction(step + (i && crossing ? DIRECTIONS / 4 : 0));
        pair[i]->period = period;
        pair[i]->phase = between(choices, 0, 1);
        contrasting_pair(choices, pair[i]->colour);
    }
}

static void add_coloured_pair(struct scene *scene, struct choices *choices, bool differing)
{
    struct part *pair[2];
    struct vector axis;
    add_pair(scene, choices, below(choices, 2) ? SHAPE_DISC : SHAPE_SQUARE, pair, &axis);
    const double hue = between(choices, 0, 6), light = between(choices, 0.7, 1);
    const double other = wrap_hue(hue + between(choices, 2, 4));
    pair[0]->colour[0] = hue_colour(hue, light);
    pair[1]->colour[0] = hue_colour(differing ? other : hue, light * between(choices, 0.95, 1));
}

static void add_arrow_pair(struct scene *scene, struct choices *choices, bool facing)
{
    struct part *pair[2];
    struct vector axis;
    add_pair(scene, choices, SHAPE_ARROW, pair, &axis);
    const struct vector back = {-axis.x, -axis.y};
    pair[0]->direction = facing ? axis : back;
    pair[1]->direction = facing ? back : axis;
    for (size_t i = 0; i < 2; i++) pair[i]->colour[0] = any_colour(choices);
}

static void choose_parts(struct scene *scene, struct choices *choices, enum demo_class label)
{
    switch (label) {
    case CHECKS: add_texture(scene, choices, FILL_CHECKS); break;
    case RINGS: add_texture(scene, choices, FILL_RINGS); break;
    case DOTS: add_texture(scene, choices, FILL_DOTS); break;
    case PLUS: add_shape(scene, choices, SHAPE_PLUS); break;
    case SQUARE: add_shape(scene, choices, SHAPE_SQUARE); break;
    case TRIANGLE: add_shape(scene, choices, SHAPE_TRIANGLE); break;
    case STRIPES_CROSSING: add_striped_pair(scene, choices, true); break;
    case STRIPES_PARALLEL: add_striped_pair(scene, choices, false); break;
    case COLOURS_ALIKE: add_coloured_pair(scene, choices, false); break;
    case COLOURS_DIFFERING: add_coloured_pair(scene, choices, true); break;
    case ARROWS_FACING: add_arrow_pair(scene, choices, true); break;
    case ARROWS_PARTING: add_arrow_pair(scene, choices, false); break;
    }
}

enum t2t_status t2t_demo_draw(uint64_t seed, uint64_t index, struct demo_picture *picture)
{
    struct choices choices = {.used = 0};
    const struct t2t_random_key key = {.seed = seed, .image = index, .purpose = T2T_RANDOM_PICTURE};
    const struct t2t_random_key grain = {.seed = seed, .image = index, .purpose = T2T_RANDOM_GRAIN};
    t2t_random_uint32(key, CHOICES, choices.number);

    struct scene scene = {.parts = 0};
    const size_t label = (size_t)(index % T2T_DEMO_CLASSES);
    choose_size(&scene, &choices);
    choose_background(&scene, &choices);
    choose_clutter(&scene, &choices);
    choose_parts(&scene, &choices, (enum demo_class)label);

    const size_t area = scene.width * scene.height;
    double *canvas = malloc(area * 3 * sizeof *canvas);
    uint32_t *noise = malloc(area * sizeof *noise);
    uint8_t *pixels = malloc(area * 3);
    if (!canvas || !noise || !pixels) {
        free(canvas);
        free(noise);
        free(pixels);
        return t2t_fail_memory("a drawn picture", area * (3 * sizeof *canvas + sizeof *noise + 3));
    }
    demo_paint(&scene, canvas);
    t2t_random_uint32(grain, area, noise);
    demo_round(&scene, canvas, noise, pixels);
    free(canvas);
    free(noise);
    *picture = (struct demo_picture){.label = label,
        .width = scene.width,
        .height = scene.height,
        .quality = 70 + (int)below(&choices, 26),
        .pixels = pixels};
    return T2T_OK;
}
