/* The last error sentence of each thread. */
#include "layers/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "layers/base/control_characters.h"

static _Thread_local char message[T2T_MESSAGE_BYTES];

enum t2t_status t2t_fail(enum t2t_status status, const char *format, ...)
{
    /* An argument may be the previous sentence itself, so the new one is built beside it. */
    char fresh[T2T_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(fresh, sizeof fresh, format, arguments);
    va_end(arguments);
    if (length < 0) fresh[0] = '\0';
    if (length >= (int)sizeof fresh) memcpy(fresh + sizeof fresh - 4, "...", 4);
    t2t_hide_controls(fresh);
    memcpy(message, fresh, sizeof message);
    return status;
}

enum t2t_status t2t_fail_memory(const char *what, unsigned long long bytes)
{
    return t2t_fail(T2T_NO_RESOURCE, "out of memory: %s needs %llu bytes", what, bytes);
}

const char *t2t_last_error(void)
{
    return message;
}
