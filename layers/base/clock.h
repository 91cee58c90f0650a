/* The clock of everything that is timed. */
#ifndef T2T_LAYERS_BASE_CLOCK_H
#define T2T_LAYERS_BASE_CLOCK_H

/* Seconds; it only runs forward, and where it began means nothing. */
double t2t_now(void);

#endif
