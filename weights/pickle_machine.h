/* What the two halves of the pickle machine share; see pickle.c and pickle_objects.c. */
#ifndef T2T_WEIGHTS_PICKLE_MACHINE_H
#define T2T_WEIGHTS_PICKLE_MACHINE_H

#include "weights/pickle.h"

enum { MAX_VALUES = 1000000, MAX_STORAGES = 100000 };
#define NOTHING UINT32_MAX

struct machine {
    struct pickle *pickle;
    size_t at, instruction; /* next byte, and where the instruction being done began */
    uint32_t *stack, *memo; /* numbers of values */
    size_t *marks;          /* depths of the stack */
    size_t depth, stack_room, mark_count, mark_room, memo_room, remembered;
};

enum t2t_status pickle_refuse(const struct machine *machine, const char *what);
enum t2t_status pickle_need(const struct machine *machine, size_t count); /* above the last mark */
uint32_t pickle_pop(struct machine *machine);
struct pickle_value *pickle_top(const struct machine *machine);
enum t2t_status pickle_push_new(struct machine *machine, struct pickle_value value);
enum t2t_status pickle_push_storage(struct machine *machine, const struct pickle_storage *storage);
enum t2t_status pickle_push_tensor(struct machine *machine, const struct pickle_tensor *tensor);
enum t2t_status pickle_read_line(struct machine *machine, struct pickle_text *text);

/* Instructions of pickle_objects.c. */
enum t2t_status pickle_global(struct machine *machine, unsigned char code);
enum t2t_status pickle_stack_global(struct machine *machine, unsigned char code);
enum t2t_status pickle_reduce(struct machine *machine, unsigned char code);
enum t2t_status pickle_new_object(struct machine *machine, unsigned char code);
enum t2t_status pickle_build(struct machine *machine, unsigned char code);
enum t2t_status pickle_persistent_id(struct machine *machine, unsigned char code);

#endif
