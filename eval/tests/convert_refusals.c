/* What t2tvit-convert refuses, what that costs, and what stays on the disk when it fails or is stopped. The first argument
 * is the program.
 */
#include <elf.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/tests/run_tool.h"
#include "weights/tests/hostile.h"

#define GOLDEN "../weights/tests/golden/checkpoints/"
#define TINY GOLDEN "transformer_zip.pth.tar"

static void hostile_files(void **state)
{
    (void)state;
    struct hostile hostile;
    double slowest = 0;
    size_t largest = 0, count = 0;
    for (; hostile_case(count, &hostile); count++) {
        bytes_save(&hostile.file, run_in);
        bytes_free(&hostile.file);
        const struct result result = RUN("--num-heads", "3", run_in, run_out);
        slowest = result.seconds > slowest ? result.seconds : slowest;
        largest = result.most_bytes > largest ? result.most_bytes : largest;
        if (result.code != 4 || !strstr(result.text, run_in))
            fail_msg("%s: exit code %d: %s", hostile.name, result.code, result.text);
        unlink(run_in);
        if (run_files_in_folder() != 0) fail_msg("%s: left a file", hostile.name);
    }
    print_message(
        "%zu refused, the slowest after %.2f s, the largest with %.1f MB\n", count, slowest, (double)largest / 1e6);
    assert_true(count >= 600);
#ifndef T2T_SANITIZED
    assert_true(slowest < 1);
    assert_true(largest < 64000000);
#endif
}

/* ---- failures to write ---- */

/* A disk that is full after so many bytes, as a file size limit has it; the old file stands. */
static void full_disk(void **state)
{
    (void)state;
    EXPECT(0, "wrote", "--num-heads", "3", TINY, run_out);
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    for (rlim_t bytes = 2000; bytes < 900000; bytes += 56789) { /* what the program says needs room as well */
        limit.rlim_cur = bytes;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const struct result result = RUN("-f", "--num-heads", "3", "--metadata", "new=1", TINY, run_out);
        setrlimit(RLIMIT_FSIZE, &before);
        command_expect(&result, 6, "out.safetensors: cannot be written: File too large");
        assert_int_equal(run_files_in_folder(), 1);
    }
    EXPECT(0, "equal: 52", "--verify", run_out, TINY);
    unlink(run_out);
}

static void places_that_take_no_file(void **state)
{
    (void)state;
    static const char *const targets[] = {"/proc/out.safetensors", "/dev/full/out.safetensors", "/t2tvit/none/out"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        EXPECT(6, targets[i], "--num-heads", "3", TINY, targets[i]);
    assert_int_equal(run_files_in_folder(), 0);
}

/* ---- signals ---- */

/* A large file of zeros that becomes short so many milliseconds after its reader was begun. */
static struct result list_of_a_shrinking_file(long milliseconds)
{
    enum { NUMBERS = 50000000 };
    char header[256];
    const int bytes = snprintf(header, sizeof header,
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[0,%ld]}}", NUMBERS, 4L * NUMBERS);
    struct bytes file = {0};
    bytes_number(&file, (uint64_t)bytes, 8);
    bytes_add(&file, header, (size_t)bytes);
    bytes_save(&file, run_in);
    assert_int_equal(truncate(run_in, (off_t)file.size + 4L * NUMBERS), 0);
    bytes_free(&file);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        nanosleep(&(const struct timespec){.tv_nsec = milliseconds * 1000000}, NULL);
        _exit(truncate(run_in, 100));
    }
    const struct result result = RUN("--list", run_in);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    unlink(run_in);
    return result;
}

static void input_that_shrinks(void **state)
{
    (void)state;
    struct result result = {.code = 0};
    for (long milliseconds = 160; milliseconds && result.code == 0; milliseconds /= 2)
        result = list_of_a_shrinking_file(milliseconds);
    command_expect(&result, 4, run_in);
}

/* The program, stopped after so many microseconds: how it ended. */
static int stopped_after(long microseconds, int number)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout)) _exit(125);
        execl(run_program, run_program, "--num-heads", "3", TINY, run_out, (char *)NULL);
        _exit(126);
    }
    nanosleep(&(const struct timespec){.tv_nsec = microseconds * 1000}, NULL);
    kill(child, number);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* Whenever it is stopped: no file, or a whole one. */
static void stopped_at_any_moment(void **state)
{
    (void)state;
    size_t stopped = 0;
    for (long microseconds = 0; microseconds < 60000; microseconds += 1500) {
        const int number = microseconds % 2000 ? SIGTERM : SIGINT, status = stopped_after(microseconds, number);
        if (WIFSIGNALED(status)) {
            assert_int_equal(WTERMSIG(status), number);
            stopped++;
        } else {
            assert_int_equal(WEXITSTATUS(status), 0);
        }
        const size_t files = run_files_in_folder();
        assert_true(files <= 1);
        if (files) EXPECT(0, "equal: 52", "--verify", run_out, TINY);
        unlink(run_out);
    }
    print_message("stopped %zu times before its end\n", stopped);
    assert_true(stopped > 0);
}

#ifndef T2T_SANITIZED
/* ---- nothing that runs code ---- */

static struct bytes whole_program(void)
{
    FILE *file = fopen(run_program, "rb");
    assert_non_null(file);
    struct bytes all = {0};
    char block[65536];
    for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;) bytes_add(&all, block, got);
    fclose(file);
    return all;
}

/* The names of the program's dynamic symbols, as nm -D lists them: *count symbols, whose names lie in `names`. */
static const Elf64_Sym *dynamic_symbols(const struct bytes *program, size_t *count, const char **names)
{
    const Elf64_Ehdr *header = (const void *)program->data;
    assert_memory_equal(header->e_ident, ELFMAG, SELFMAG);
    const Elf64_Shdr *sections = (const void *)(program->data + header->e_shoff);
    for (size_t i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_DYNSYM) continue;
        *count = sections[i].sh_size / sizeof(Elf64_Sym);
        *names = (const char *)program->data + sections[sections[i].sh_link].sh_offset;
        return (const void *)(program->data + sections[i].sh_offset);
    }
    fail_msg("%s has no dynamic symbols", run_program);
    return NULL;
}

static bool runs_code(const char *name)
{
    static const char *const never[] = {"system", "popen", "fexecve", "posix_spawn", "posix_spawnp", "dlopen",
        "dlmopen", "dlsym", "fork", "vfork", "clone", "wordexp"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (strcmp(name, never[i]) == 0) return true;
    return strncmp(name, "exec", 4) == 0 || strncmp(name, "Py", 2) == 0;
}

/* None of the functions that the program could call runs a program, a library or an interpreter. */
static void calls_nothing_that_runs_code(void **state)
{
    (void)state;
    struct bytes program = whole_program();
    size_t count = 0, undefined = 0;
    const char *names = NULL;
    bool syncs = false;
    const Elf64_Sym *symbols = dynamic_symbols(&program, &count, &names);
    for (size_t i = 0; i < count; i++) {
        const char *name = names + symbols[i].st_name;
        undefined += symbols[i].st_shndx == SHN_UNDEF;
        syncs = syncs || strcmp(name, "fsync") == 0;
        if (runs_code(name)) fail_msg("the program refers to %s", name);
    }
    assert_true(syncs && undefined > 50); /* it is the list that was meant */
    bytes_free(&program);
}

#endif

int main(int argc, char **argv)
{
    if (argc != 2) return EXIT_FAILURE;
    run_tool_begin(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(places_that_take_no_file),
        cmocka_unit_test(input_that_shrinks),
        cmocka_unit_test(stopped_at_any_moment),
#ifndef T2T_SANITIZED /* a sanitizer brings calls of its own */
        cmocka_unit_test(calls_nothing_that_runs_code),
#endif
    };
    return cmocka_run_group_tests(tests, run_make_folder, run_remove_folder);
}
