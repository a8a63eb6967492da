/* sink.h - the sink ring: what is dropped when it is read too slowly, and how that is heard. */
#ifndef SIGRACK_SINK_H
#define SIGRACK_SINK_H

#include "ring.h"

struct core_sink;

enum core_sink_overflow {
    SINK_DROP_NEWEST, /* what finds no room: all that was written before is kept */
    SINK_DROP_OLDEST, /* what waits for longest: the reader jumps ahead, so it is never further behind than the limit */
};

struct core_sink_setup {
    uint32_t channels;
    uint32_t limit_frames; /* how far the reader may fall behind; at least four blocks */
    uint32_t block_frames; /* what is pushed at a time, at most */
    uint32_t fade_frames;  /* length of fades, half of the limit at most; 0: hard edges */
    uint32_t overflow;     /* enum core_sink_overflow */
};

/* Frames since the beginning: pushed = read + dropped + fill, exact at rest. [any] */
struct core_sink_stats {
    uint64_t pushed;
    uint64_t read;     /* that were given to the reader */
    uint64_t dropped;  /* by either side */
    uint64_t overruns; /* times a run of frames was dropped */
    uint32_t fill;     /* frames in the ring now */
};

/* NULL when out of memory or range. [control] */
CORE_API struct core_sink *core_sink_new(const struct core_sink_setup *setup);
CORE_API void core_sink_free(struct core_sink *sink);
/* Append a block. Where frames are dropped, the ones before and after are faded, in place. [engine] */
CORE_API void core_sink_push(struct core_sink *sink, float *const *out, uint32_t frames);
/* Nothing more will be pushed. [engine] */
CORE_API void core_sink_close(struct core_sink *sink);
/* Take up to `frames` frames, at least as many as a fade. Returns the number taken; 0: nothing is there. [reader] */
CORE_API uint32_t core_sink_read_interleaved(struct core_sink *sink, float *samples, uint32_t frames);
/* Whether the sink was closed; read once more after this. [reader] */
CORE_API int core_sink_closed(const struct core_sink *sink);
/* Whether it can take blocks of `frames` frames with so many channels. [control] */
int core_sink_fits(const struct core_sink *sink, uint32_t channels, uint32_t frames);
CORE_API void core_sink_stats(const struct core_sink *sink, struct core_sink_stats *stats);

#endif
