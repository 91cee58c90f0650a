/* Standard error: messages, and the progress line that gives way to them.
 *
 * On a terminal one line, redrawn at most ten times a second; elsewhere whole lines at the start, at the end and
 * between them every 30 seconds or 10 %, whichever is rarer. Nothing is drawn unless asked: callers update outside of
 * what they time.
 */
#ifndef T2T_EVAL_PROGRESS_H
#define T2T_EVAL_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

enum console_color { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };
enum progress_style { PROGRESS_AUTO, PROGRESS_BAR, PROGRESS_LINES, PROGRESS_NONE };

/* verbosity 0: errors only, 1: notes and warnings, 2: also details. */
void t2t_console_open(const char *program, size_t verbosity, enum console_color color, enum progress_style style);

/* Lines on standard error, printf-style without a newline at the end. Control characters are shown as '?'. */
void t2t_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void t2t_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void t2t_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void t2t_detail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One progress display at a time; `what` is what is counted, "pictures". */
void t2t_progress_begin(const char *what, size_t total);
/* `state` says how it stands, "exact top-1 82.1 +- 0.9". */
void t2t_progress_update(size_t done, const char *state);
void t2t_progress_end(void);

#endif
