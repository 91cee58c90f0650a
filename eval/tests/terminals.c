/* What reaches a terminal: the progress bar, colours, names. The first argument is the folder of the programs. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/tests/workshop.h"

/* What a program writes on a terminal of this width. */
static char *on_terminal(const char *script, unsigned short columns, int *code)
{
    static char text[1 << 16];
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    const struct winsize size = {.ws_row = 24, .ws_col = columns};
    assert_int_equal(ioctl(master, TIOCSWINSZ, &size), 0);
    const pid_t child = fork();
    if (child == 0) {
        setsid();
        const int terminal = open(ptsname(master), O_RDWR);
        for (int stream = 0; stream < 3; stream++) dup2(terminal, stream);
        execl("/bin/sh", "sh", "-c", script, (char *)NULL);
        _exit(126);
    }
    size_t bytes = 0;
    for (ssize_t got; bytes < sizeof text - 1; bytes += (size_t)got)
        if ((got = read(master, text + bytes, sizeof text - 1 - bytes)) <= 0) break; /* EIO: closed by all */
    text[bytes] = '\0';
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    close(master);
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return text;
}

static void bar_on_a_terminal(void **state)
{
    (void)state;
    int code;
    setenv("TERM", "xterm", 1);
    char *text = on_terminal("\"$EVAL\" -w \"$W\" \"$P\" -b 4 >/dev/null", 100, &code);
    assert_int_equal(code, 0);
    assert_non_null(strstr(text, "\r\033[K[####################] 24/24 pictures  100 %"));
    text = on_terminal("LC_ALL=C.UTF-8 \"$EVAL\" -w \"$W\" \"$P\" >/dev/null", 100, &code);
    assert_non_null(strstr(text, "\u2588] 24/24"));
    text = on_terminal("\"$EVAL\" -w \"$W\" \"$P\" >/dev/null", 20, &code); /* a narrow one: never a second line */
    assert_non_null(strstr(text, "24/24 pictures"));
    assert_null(strchr(text, '#')); /* no room for the bar itself */
    for (const char *line = strstr(text, "\033[K"), *next; line; line = next) {
        next = strstr(line + 3, "\033[K");
        const size_t length = next ? (size_t)(next - line) - 4 : strcspn(line + 3, "\r\n");
        if (length > 19) fail_msg("%zu columns on a terminal of 20: %s", length, line);
    }
    static const char *const plain[] = {"TERM=dumb \"$EVAL\" -w \"$W\" \"$P\"", "TERM= \"$EVAL\" -w \"$W\" \"$P\"",
        "\"$EVAL\" -w \"$W\" \"$P\" --progress=lines --color=never", "\"$EVAL\" -q -w \"$W\" \"$P\""};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        text = on_terminal(plain[i], 100, &code);
        assert_int_equal(code, 0);
        if (strchr(text, '\033')) fail_msg("%s: an escape in %s", plain[i], text);
    }
    assert_null(strstr(text, "t2tvit-eval")); /* -q: results alone */
}

static void colours(void **state)
{
    (void)state;
    int code;
    static const char warned[] = "head -c 12000 \"$P/dots/dots_5_5.JPEG\" >/dev/null; mkdir -p \"$D/c/dots\"; "
                                 "printf x >\"$D/c/dots/bad.JPEG\"; cp \"$P/dots/dots_5_5.JPEG\" \"$D/c/dots\"; "
                                 "\"$EVAL\" -w \"$W\" --on-error=skip \"$D/c\" --progress=none ";
    char script[1024];
    static const struct {
        const char *options;
        bool painted;
    } cases[] = {{"", true}, {"--color=never", false}, {"--color=always | cat", true}};
    for (size_t i = 0; i < 3; i++) {
        snprintf(script, sizeof script, "%s%s", warned, cases[i].options);
        assert_int_equal(strstr(on_terminal(script, 100, &code), "\033[33mwarning: \033[0m") != NULL, cases[i].painted);
    }
    snprintf(script, sizeof script, "export NO_COLOR=1; %s", warned);
    assert_null(strchr(on_terminal(script, 100, &code), '\033'));
    const struct result piped = command_run("/bin/sh", (const char *const[]){"-c", warned, NULL});
    command_expect(&piped, 0, "warning: skipped: ");
    assert_null(strchr(piped.text, '\033'));
}

/* Names reach a terminal without what it would act on, and a pipe as they are. */
static void names_on_a_terminal(void **state)
{
    (void)state;
    int code;
    const char *prepare = "cp \"$P/dots/dots_5_5.JPEG\" \"$D/$(printf 'n\\033[31m\\a.JPEG')\" && cd \"$D\" && ";
    static const char *const runs[] = {"\"$CLASSIFY\" -w \"$W\" n*JPEG", "\"$CLASSIFY\" -w \"$W\" n*JPEG --format csv",
        "\"$CLASSIFY\" -w \"$W\" n*JPEG --format jsonl", "\"$CLASSIFY\" --tensor-digest n*JPEG"};
    char script[512];
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        snprintf(script, sizeof script, "%s%s", prepare, runs[i]);
        const char *text = on_terminal(script, 100, &code);
        assert_int_equal(code, 0);
        if (strchr(text, '\033') || strchr(text, '\a')) fail_msg("%s: %s", runs[i], text);
    }
    snprintf(script, sizeof script, "%s%s", prepare, runs[3]);
    assert_non_null(strstr(SHELL(script).out, "  n\033[31m\a.JPEG\n"));
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bar_on_a_terminal),
        cmocka_unit_test(colours),
        cmocka_unit_test(names_on_a_terminal),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
