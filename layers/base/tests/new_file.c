/* Files that appear whole or not at all: while they are written, after a failure, and when a signal ends the process. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "layers/base/new_file.h"
#include "layers/base/tests/scratch_folder.h"

static void content_is(const char *expected)
{
    char text[16] = "";
    FILE *file = fopen(scratch_path, "r");
    assert_non_null(file);
    assert_int_equal(fread(text, 1, sizeof text - 1, file), strlen(expected));
    fclose(file);
    assert_string_equal(text, expected);
}

static enum t2t_status write_text(const char *text)
{
    struct t2t_new_file file;
    enum t2t_status status = t2t_new_file_begin(&file, scratch_path);
    if (status) return status;
    status = t2t_new_file_write(&file, text, strlen(text));
    return t2t_new_file_end(&file, status);
}

static void replaces_in_one_step(void **state)
{
    (void)state;
    assert_int_equal(write_text("old"), T2T_OK);
    struct t2t_new_file file;
    assert_int_equal(t2t_new_file_begin(&file, scratch_path), T2T_OK);
    assert_int_equal(t2t_new_file_write(&file, "new", 3), T2T_OK);
    content_is("old");
    assert_int_equal(files_in_scratch_folder(), 2);
    assert_int_equal(t2t_new_file_end(&file, T2T_OK), T2T_OK);
    content_is("new");
    assert_int_equal(files_in_scratch_folder(), 1);

    assert_int_equal(t2t_new_file_begin(&file, scratch_path), T2T_OK);
    assert_int_equal(t2t_new_file_write(&file, "newer", 5), T2T_OK);
    assert_int_equal(t2t_new_file_end(&file, T2T_NOT_FINITE), T2T_NOT_FINITE);
    content_is("new");
    assert_int_equal(files_in_scratch_folder(), 1);
    unlink(scratch_path);
}

static void refuses_what_is_no_file(void **state)
{
    (void)state;
    const char *const targets[] = {scratch_folder, "/dev/full", "/t2tvit/none/file", ""};
    struct t2t_new_file file;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        assert_int_equal(t2t_new_file_begin(&file, targets[i]), T2T_CANNOT_WRITE);
        assert_int_equal(strncmp(t2t_last_error(), targets[i], strlen(targets[i])), 0);
    }
}

/* A child that gets the signal when its file is begun, and how it ended. */
static int end_of_child(int number, void (*handler)(int))
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(number, handler);
        struct t2t_new_file file;
        enum t2t_status status = t2t_new_file_begin(&file, scratch_path);
        if (status) _exit(100);
        raise(number);
        status = t2t_new_file_write(&file, "late", 4);
        _exit((int)t2t_new_file_end(&file, status));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void leaves_nothing_when_a_signal_ends_the_process(void **state)
{
    (void)state;
    const int numbers[] = {SIGHUP, SIGINT, SIGTERM};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const int status = end_of_child(numbers[i], SIG_DFL);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), numbers[i]);
        assert_int_equal(files_in_scratch_folder(), 0);
    }
}

static void goes_on_when_the_signal_is_ignored(void **state)
{
    (void)state;
    const int status = end_of_child(SIGHUP, SIG_IGN);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), T2T_OK);
    content_is("late");
    unlink(scratch_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replaces_in_one_step),
        cmocka_unit_test(refuses_what_is_no_file),
        cmocka_unit_test(leaves_nothing_when_a_signal_ends_the_process),
        cmocka_unit_test(goes_on_when_the_signal_is_ignored),
    };
    return cmocka_run_group_tests(tests, make_scratch_folder, remove_scratch_folder);
}
