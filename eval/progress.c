/* The console: who writes on standard error, and when. */
#include "eval/progress.h"

#include <langinfo.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "layers/base/clock.h"
#include "layers/base/control_characters.h"

enum { BAR_CELLS = 20, LINE_BYTES = 512, WIDEST = 400 };
static const double redraw_seconds = 0.1, line_seconds = 30, line_share = 0.1;

static struct {
    const char *program, *what;
    size_t verbosity;
    bool color;
    enum progress_style style;
    bool drawn;   /* a bar is on the screen */
    bool running; /* between begin and end */
    size_t total, done, shown_done;
    double begin, shown;
    char state[128];
} console = {.program = "t2tvit", .verbosity = 1, .style = PROGRESS_NONE};

static bool is_set(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value;
}

/* A terminal that obeys escape sequences. */
static bool is_terminal(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

static bool choose_color(enum console_color color)
{
    if (color != COLOR_AUTO) return color == COLOR_ALWAYS;
    if (is_set("NO_COLOR")) return false;
    const char *force = getenv("CLICOLOR_FORCE"), *wish = getenv("CLICOLOR");
    if (force && *force && strcmp(force, "0") != 0) return true;
    return is_terminal() && !(wish && strcmp(wish, "0") == 0);
}

void t2t_console_open(const char *program, size_t verbosity, enum console_color color, enum progress_style style)
{
    console.program = program;
    console.verbosity = verbosity;
    console.color = choose_color(color);
    console.style = style;
    if (style == PROGRESS_AUTO) console.style = is_terminal() ? PROGRESS_BAR : PROGRESS_LINES;
    if (verbosity == 0 && style == PROGRESS_AUTO) console.style = PROGRESS_NONE;
}

static void clear_bar(void)
{
    if (console.drawn) fputs("\r\033[K", stderr);
    console.drawn = false;
}

/* ---- messages ---- */

static void say(const char *label, const char *paint, const char *format, va_list arguments)
{
    char text[8192];
    vsnprintf(text, sizeof text, format, arguments);
    t2t_hide_controls(text);
    clear_bar();
    fprintf(stderr, "%s: %s%s%s%s\n", console.program, console.color && *label ? paint : "", label,
        console.color && *label ? "\033[0m" : "", text);
}

void t2t_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say("", "", format, arguments);
    va_end(arguments);
}

void t2t_warn(const char *format, ...)
{
    if (console.verbosity < 1) return;
    va_list arguments;
    va_start(arguments, format);
    say("warning: ", "\033[33m", format, arguments);
    va_end(arguments);
}

void t2t_note(const char *format, ...)
{
    if (console.verbosity < 1) return;
    va_list arguments;
    va_start(arguments, format);
    say("", "", format, arguments);
    va_end(arguments);
}

void t2t_detail(const char *format, ...)
{
    if (console.verbosity < 2) return;
    va_list arguments;
    va_start(arguments, format);
    say("", "", format, arguments);
    va_end(arguments);
}

/* ---- progress ---- */

static size_t terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col) return size.ws_col;
    const char *columns = getenv("COLUMNS");
    const long width = columns ? strtol(columns, NULL, 10) : 0;
    return width > 0 && width <= WIDEST ? (size_t)width : 80;
}

static void format_left(char *text, size_t bytes, double seconds)
{
    const unsigned long s = (unsigned long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, bytes, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, bytes, "%lu:%02lu", s / 60, s % 60);
}

/* "320/1000 pictures  32 %  exact top-1 97.5 [95.1, 98.7]  21.3/s  0:32 left" */
static int format_state(char *line, size_t bytes, double now)
{
    const double elapsed = now - console.begin, done = (double)console.done, total = (double)console.total;
    const double rate = elapsed > 0 ? done / elapsed : 0;
    char left[32] = "-";
    if (rate > 0) format_left(left, sizeof left, (total - done) / rate);
    return snprintf(line, bytes, "%zu/%zu %s  %.0f %%%s%s  %.1f/s  %s left", console.done, console.total, console.what,
        console.total ? 100 * done / total : 100.0, *console.state ? "  " : "", console.state, rate, left);
}

static void draw_bar(double now)
{
    char state[LINE_BYTES];
    format_state(state, sizeof state, now);
    const bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    const size_t width = terminal_width() - 1, length = strlen(state);
    const size_t full = console.total ? BAR_CELLS * console.done / console.total : BAR_CELLS;
    fputs("\r\033[K", stderr);
    if (length + BAR_CELLS + 3 <= width) {
        fputc('[', stderr);
        for (size_t i = 0; i < BAR_CELLS; i++)
            fputs(i < full ? (utf8 ? "\u2588" : "#") : (utf8 ? "\u2591" : "-"), stderr);
        fputs("] ", stderr);
    }
    fprintf(stderr, "%.*s", (int)(length < width ? length : width), state);
    fflush(stderr);
    console.drawn = true;
}

static void show(double now)
{
    console.shown = now;
    console.shown_done = console.done;
    if (console.style == PROGRESS_BAR) {
        draw_bar(now);
        return;
    }
    char state[LINE_BYTES];
    format_state(state, sizeof state, now);
    fprintf(stderr, "%s: %s\n", console.program, state);
}

void t2t_progress_begin(const char *what, size_t total)
{
    console.what = what;
    console.total = total;
    console.done = 0;
    console.state[0] = '\0';
    console.begin = t2t_now();
    console.running = true;
    if (console.style != PROGRESS_NONE) show(console.begin);
}

/* Whether an update would show anything now. */
static bool is_due(size_t done)
{
    const double waited = t2t_now() - console.shown;
    if (!console.running || console.style == PROGRESS_NONE) return false;
    if (console.style == PROGRESS_BAR) return waited >= redraw_seconds;
    return waited >= line_seconds && (double)(done - console.shown_done) >= line_share * (double)console.total;
}

void t2t_progress_update(size_t done, const char *state)
{
    console.done = done;
    snprintf(console.state, sizeof console.state, "%s", state);
    if (is_due(done)) show(t2t_now());
}

void t2t_progress_end(void)
{
    if (!console.running) return;
    console.running = false;
    if (console.style == PROGRESS_NONE) return;
    if (console.style == PROGRESS_BAR || console.done != console.shown_done) show(t2t_now());
    if (console.style == PROGRESS_BAR) fputc('\n', stderr);
    console.drawn = false;
}
