/* The thread that waits for signals. */
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
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static interrupt_report *reporter = report_nothing;
static void *reporter_context;

int t2t_interrupted(void)
{
    return atomic_load(&interrupted);
}

/* Two seconds after the first signal at the latest the process is gone, unless it is writing its report just then. */
static void *watch(void *unused)
{
    (void)unused;
    int first = 0;
    while (sigwait(&watched, &first) != 0) {
    }
    atomic_store(&interrupted, first);
    const struct timespec step = {.tv_nsec = STEP_MS * 1000000L};
    for (int waited = 0;; waited += STEP_MS) {
        if (sigtimedwait(&watched, NULL, &step) > 0) _exit(128 + first);
        if (waited < PATIENCE_MS || pthread_mutex_trylock(&held) != 0) continue;
        reporter(reporter_context);
        _exit(128 + first);
    }
    return NULL;
}

enum t2t_status t2t_interrupt_arm(void)
{
    sigemptyset(&watched);
    sigaddset(&watched, SIGINT);
    sigaddset(&watched, SIGTERM);
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
