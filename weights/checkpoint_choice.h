/* Which of the dictionaries that torch.save wrote holds the weights. Internal to the reader of checkpoints. */
#ifndef T2T_WEIGHTS_CHECKPOINT_CHOICE_H
#define T2T_WEIGHTS_CHECKPOINT_CHOICE_H

#include "weights/checkpoint.h"
#include "weights/pickle.h"

enum { T2T_KEYS_TEXT = 200 };

/* By the rule of enum t2t_weights_key. Sets the key, what is beside it, and the model's name in *info. T2T_BAD_MODEL where
 * there is no such dictionary. */
enum t2t_status t2t_choose_weights(const struct pickle *pickle, const char *path, enum t2t_weights_key key,
    struct t2t_checkpoint_info *info, const struct pickle_value **chosen);

/* "a tensor" ..., for a sentence. */
const char *t2t_pickle_type_name(unsigned type);
/* Some of a dictionary's keys, for a sentence. */
void t2t_list_keys(const struct pickle *pickle, const struct pickle_value *dict, char text[T2T_KEYS_TEXT]);

#endif
