/* 3D Slicer's conventions for command-line modules, of the Slicer Execution Model: how a program describes itself
 * (`--xml`) and how it says how far it is (tags on stdout). */
#ifndef SEGMENT_SLICER_H
#define SEGMENT_SLICER_H

/* Prints the module description. Slicer builds the module's panel from it, and calls the program with the flags
 * that it names. */
void slicer_print_description(void);

/* The tags that Slicer looks for on stdout; each is flushed, for stdout is a pipe then. */
void slicer_print_start(void);
void slicer_print_progress(double fraction);
void slicer_print_end(double seconds);

#endif
