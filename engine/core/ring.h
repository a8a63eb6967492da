/* ring.h - frames from one thread to one other: planar float32, bounded, wait-free, all or nothing. */
#ifndef SIGRACK_RING_H
#define SIGRACK_RING_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "core.h"

struct core_ring {
    alignas(64) _Atomic uint64_t written; /* frames, ever; stored by the writer */
    _Atomic uint32_t closed;              /* the writer will write no more */
    alignas(64) _Atomic uint64_t taken;   /* frames, ever; stored by the reader */
    alignas(64) uint32_t channels;
    uint32_t capacity; /* frames, a power of two */
    float *samples;    /* [channels][capacity] */
};

/* `frames` is rounded up to a power of two. Returns NULL when out of memory or a size is 0. [control] */
CORE_API struct core_ring *core_ring_new(uint32_t channels, uint32_t frames);
CORE_API void core_ring_free(struct core_ring *ring);

/* Frames that can be written now. [writer] */
CORE_API uint32_t core_ring_space(const struct core_ring *ring);
/* Frames that can be read now. [reader] */
CORE_API uint32_t core_ring_fill(const struct core_ring *ring);
/* Frames in the ring, as far as a third party can tell. [any] */
CORE_API uint32_t core_ring_level(const struct core_ring *ring);

/* Append `frames` frames, or none if there is no room. Returns the number written. [writer, wait-free] */
CORE_API uint32_t core_ring_write(struct core_ring *ring, const float *const *planes, uint32_t frames);
CORE_API uint32_t core_ring_write_interleaved(struct core_ring *ring, const float *samples, uint32_t frames);
/* Take `frames` frames, or none if fewer are there. Returns the number taken. [reader, wait-free] */
CORE_API uint32_t core_ring_read(struct core_ring *ring, float *const *planes, uint32_t frames);
CORE_API uint32_t core_ring_read_interleaved(struct core_ring *ring, float *samples, uint32_t frames);
/* Let `frames` frames go unread, or none if fewer are there. Returns the number. [reader, wait-free] */
CORE_API uint32_t core_ring_skip(struct core_ring *ring, uint32_t frames);

/* Nothing more will be written. [writer] */
CORE_API void core_ring_close(struct core_ring *ring);
/* Whether the writer has closed; read the fill again after this. [reader] */
CORE_API int core_ring_closed(const struct core_ring *ring);

#endif
