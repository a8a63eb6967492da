/* clock.h - the engine thread of a live rack without a device: one block per period, on absolute deadlines. */
#ifndef SIGRACK_CLOCK_H
#define SIGRACK_CLOCK_H

#include "bell.h"
#include "engine.h"
#include "sink.h"
#include "source.h"

#define CLOCK_LATENESS_BINS 32 /* bin b counts blocks that ended less than 2^b us (and not less than 2^(b-1)) after their start time */

struct core_clock;

struct core_clock_setup {
    struct core_engine *engine; /* borrowed, like the rings */
    struct core_source *source; /* NULL: silence, for ever */
    struct core_sink *sink;     /* or NULL */
    struct core_bell *bell;     /* rung when the thread has ended */
    uint32_t rate_hz, frames;   /* per block */
    uint32_t priority;          /* SCHED_FIFO priority, 0: normal scheduling */
};

/* [any] */
struct core_clock_stats {
    uint64_t blocks;
    uint64_t late;    /* blocks that ended after the start of the next period */
    uint64_t resyncs; /* times the clock gave up catching up */
    uint64_t lateness[CLOCK_LATENESS_BINS];
    int64_t latest_ns;        /* longest time from start of period to end of block */
    int32_t fifo;             /* 1 SCHED_FIFO granted, 0 not asked for, else minus errno */
    int32_t running;
};

/* NULL when out of memory, or when rate, frames or channels do not fit together. [control] */
CORE_API struct core_clock *core_clock_new(const struct core_clock_setup *setup);
/* Start the thread. No signal handler runs on it, but for those of faults. Returns 0, or an errno. [control] */
CORE_API int core_clock_start(struct core_clock *clock);
/* Ask the thread to end after its block. [any] */
CORE_API void core_clock_stop(struct core_clock *clock);
/* Wait for the thread to end: a period after stop, or never, if a processor does not return. Returns 1 when it has ended, 0 when
   it has not within the limit; may be called again. [control] */
CORE_API int core_clock_join(struct core_clock *clock, uint32_t limit_ms);
/* Stops and joins if need be, with a limit of the longer of 1 s and two periods. Returns 0 when the thread has not ended: nothing
   is freed then, and what the clock borrows must stay, too. [control] */
CORE_API int core_clock_free(struct core_clock *clock);
CORE_API void core_clock_stats(struct core_clock *clock, struct core_clock_stats *stats);

#endif
