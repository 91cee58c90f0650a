/* Signals and pipes: how soon the programs stop, and what they still say. The first argument is the folder of the
 * programs.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/tests/written.h"

/* Seeds that keep the program busy for some seconds; side of slow pictures. */
#ifdef T2T_SANITIZED
enum { SEEDS = 40, LARGE = 320 };
#define SEEDS_OPTION "--seeds=40"
#define LAST_SEED "logits.kdeformer.seed40"
#else
enum { SEEDS = 400, LARGE = 640 };
#define SEEDS_OPTION "--seeds=400"
#define LAST_SEED "logits.kdeformer.seed400"
#endif

/* Seconds from the signal to the end. A machine with other work, or a sanitizer, may take longer than is promised. */
static double patience(void)
{
    double load;
#ifndef T2T_SANITIZED
    if (getloadavg(&load, 1) == 1 && load < 2) return 2;
#endif
    (void)load;
    return 10;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Whether the progress bar has shown that some of the pictures are done. */
static bool has_begun(const char *text)
{
    for (const char *found = text; (found = strstr(found, "/24 pictures")); found++)
        if (found[-1] != '0' || strchr("0123456789", found[-2])) return true;
    return false;
}

static bool is_open(const char *text)
{
    return strstr(text, "0/24 pictures") != NULL;
}

static bool says_interrupted(const char *text)
{
    return strstr(text, "interrupted: ") != NULL;
}

/* Waits until standard error shows something, or fails after a minute. */
static void wait_for(const struct command *command, bool (*shows)(const char *text))
{
    const struct timespec pause = {.tv_nsec = 5000000};
    const double begin = now();
    while (!shows(command_said(command))) {
        if (now() - begin > 60) fail_msg("waited in vain:\n%s", command_said(command));
        nanosleep(&pause, NULL);
    }
}

/* Starts t2tvit-eval on work for minutes, one picture after the other, showing how many are done. */
static struct command start_long(const char *report, const char *logits)
{
    return command_start(
        shop.eval, (const char *const[]){"--weights", shop.weights, shop.pictures, "-a", "exact,kdeformer",
                       SEEDS_OPTION, "-b", "1", "-t", "1", "--warmup", "0", "--progress", "bar", "--format", "json",
                       "-o", report, "--save-logits", logits, NULL});
}

/* Sends a signal; the result, and that it came in time. */
static struct result interrupt(struct command *command, int signal)
{
    const double begin = now();
    kill(command->process, signal);
    const struct result result = command_finish(command);
    const double seconds = now() - begin;
    if (seconds > patience()) fail_msg("it took %.2f s to stop", seconds);
    return result;
}

/* ---- stopping ---- */

static void partial_reports(void **state)
{
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < 2; i++) {
        struct command command = start_long(in_shop("part.json"), in_shop("part.safetensors"));
        wait_for(&command, has_begun);
        const struct result result = interrupt(&command, signals[i]);
        command_expect(&result, 128 + signals[i], "t2tvit-eval: interrupted: ");
        json_t *out = parsed(result.out);
        char *text = file_text(in_shop("part.json"));
        json_t *file = parsed(text);
        free(text);
        assert_true(json_is_true(at(out, "partial")));
        assert_true(json_equal(out, file));
        const size_t images = count_at(at(out, "dataset"), "images");
        assert_true(images >= 1 && images < 24);
        assert_int_equal(count_at(at(run_of(out, SEEDS), "top1"), "total"), images);
        const struct logits logits = logits_of(in_shop("part.safetensors"), LAST_SEED);
        assert_int_equal(logits.pictures, images);
        assert_string_equal(t2t_tensors_metadata(logits.file, "partial"), "true");
        t2t_tensors_close(logits.file);
        json_decref(out);
        json_decref(file);
    }
    assert_int_equal(files_in(shop.folder), 4); /* network, pictures, report, logits: no temporary */
}

static void tables_say_it(void **state)
{
    (void)state;
    struct command command = command_start(shop.eval,
        (const char *const[]){"--weights", shop.weights, shop.pictures, "-a", "kdeformer", SEEDS_OPTION, "-b1", "-t1",
            "--warmup=0", "--progress=bar", "-o", in_shop("part.md"), "-o", in_shop("part.csv"), NULL});
    wait_for(&command, has_begun);
    const struct result result = interrupt(&command, SIGINT);
    command_expect(&result, 130, "note      interrupted: ");
    assert_non_null(strstr(result.out, " of 24 pictures, the rest was not seen"));
    char *markdown = file_text(in_shop("part.md")), *csv = file_text(in_shop("part.csv"));
    assert_non_null(strstr(markdown, "- interrupted: "));
    assert_non_null(strstr(csv, ",1\n")); /* the last column of every row */
    assert_null(strstr(csv, ",0\n"));
    free(markdown);
    free(csv);
}

/* One forward of the whole folder lasts longer than anybody waits. */
static void during_a_long_forward(void **state)
{
    (void)state;
    const char *network = make_network("large", T2T_TOKENS_TRANSFORMER, LARGE, NULL);
    struct command command =
        command_start(shop.eval, (const char *const[]){"--weights", network, shop.pictures, "-b24", "-t1",
                                     "--warmup=1000", "--progress=bar", "-o", in_shop("none.json"), NULL});
    wait_for(&command, is_open);
    const struct result result = interrupt(&command, SIGTERM);
    command_expect(&result, 143, "interrupted: 0 of 24 pictures done");
    assert_string_equal(result.out, "");
    assert_int_not_equal(access(in_shop("none.json"), F_OK), 0);
    unlink(network);
}

static void second_signal(void **state)
{
    (void)state;
    const char *network = make_network("large", T2T_TOKENS_TRANSFORMER, LARGE, NULL);
    struct command command = command_start(shop.eval, (const char *const[]){"--weights", network, shop.pictures, "-b24",
                                                          "-t1", "--warmup=1000", "--progress=bar", NULL});
    wait_for(&command, is_open);
    kill(command.process, SIGINT);
    usleep(50000); /* so that two are not taken for one */
    const double begin = now();
    const struct result result = interrupt(&command, SIGINT);
    const double seconds = now() - begin;
    command_expect(&result, 130, "");
    if (seconds > patience() / 4) fail_msg("the second signal took %.2f s", seconds); /* a late report takes 1 s */
    assert_string_equal(result.out, "");
    unlink(network);
}

/* A report that nobody reads must not keep the program. */
static void second_signal_while_reporting(void **state)
{
    (void)state;
    char *pipe = strdup(in_shop("pipe"));
    assert_int_equal(mkfifo(pipe, 0600), 0);
    struct command command = command_start(
        "/bin/sh", (const char *const[]){"-c",
                       "exec \"$EVAL\" -w \"$W\" \"$P\" -a exact,kdeformer " SEEDS_OPTION " -b 1 -t 1 --warmup 0 "
                       "--progress bar --format json >\"$D/pipe\"",
                       NULL});
    const int reader = open(pipe, O_RDONLY);
    wait_for(&command, has_begun);
    kill(command.process, SIGINT);
    wait_for(&command, says_interrupted);
    usleep(200000);
    const struct result result = interrupt(&command, SIGINT);
    command_expect(&result, 130, "");
    close(reader);
    unlink(pipe);
    free(pipe);
}

/* A job in the background of a shell, or under nohup, has these signals ignored: it goes on. */
static void ignored_signals_stay_ignored(void **state)
{
    (void)state;
    struct command command = command_start(
        "/bin/sh", (const char *const[]){"-c",
                       "trap '' INT; exec \"$EVAL\" -w \"$W\" \"$P\" -a kdeformer --seeds 10 -b 1 -t 1 --warmup 0 "
                       "--progress bar --format csv",
                       NULL});
    wait_for(&command, is_open);
    kill(command.process, SIGINT);
    const struct result result = command_finish(&command);
    command_expect(&result, 0, "24/24 pictures");
    assert_null(strstr(result.out, ",1\n")); /* not partial */
}

static void classify_stops_too(void **state)
{
    (void)state;
    struct command command = command_start(
        "/bin/sh", (const char *const[]){"-c",
                       "for i in $(seq 400); do printf '%s\\n' \"$P\"/*/*.JPEG; done >\"$D/list\"; "
                       "exec \"$CLASSIFY\" -w \"$W\" --files-from \"$D/list\" -b 1 -t 1 --save-logits \"$D/l\" "
                       "-a exact,kdeformer 2>&1 >\"$D/answers\"",
                       NULL});
    const struct timespec pause = {.tv_nsec = 5000000};
    for (double begin = now(); now() - begin < 60; nanosleep(&pause, NULL)) {
        struct stat about;
        if (stat(in_shop("answers"), &about) == 0 && about.st_size > 0) break;
    }
    const struct result result = interrupt(&command, SIGTERM);
    command_expect(&result, 143, "t2tvit-classify: interrupted: ");
    assert_non_null(strstr(result.text, " of 9600 pictures answered"));
    const struct logits logits = logits_of(in_shop("l"), "logits.exact");
    assert_true(logits.pictures > 0 && logits.pictures < 9600);
    assert_string_equal(t2t_tensors_metadata(logits.file, "partial"), "true");
    t2t_tensors_close(logits.file);
    unlink(in_shop("l"));
    unlink(in_shop("list"));
    unlink(in_shop("answers"));
}

static bool is_ready(const char *text)
{
    return strstr(text, " kernels, ") != NULL;
}

/* The first batch is so large that decoding it lasts longer than anybody waits. */
static void while_waiting_for_pictures(void **state)
{
    (void)state;
    struct command command =
        command_start("/bin/sh", (const char *const[]){"-c",
                                     "for i in $(seq 400); do printf '%s\\n' \"$P\"/*/*.JPEG; done >\"$D/list\"; "
                                     "exec \"$CLASSIFY\" -v -w \"$W\" --files-from \"$D/list\" -b 4096 -t 1",
                                     NULL});
    wait_for(&command, is_ready);
    const struct result result = interrupt(&command, SIGINT);
    command_expect(&result, 130, "t2tvit-classify: interrupted: 0 of 9600 pictures answered\n");
    assert_string_equal(result.out, "");
    unlink(in_shop("list"));
}

/* ---- pipes ---- */

static void readers_that_leave(void **state)
{
    (void)state;
    const struct result eval =
        SHELL("{ \"$EVAL\" -q -w \"$W\" \"$P\" --format json; echo \"code $?\" >&2; } | head -1");
    command_expect(&eval, 0, "{\n");
    assert_string_equal(eval.out, "{\n");
    const struct result many =
        SHELL("{ \"$CLASSIFY\" -w \"$W\" -r \"$P\" \"$P\" \"$P\" \"$P\" -b 1; echo \"code $?\" >&2; } | true");
    command_expect(&many, 0, "code 141"); /* ended by SIGPIPE, without a word */
    assert_null(strstr(many.error, "t2tvit"));
    const struct result deaf = SHELL("trap '' PIPE; { \"$EVAL\" -q -w \"$W\" \"$P\"; echo \"code $?\" >&2; } | true");
    command_expect(&deaf, 0, "code ");
    assert_null(strstr(deaf.error, "t2tvit"));
}

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    workshop_find(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partial_reports),
        cmocka_unit_test(tables_say_it),
        cmocka_unit_test(during_a_long_forward),
        cmocka_unit_test(second_signal),
        cmocka_unit_test(second_signal_while_reporting),
        cmocka_unit_test(ignored_signals_stay_ignored),
        cmocka_unit_test(classify_stops_too),
        cmocka_unit_test(while_waiting_for_pictures),
        cmocka_unit_test(readers_that_leave),
    };
    return cmocka_run_group_tests(tests, workshop_open, workshop_close);
}
