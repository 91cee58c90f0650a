/* How every function of the project that can fail says so: a status, and one sentence in the caller's thread.
 *
 * A leaf calls t2t_fail() with what it saw; functions in between return the status unchanged; only programs in eval/
 * print the sentence and turn the status into an exit code (the enumerators are the exit codes).
 */
#ifndef T2T_LAYERS_BASE_STATUS_H
#define T2T_LAYERS_BASE_STATUS_H

enum t2t_status {
    T2T_OK = 0,
    T2T_BAD_USAGE = 2,    /* an option or argument makes no sense */
    T2T_BAD_DATA = 3,     /* pictures, labels or input tensors: missing, corrupt, contradictory */
    T2T_BAD_MODEL = 4,    /* weights file or model description */
    T2T_NO_RESOURCE = 5,  /* out of memory, or the device cannot be used */
    T2T_CANNOT_WRITE = 6, /* an output could not be written whole */
    T2T_NOT_FINITE = 7    /* the forward pass produced NaN or infinity */
};

/* Longest sentence kept, terminator included; longer ones are cut with "...". */
enum { T2T_MESSAGE_BYTES = 4096 };

/* Stores the sentence of the calling thread (printf-style, no newline at the end) and returns `status`.
 * Bytes that a terminal would act on (control characters in file and tensor names) are stored as '?'. */
enum t2t_status t2t_fail(enum t2t_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* T2T_NO_RESOURCE with the sentence "out of memory: WHAT needs N bytes". */
enum t2t_status t2t_fail_memory(const char *what, unsigned long long bytes);

/* The calling thread's last sentence, "" before the first failure. Valid until the thread's next failure. */
const char *t2t_last_error(void);

#endif
