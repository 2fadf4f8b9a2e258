#define _XOPEN_SOURCE 700
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "interrupt.h"
#include "patchmask.h"
#include "slicer.h"
#include "system.h"

enum { BAR_CELLS = 30 };
static const double REDRAW_SECONDS = 0.1;

double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void progress_start(progress* bar, progress_style style) {
    bar->style = style == PROGRESS_BAR && !system_stderr_is_terminal() ? PROGRESS_NONE : style;
    bar->started = seconds_now();
    if (bar->style == PROGRESS_SLICER) slicer_print_start();
}

static const char* stage_name(int32_t stage) {
    switch (stage) {
        case PATCHMASK_STAGE_PLAN: return "plan";
        case PATCHMASK_STAGE_INTENSITY: return "intensity";
        case PATCHMASK_STAGE_NETWORK: return "network";
        case PATCHMASK_STAGE_MASK: return "mask";
        default: return "";
    }
}

/* [#########.....................] network    31 %  1:07 left */
static void draw(const progress* bar, double fraction, int32_t stage, double now) {
    char cells[BAR_CELLS + 1];
    int filled = (int)(fraction * BAR_CELLS);
    memset(cells, '.', BAR_CELLS);
    memset(cells, '#', (size_t)filled);
    cells[BAR_CELLS] = '\0';
    fprintf(stderr, "\r[%s] %-9s %3d %%", cells, stage_name(stage), (int)(100 * fraction));
    double elapsed = now - bar->started;
    if (fraction > 0.01 && elapsed > 1) {
        unsigned long left = (unsigned long)(elapsed * (1 - fraction) / fraction + 0.5);
        fprintf(stderr, "  %lu:%02lu left", left / 60, left % 60);
    }
    fputs("\033[K", stderr);
    fflush(stderr);
}

int32_t progress_report(double fraction, int32_t stage, void* user_data) {
    progress* bar = user_data;
    double now = seconds_now();
    if (bar->style != PROGRESS_NONE && (!bar->drawn || now - bar->drawn_at >= REDRAW_SECONDS)) {
        fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
        if (bar->style == PROGRESS_SLICER) slicer_print_progress(fraction);
        else draw(bar, fraction, stage, now);
        bar->drawn = true;
        bar->drawn_at = now;
    }
    return interrupted();
}

void progress_log(int32_t level, const char* message, void* user_data) {
    progress* bar = user_data;
    if (level == PATCHMASK_LOG_WARNING && bar->warning_count < PROGRESS_WARNINGS)
        snprintf(bar->warning[bar->warning_count++], PROGRESS_WARNING_BYTES, "%s", message);
}

void progress_end(progress* bar) {
    if (bar->style == PROGRESS_SLICER) {
        slicer_print_end(seconds_now() - bar->started);
    } else if (bar->drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        bar->drawn = false;
    }
}

void progress_print_warnings(const progress* bar) {
    FILE* file = bar->style == PROGRESS_SLICER ? stdout : stderr;
    for (unsigned i = 0; i < bar->warning_count; i++) fprintf(file, "segment: warning: %s\n", bar->warning[i]);
}
