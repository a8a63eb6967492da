/* tap.h - audio copied out of the rack: a frame ring that knows frame numbers, drops rather than waits, and counts. */
#ifndef SIGRACK_TAP_H
#define SIGRACK_TAP_H

#include "bell.h"
#include "ring.h"
#include "sigrack.h"

#define TAP_MARKS 256u /* a power of two */

/* From ring position `position` on, frame numbers count from `frame`. */
struct tap_mark {
    uint64_t position, frame;
};

struct core_tap {
    struct core_ring *ring;
    struct core_bell *bell;
    uint32_t notify_frames;
    int mapped; /* 0: it copies the bus's channels in their order */
    uint8_t in[SIGRACK_MAX_CHANNELS];
    /* The writer's. */
    alignas(64) uint64_t expected_frame;
    uint64_t position;
    int started;
    _Atomic uint64_t lost; /* frames that found no room */
    _Atomic uint64_t marks_written;
    /* The reader's. */
    alignas(64) _Atomic uint64_t marks_taken;
    uint64_t read_position, read_frame;
    struct tap_mark marks[TAP_MARKS];
};

/* A tap of at least `frames` frames that rings `bell` (borrowed) once `notify_frames` are there. NULL when out of memory.
   [control] */
CORE_API struct core_tap *core_tap_new(uint32_t channels, uint32_t frames, uint32_t notify_frames, struct core_bell *bell);
CORE_API void core_tap_free(struct core_tap *tap);
/* In a run list, let it copy these channels of the bus, as many as it has; all in their order unless this was called. [control] */
CORE_API void core_tap_map(struct core_tap *tap, const uint8_t *in);

/* Copy one block in, its first frame numbered `frame`; dropped whole if there is no room. [engine] */
CORE_API void core_tap_write(struct core_tap *tap, const float *const *planes, uint32_t frames, uint64_t frame);
/* The stream has ended: wakes the reader for what is left. [the writer's thread, or when that has ended] */
CORE_API void core_tap_close(struct core_tap *tap);
/* Frames that can be written without loss. [writer] */
CORE_API uint32_t core_tap_space(const struct core_tap *tap);

/* How many frames without a gap can be read, up to `limit`; `*whole` is 1 if no more can join them (a gap or the end follows).
   [reader] */
CORE_API uint32_t core_tap_peek(struct core_tap *tap, uint32_t limit, int *whole);
/* Read `frames` frames, no more than were peeked: plane c goes to samples + c * stride. Returns the first one's number. [reader] */
CORE_API uint64_t core_tap_read(struct core_tap *tap, float *samples, uint32_t stride, uint32_t frames);
/* The same, interleaved. [reader] */
CORE_API uint64_t core_tap_read_interleaved(struct core_tap *tap, float *samples, uint32_t frames);
/* Whether the stream has ended and all of it was read. [reader] */
CORE_API int core_tap_ended(const struct core_tap *tap);
/* Frames lost so far. [any] */
CORE_API uint64_t core_tap_lost(const struct core_tap *tap);
/* Frames written so far. [any] */
CORE_API uint64_t core_tap_written(const struct core_tap *tap);

#endif
