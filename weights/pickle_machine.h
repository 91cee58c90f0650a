/* What the parts of the pickle machine share; see pickle_machine.c, pickle.c and pickle_objects.c. */
#ifndef T2T_WEIGHTS_PICKLE_MACHINE_H
#define T2T_WEIGHTS_PICKLE_MACHINE_H

#include "weights/pickle.h"

enum { MAX_VALUES = 500000, MAX_STORAGES = 50000 };
#define NOTHING UINT32_MAX

struct machine {
    struct pickle *pickle;
    size_t at, instruction; /* next byte, and where the instruction being done began */
    uint32_t *stack, *memo; /* numbers of values */
    size_t *marks;          /* depths of the stack */
    size_t depth, stack_room, mark_count, mark_room, memo_room, remembered;
};

enum t2t_status pickle_refuse(const struct machine *machine, const char *what);

/* The stack. Callers of pop and top have made sure by need() that there is something above the last mark. */
size_t pickle_above_mark(const struct machine *machine);
enum t2t_status pickle_need(const struct machine *machine, size_t count);
enum t2t_status pickle_push(struct machine *machine, uint32_t value);
uint32_t pickle_pop(struct machine *machine);
struct pickle_value *pickle_top(const struct machine *machine);
enum t2t_status pickle_put_mark(struct machine *machine);
/* Removes the last mark; *count values lie on the stack where it was. */
enum t2t_status pickle_take_mark(struct machine *machine, size_t *count);

/* New values, and a value more in a container. */
enum t2t_status pickle_push_new(struct machine *machine, struct pickle_value value);
enum t2t_status pickle_push_storage(struct machine *machine, const struct pickle_storage *storage);
enum t2t_status pickle_push_tensor(struct machine *machine, const struct pickle_tensor *tensor);
enum t2t_status pickle_append(struct machine *machine, uint32_t container, uint32_t value);

/* The top value under a number. */
enum t2t_status pickle_remember(struct machine *machine, uint64_t number);

/* Reading: a little-endian number of at most 8 bytes, text after its length, text up to a line's end. */
enum t2t_status pickle_ends_early(struct machine *machine);
enum t2t_status pickle_read_number(struct machine *machine, size_t bytes, uint64_t *number);
enum t2t_status pickle_read_text(struct machine *machine, size_t length_bytes, struct pickle_text *text);
enum t2t_status pickle_read_line(struct machine *machine, struct pickle_text *text);

/* Instructions of pickle_objects.c. */
enum t2t_status pickle_global(struct machine *machine, unsigned char code);
enum t2t_status pickle_stack_global(struct machine *machine, unsigned char code);
enum t2t_status pickle_reduce(struct machine *machine, unsigned char code);
enum t2t_status pickle_new_object(struct machine *machine, unsigned char code);
enum t2t_status pickle_build(struct machine *machine, unsigned char code);
enum t2t_status pickle_persistent_id(struct machine *machine, unsigned char code);

#endif
