/* The thread that waits for signals, and the one that reports in the program's place. */
#include "eval/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include "eval/progress.h"

enum { PATIENCE_MS = 1000, STEP_MS = 50 };

static void report_nothing(void *unused)
{
    (void)unused;
    t2t_error("interrupted before the first picture");
}

static atomic_int interrupted;
static sigset_t watched;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER, writing = PTHREAD_MUTEX_INITIALIZER;
static interrupt_report *reporter = report_nothing;
static void *reporter_context;

int t2t_interrupted(void)
{
    return atomic_load(&interrupted);
}

/* Two seconds after the first signal at the latest the process is gone, unless it is writing its report just then. */
static void *report_late(void *unused)
{
    (void)unused;
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000L};
    for (int waited = 0; waited < PATIENCE_MS || pthread_mutex_trylock(&held) != 0; waited += STEP_MS)
        nanosleep(&step, NULL);
    reporter(reporter_context);
    _exit(128 + t2t_interrupted());
    return NULL;
}

static void *watch(void *unused)
{
    (void)unused;
    int first = 0, second;
    while (sigwait(&watched, &first) != 0) {
    }
    atomic_store(&interrupted, first);
    pthread_t thread;
    if (pthread_create(&thread, NULL, report_late, NULL) == 0) pthread_detach(thread);
    while (sigwait(&watched, &second) != 0) {
    }
    pthread_mutex_lock(&writing);
    _exit(128 + first);
    return NULL;
}

/* A signal that was ignored when the program began (nohup, a job in the background) stays ignored. */
static void add_unless_ignored(int signal)
{
    struct sigaction action;
    if (sigaction(signal, NULL, &action) != 0 || action.sa_handler != SIG_IGN) sigaddset(&watched, signal);
}

enum t2t_status t2t_interrupt_arm(void)
{
    sigemptyset(&watched);
    add_unless_ignored(SIGINT);
    add_unless_ignored(SIGTERM);
    pthread_sigmask(SIG_BLOCK, &watched, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, watch, NULL) != 0)
        return t2t_fail(T2T_NO_RESOURCE, "the thread that waits for signals cannot be started");
    pthread_detach(thread);
    return T2T_OK;
}

void t2t_interrupt_hold(void)
{
    pthread_mutex_lock(&held);
}

void t2t_interrupt_allow(interrupt_report *report, void *context)
{
    reporter = report;
    reporter_context = context;
    pthread_mutex_unlock(&held);
}

void t2t_interrupt_defer(void)
{
    pthread_mutex_lock(&writing);
}

void t2t_interrupt_resume(void)
{
    pthread_mutex_unlock(&writing);
}
