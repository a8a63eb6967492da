#include "tap.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

struct core_tap *core_tap_new(uint32_t channels, uint32_t frames, uint32_t notify_frames, struct core_bell *bell) {
    if (channels > SIGRACK_MAX_CHANNELS || !bell)
        return NULL;
    struct core_tap *tap = core_take(sizeof *tap);
    struct core_ring *ring = core_ring_new(channels, frames);
    if (!tap || !ring) {
        core_ring_free(ring);
        free(tap);
        return NULL;
    }
    tap->ring = ring;
    tap->bell = bell;
    tap->notify_frames = notify_frames;
    return tap;
}

void core_tap_free(struct core_tap *tap) {
    if (!tap)
        return;
    core_ring_free(tap->ring);
    free(tap);
}

void core_tap_map(struct core_tap *tap, const uint8_t *in) {
    memcpy(tap->in, in, tap->ring->channels);
    tap->mapped = 1;
}

static uint32_t free_marks(const struct core_tap *tap) {
    uint64_t taken = atomic_load_explicit(&tap->marks_taken, memory_order_acquire);
    return TAP_MARKS - (uint32_t)(atomic_load_explicit(&tap->marks_written, memory_order_relaxed) - taken);
}

/* A mark is published before the frames it numbers, so a reader who sees the frames sees the mark. */
static void put_mark(struct core_tap *tap, uint64_t frame) {
    uint64_t written = atomic_load_explicit(&tap->marks_written, memory_order_relaxed);
    tap->marks[written % TAP_MARKS] = (struct tap_mark){tap->position, frame};
    atomic_store_explicit(&tap->marks_written, written + 1, memory_order_release);
}

void core_tap_write(struct core_tap *tap, const float *const *planes, uint32_t frames, uint64_t frame) {
    int gap = !tap->started || frame != tap->expected_frame;
    if (core_ring_space(tap->ring) < frames || (gap && !free_marks(tap))) {
        atomic_fetch_add_explicit(&tap->lost, frames, memory_order_relaxed);
        core_bell_ring(tap->bell);
        return;
    }
    if (gap)
        put_mark(tap, frame);
    core_ring_write(tap->ring, planes, frames);
    tap->started = 1;
    tap->position += frames;
    tap->expected_frame = frame + frames;
    uint64_t taken = atomic_load_explicit(&tap->ring->taken, memory_order_relaxed);
    if (tap->position - taken >= tap->notify_frames)
        core_bell_ring(tap->bell);
}

void core_tap_close(struct core_tap *tap) {
    core_ring_close(tap->ring);
    core_bell_ring(tap->bell);
}

uint32_t core_tap_space(const struct core_tap *tap) { return free_marks(tap) ? core_ring_space(tap->ring) : 0; }

/* The oldest mark not yet passed, or NULL. */
static const struct tap_mark *next_mark(const struct core_tap *tap) {
    uint64_t taken = atomic_load_explicit(&tap->marks_taken, memory_order_relaxed);
    if (atomic_load_explicit(&tap->marks_written, memory_order_acquire) == taken)
        return NULL;
    return &tap->marks[taken % TAP_MARKS];
}

static void pass_marks(struct core_tap *tap) {
    const struct tap_mark *mark;
    while ((mark = next_mark(tap)) && mark->position == tap->read_position) {
        tap->read_frame = mark->frame;
        atomic_fetch_add_explicit(&tap->marks_taken, 1, memory_order_release);
    }
}

uint32_t core_tap_peek(struct core_tap *tap, uint32_t limit, int *whole) {
    int closed = core_ring_closed(tap->ring); /* before the fill: what was written before the closing is then in it */
    uint32_t fill = core_ring_fill(tap->ring);
    pass_marks(tap);
    const struct tap_mark *mark = next_mark(tap);
    uint32_t run = fill;
    if (mark && mark->position - tap->read_position < fill)
        run = (uint32_t)(mark->position - tap->read_position);
    *whole = run < fill || closed || run >= limit;
    return run < limit ? run : limit;
}

static uint64_t advance(struct core_tap *tap, uint32_t frames) {
    uint64_t frame = tap->read_frame;
    tap->read_position += frames;
    tap->read_frame += frames;
    return frame;
}

uint64_t core_tap_read(struct core_tap *tap, float *samples, uint32_t stride, uint32_t frames) {
    float *planes[SIGRACK_MAX_CHANNELS];
    for (uint32_t c = 0; c < tap->ring->channels; c++)
        planes[c] = samples + (size_t)c * stride;
    core_ring_read(tap->ring, planes, frames);
    return advance(tap, frames);
}

uint64_t core_tap_read_interleaved(struct core_tap *tap, float *samples, uint32_t frames) {
    core_ring_read_interleaved(tap->ring, samples, frames);
    return advance(tap, frames);
}

int core_tap_ended(const struct core_tap *tap) {
    return core_ring_closed(tap->ring) && core_ring_fill(tap->ring) == 0;
}

uint64_t core_tap_lost(const struct core_tap *tap) { return atomic_load_explicit(&tap->lost, memory_order_relaxed); }

uint64_t core_tap_written(const struct core_tap *tap) {
    return atomic_load_explicit(&tap->ring->written, memory_order_relaxed);
}
