/* Which of a file's dictionaries holds the weights; see checkpoint_choice.h. */
#include "weights/checkpoint_choice.h"

#include <stdio.h>
#include <string.h>

#include "weights/utf8.h"

static const char *const type_names[] = {"None", "a truth value", "a number", "a number", "a number", "text", "a tuple",
    "a list", "a dictionary", "a global", "a storage", "a tensor", "an object"};

const char *t2t_pickle_type_name(unsigned type)
{
    return type_names[type];
}

static bool is_there(const struct pickle_value *value)
{
    return value && value->type != PICKLE_NONE;
}

void t2t_list_keys(const struct pickle *pickle, const struct pickle_value *dict, char text[T2T_KEYS_TEXT])
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t at = dict->as.places.first; at;) {
        const struct pickle_value *key = &pickle->values[pickle->places[at].value];
        at = pickle->places[pickle->places[at].next].next;
        if (key->type != PICKLE_TEXT || key->as.text.bytes > 40) continue;
        if (used + key->as.text.bytes + 6 > T2T_KEYS_TEXT) break;
        const char *name = (const char *)pickle->bytes + key->as.text.offset;
        if (!t2t_is_plain_utf8(name, key->as.text.bytes)) continue;
        used += (size_t)snprintf(
            text + used, T2T_KEYS_TEXT - used, "%s%.*s", used ? ", " : "", (int)key->as.text.bytes, name);
    }
}

enum t2t_status t2t_choose_weights(const struct pickle *pickle, const char *path, enum t2t_weights_key key,
    struct t2t_checkpoint_info *info, const struct pickle_value **chosen)
{
    static const char *const order[] = {"state_dict_ema", "state_dict", "model"};
    const struct pickle_value *root = t2t_pickle_root(pickle);
    if (root->type != PICKLE_DICT)
        return t2t_fail(T2T_BAD_MODEL, "%s: holds %s, expected a dictionary of tensors; save a state_dict()", path,
            type_names[root->type]);
    *chosen = NULL;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const struct pickle_value *value = t2t_pickle_get(pickle, root, order[i]);
        if (!is_there(value)) continue;
        const bool allowed = i == 0 ? key != T2T_KEY_MODEL : key != T2T_KEY_EMA;
        if (!*chosen && allowed) {
            *chosen = value;
            info->key = order[i];
        } else if (!*info->beside) {
            info->beside = order[i];
        }
    }
    if (!*chosen && key == T2T_KEY_EMA) {
        char keys[T2T_KEYS_TEXT];
        t2t_list_keys(pickle, root, keys);
        return t2t_fail(T2T_BAD_MODEL, "%s: holds no state_dict_ema; found %s", path, keys);
    }
    if (!*chosen) *chosen = root;
    if ((*chosen)->type != PICKLE_DICT)
        return t2t_fail(T2T_BAD_MODEL, "%s: its %s is %s, expected a dictionary of tensors", path, info->key,
            type_names[(*chosen)->type]);
    const struct pickle_value *arch = t2t_pickle_get(pickle, root, "arch");
    if (arch && arch->type == PICKLE_TEXT && arch->as.text.bytes < sizeof info->arch) {
        const char *text = (const char *)pickle->bytes + arch->as.text.offset;
        if (t2t_is_plain_utf8(text, arch->as.text.bytes)) memcpy(info->arch, text, arch->as.text.bytes);
    }
    return T2T_OK;
}
