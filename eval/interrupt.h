/* SIGINT and SIGTERM for programs with long computations: the program stops at its next chance and reports what it has.
 *
 * A thread of its own receives the signals. When the program is inside of one long call (a forward, waiting for
 * pictures) and does not come back in time, another reports in its place; a second signal ends the process at once.
 */
#ifndef T2T_EVAL_INTERRUPT_H
#define T2T_EVAL_INTERRUPT_H

#include "layers/base/status.h"

/* To be called before any other thread exists. */
enum t2t_status t2t_interrupt_arm(void);

/* The signal that arrived, 0 for none. */
int t2t_interrupted(void);

/* From here on the program itself answers to the signal; before the first hold it simply ends. */
void t2t_interrupt_hold(void);

/* What to do when a call lasts too long: print what there is. The process then exits with 128 + the signal. */
typedef void interrupt_report(void *context);

/* Around the writing of a file: a second signal waits for it, so that no part of it stays behind. */
void t2t_interrupt_defer(void);
void t2t_interrupt_resume(void);

/* Before a call that may last: until the next hold, `report` may run in the other thread, and nothing that it reads
 * may change. */
void t2t_interrupt_allow(interrupt_report *report, void *context);

#endif
