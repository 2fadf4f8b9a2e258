/* SIGINT, SIGTERM and SIGHUP as a wish to stop, which the program looks at between steps. */
#ifndef SEGMENT_INTERRUPT_H
#define SEGMENT_INTERRUPT_H

#include <stdbool.h>

/* From now on signals are noted instead of killing the program, and writing to a full disk, beyond
 * the file size limit or into a closed pipe is an error code instead of a signal. */
void interrupt_install(void);

/* Whether a signal asked the program to stop. */
bool interrupted(void);

#endif
