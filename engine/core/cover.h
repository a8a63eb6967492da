/* cover.h - stands in the run list for a processor that runs in a child's process, and covers for it when it is late or dead.

   The child's output is played `latency_frames` after the input. Where a block's end is not there in time, the input itself, delayed
   by as much, is played in that very block, and what the output was apart from it goes to zero in a straight line, so that there is
   no step; so it is where what the child has made is no sound. Instead of the input a fallback processor may stand for the child, which
   runs beside it; where the child changes the rate or the number of channels and there is none, silence does. When the child has kept up for the length of a fade, its output fades in again. */
#ifndef SIGRACK_COVER_H
#define SIGRACK_COVER_H

#include "exchange.h"
#include "slot.h"

#define COVER_LATEST (1u << 22) /* frames at most, of both latencies */
#define COVER_MOST_RATIO 32u
#define COVER_LOUDEST 1e6f /* 120 dB above full scale: nothing that is meant to be heard */

struct core_cover;

struct core_cover_setup {
    core_process fallback; /* as late as the child's processor; or NULL */
    core_reset reset;      /* the fallback's; may be NULL */
    void *self;            /* the fallback's */
    uint32_t channels, outputs, ratio, max_frames; /* the last of what goes in */
    uint32_t latency_frames; /* that go in: at least max_frames and a quantum, see core_cover_latency */
    uint32_t late_frames;    /* that go out, by which the child's processor itself is late: the input that stands for it is, too */
    uint32_t fade_frames;    /* that go out: of cross-fades, and of what is left of the last output */
    uint32_t patient;        /* freewheel: the engine waits for a child that is alive */
    uint32_t silent;         /* without a fallback silence stands for the child, also where the input could */
    uint32_t warm_frames;    /* that go in, which a life must have heard before it takes over: how far back its output depends on them */
};

/* Frames that went out since the beginning: wet + dry = processed. [any] */
struct core_cover_stats {
    uint64_t wet;    /* of the child's output, cross-fades to it included */
    uint64_t dry;    /* of what stands for it */
    uint64_t misses; /* times the output was not there */
    uint64_t lives;  /* that were taken into use */
    uint64_t stuck;  /* lives whose ring ran full: they get no more input */
    uint64_t lies;   /* lives that claimed to have done what they cannot have: neither do they */
    uint64_t bad;    /* blocks with NaN, infinity or more than COVER_LOUDEST */
    uint64_t unset;  /* parameter changes that found no room */
    uint64_t soundless; /* blocks that were bad, one after the other, the last ones */
    uint32_t is_wet; /* the last block was the child's to its end */
};

/* The least latency for blocks of up to `max_frames` frames, in quanta of `quantum`: a block's output never depends on frames of the
   same block. `even`: all blocks have max_frames frames. [any] */
CORE_API uint32_t core_cover_latency(uint32_t quantum, uint32_t max_frames, int even);

/* NULL when out of memory or range. [control] */
CORE_API struct core_cover *core_cover_new(const struct core_cover_setup *setup);
/* Its lives must have been collected or never given. [control] */
CORE_API void core_cover_free(struct core_cover *cover);

/* Whether a life can be covered for: as many channels and frames out for each in, a quantum within the latency, and rings that hold the latency and a block, so
   that the child never writes where the host still reads. [any] */
CORE_API int core_cover_fits(const struct core_cover *cover, const struct core_exchange *life);
/* Let the next block begin a new life, which fits and is borrowed. Returns one that was given and never begun, or NULL. NULL for `life`: none.
   [main] */
CORE_API struct core_exchange *core_cover_give(struct core_cover *cover, struct core_exchange *life);
/* A life that the engine has left for good, or NULL. While one is uncollected no other begins. [main] */
CORE_API struct core_exchange *core_cover_collect(struct core_cover *cover);
CORE_API void core_cover_stats(const struct core_cover *cover, struct core_cover_stats *stats); /* [any] */

/* As a slot's processor: `self` is a struct core_cover. [engine] */
CORE_API int core_cover_process(void *self, const struct sigrack_block *block);
CORE_API void core_cover_reset(void *self);

#endif
