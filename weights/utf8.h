/* Whether bytes are text that can stand in a name. */
#ifndef T2T_WEIGHTS_UTF8_H
#define T2T_WEIGHTS_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Valid UTF-8 without control characters. */
bool t2t_is_plain_utf8(const char *text, size_t bytes);

#endif
