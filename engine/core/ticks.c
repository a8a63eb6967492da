#include "ticks.h"

static uint64_t first_ticks;
static int64_t first_ns;

__attribute__((constructor)) static void start(void) {
    first_ns = core_now_ns();
    first_ticks = core_ticks();
}

double core_tick_ns(void) {
    uint64_t ticks = core_ticks() - first_ticks;
    return ticks ? (double)(core_now_ns() - first_ns) / (double)ticks : 1.0;
}
