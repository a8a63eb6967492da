/* ticks.h - clocks: the cheapest counter for intervals, CLOCK_MONOTONIC for time stamps. */
#ifndef SIGRACK_TICKS_H
#define SIGRACK_TICKS_H

#include <stdint.h>
#include <time.h>

#include "core.h"

/* CLOCK_MONOTONIC in nanoseconds. [any] */
static inline int64_t core_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A counter for intervals; only differences mean something. A time stamp counter is read in a third of the time that
   CLOCK_MONOTONIC takes, and there are two reads per slot and block. [any] */
static inline uint64_t core_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return (uint64_t)core_now_ns();
#endif
}

/* Nanoseconds per tick, measured since the library was loaded. [any] */
CORE_API double core_tick_ns(void);

#endif
