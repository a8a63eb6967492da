/* source.h - the engine's side of the source ring: what is played when the ring runs dry, and from when on it plays again. */
#ifndef SIGRACK_SOURCE_H
#define SIGRACK_SOURCE_H

#include "ring.h"

struct core_source;

struct core_source_setup {
    struct core_ring *ring;   /* borrowed */
    uint32_t block_frames;    /* what is pulled at a time, at most */
    uint32_t producer_frames; /* what is written at a time; 0: not known */
    uint32_t fade_frames;     /* length of fades; 0: hard edges */
    uint32_t residue_frames;  /* the shortest fade out: where less is there, the last sample stands for what lacks */
};

/* Frames since the beginning; every frame that was pulled is in one of the first three. [any] */
struct core_source_stats {
    uint64_t read;      /* from the ring */
    uint64_t underrun;  /* played in their place, for the ring had run dry and had not got a whole block again */
    uint64_t waiting;   /* silence before the ring was ready: at the beginning, and later while it had a block but not enough */
    uint64_t underruns; /* times it ran dry */
    uint32_t fill;      /* frames in the ring now */
};

/* Frames that a ring must hold before it is played: producer > 0 ? clamp(producer, block, 3 * block) : 3 * block. [any] */
CORE_API uint32_t core_source_ready(uint32_t producer_frames, uint32_t block_frames);

/* NULL when out of memory, or when the ring holds less than is needed to be ready. [control] */
CORE_API struct core_source *core_source_new(const struct core_source_setup *setup);
CORE_API void core_source_free(struct core_source *source);
/* Fill a block of `frames` frames from the ring, with fades and silence where it lacks some. Returns the frames to process: fewer
   at the end of the stream, then 0. [engine] */
CORE_API uint32_t core_source_pull(struct core_source *source, float *const *in, uint32_t frames);
/* Whether it can give blocks of `frames` frames for so many channels. [control] */
int core_source_fits(const struct core_source *source, uint32_t channels, uint32_t frames);
CORE_API void core_source_stats(const struct core_source *source, struct core_source_stats *stats);

#endif
