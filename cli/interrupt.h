/* SIGINT, SIGTERM and SIGHUP as a request to stop, which the program checks between steps. */
#ifndef SEGMENT_INTERRUPT_H
#define SEGMENT_INTERRUPT_H

#include <stdbool.h>

/* From now on signals are noted instead of killing the program, and writing to a full disk, beyond
 * the file size limit or into a closed pipe is an error code instead of a signal. */
void interrupt_install(void);

/* True once a signal has asked the program to stop. */
bool interrupted(void);

#endif
