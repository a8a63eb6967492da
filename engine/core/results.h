/* results.h - factors on their way to the main loop: many posters, one drain, bounded; posting is wait-free but for a retry,
   unless the ring is patient. */
#ifndef SIGRACK_RESULTS_H
#define SIGRACK_RESULTS_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "bell.h"
#include "core.h"
#include "symbols.h"

/* One record; the records of a ring lie `stride` bytes apart. `sequence` publishes the rest; it counts from 0 in each record, so
   that zeroed memory is an empty ring. */
struct core_record {
    _Atomic uint64_t sequence;
    int64_t ts_ns;     /* the source's own clock */
    uint64_t frame;    /* engine frame */
    int64_t posted_ns; /* CLOCK_MONOTONIC */
    uint64_t cookie;   /* of the handle it was posted with */
    uint32_t symbol;   /* index into the source's symbols */
    uint32_t count;    /* of values */
    double values[];
};

/* What became of the records: posted == delivered + dropped + refused + queued, exactly, at rest. */
struct core_books {
    alignas(64) _Atomic uint64_t posted; /* attempts */
    _Atomic uint64_t dropped;            /* no room */
    _Atomic uint64_t refused;            /* more values than max_values, or an unknown symbol */
    _Atomic uint64_t too_long;           /* (symbol + 1) << 32 | count of the first record refused for its length */
    _Atomic uint32_t unknown_state;      /* 0 none, 1 being written, 2 there */
    char unknown[64];                    /* the first unknown symbol */
};

struct core_results {
    alignas(64) _Atomic uint64_t tail;
    alignas(64) _Atomic uint64_t head;
    struct core_books own_books;
    struct core_books *books;
    struct core_bell *bell;
    const _Atomic uint64_t *frame_now; /* NULL: frame 0 */
    const struct core_symbols *symbols;
    uint32_t capacity, stride, max_values;
    unsigned char *records;
    _Atomic int patient;
};

/* `capacity` is rounded up to a power of two, at least 2. `bell`, `symbols` and `frame_now` are borrowed. A ring of more than
   2 MiB takes its memory from the system as it fills, a smaller one at once: the engine thread, which posts into small ones, meets
   no page fault. NULL when out of memory. [control] */
CORE_API struct core_results *core_results_new(uint32_t capacity, uint32_t max_values, const struct core_symbols *symbols,
                                               struct core_bell *bell, const _Atomic uint64_t *frame_now);
CORE_API void core_results_free(struct core_results *results);
/* Keep the books in `books`, zeroed memory that others may read even when this process has died. Before anybody posts. [control] */
CORE_API void core_results_set_books(struct core_results *results, struct core_books *books);

/* The C callback that signal engines are given; `user` is a cookie of a handle on a `core_results`. [any, foreign] */
CORE_API void core_signal_callback(const char *symbol, long long ts_ns, const double *values, int count, void *user);
/* `sigrack_host.post`: a plugin's factor by number. [any] */
CORE_API int core_post(uint64_t cookie, uint32_t factor, uint64_t frame, const double *values, uint32_t count);

/* Post `count` records as another process has sent them: `core_record`s, `stride` bytes apart, of any alignment and content. What
   cannot be is refused. Each gets the engine frame of now and keeps its other times. Never waits; returns how many were posted: all,
   or none when the handle is closed. [any] */
CORE_API uint32_t core_results_append(uint64_t cookie, const void *records, uint32_t count, uint32_t stride);

/* Freewheel and replay: while a ring is patient, `core_signal_callback` waits for room instead of dropping, until there is some,
   the handle is closed or patience is withdrawn (0), within about 50 us. The caller may be the engine's own thread or a feeder,
   never the one that drains; `core_post`, which the draining thread may call in freewheel, never waits. [main] */
CORE_API void core_results_patient(struct core_results *results, int patient);

/* Published records that follow each other in memory. */
struct core_span {
    uint32_t start, count;
    uint32_t strange; /* of these, posted with another cookie: left over from an earlier handle */
};
/* Look at the oldest records up to the end of the ring's memory, at most `limit`; returns their count. [drain] */
CORE_API uint32_t core_results_peek(struct core_results *results, uint64_t cookie, uint32_t limit, struct core_span *span);
/* Give the oldest `count` records back. [drain] */
CORE_API void core_results_release(struct core_results *results, uint32_t count);
CORE_API void *core_results_memory(struct core_results *results);

struct core_results_stats {
    uint64_t posted, dropped, refused, queued;
};
CORE_API void core_results_stats(struct core_results *results, struct core_results_stats *stats); /* [any] */
/* The first unknown symbol that was posted, or "". [any] */
CORE_API const char *core_results_unknown(struct core_results *results);
/* The first record that was refused for its length: returns 1 and its symbol and count of values, or 0. [any] */
CORE_API int core_results_too_long(struct core_results *results, uint32_t *symbol, uint32_t *count);

#endif
