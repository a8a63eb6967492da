#include "sink.h"

#include <stdlib.h>

#include "count.h"
#include "fade.h"
#include "memory.h"

/* A ring of one writer and one reader cannot take from the writer's side what the reader may be reading. So it is the reader that
   drops the oldest frames, by a jump; the ring is twice as long as the limit, and what it does not hold while the reader is stuck is
   dropped by the writer. That hole lies between sound that is too old and sound that is not: the reader jumps to it. */
#define ROOM_FOR_JUMPS 2u
#define LEAST_BLOCKS 4u

struct core_sink {
    struct core_sink_setup setup;
    struct core_ring *ring;
    /* The writer's. The top of the ring is kept free for a fade out: it closes above `high` and opens again below `low`, so that a
       reader who is a little too slow hears few long holes and not a fade in every block. */
    uint32_t high, low;
    int open, hole;
    struct fade fade;
    _Atomic uint64_t pushed, unwritten, holes;
    _Atomic uint64_t hole_at; /* ring position before which the last hole is */
    /* The reader's. */
    alignas(64) float *old; /* [fade_frames][channels], interleaved: what a jump fades out */
    _Atomic uint64_t read, skipped, jumps;
};

static int fits(const struct core_sink_setup *setup) {
    return setup->channels && setup->channels <= SIGRACK_MAX_CHANNELS && setup->block_frames && setup->overflow <= SINK_DROP_OLDEST &&
           setup->limit_frames / LEAST_BLOCKS >= setup->block_frames && setup->limit_frames <= UINT32_MAX / 2 / ROOM_FOR_JUMPS;
}

struct core_sink *core_sink_new(const struct core_sink_setup *setup) {
    if (!fits(setup))
        return NULL;
    uint32_t hold = setup->limit_frames * (setup->overflow == SINK_DROP_OLDEST ? ROOM_FOR_JUMPS : 1);
    uint32_t fade = setup->fade_frames < setup->limit_frames / 2 ? setup->fade_frames : setup->limit_frames / 2;
    struct core_sink *sink = core_take(sizeof *sink);
    struct core_ring *ring = core_ring_new(setup->channels, hold);
    float *old = core_take((size_t)(fade ? fade : 1) * setup->channels * sizeof(float));
    if (!sink || !ring || !old) {
        free(old);
        core_ring_free(ring);
        free(sink);
        return NULL;
    }
    sink->setup = *setup;
    sink->setup.fade_frames = fade;
    sink->ring = ring;
    sink->old = old;
    sink->high = hold - fade;
    sink->low = sink->high / 2;
    sink->open = 1;
    sink->fade.gain = sink->fade.to = 1;
    return sink;
}

void core_sink_free(struct core_sink *sink) {
    if (!sink)
        return;
    core_ring_free(sink->ring);
    free(sink->old);
    free(sink);
}

/* Open or close, and turn round at the gain that has been reached. */
static void turn(struct core_sink *sink, int open) {
    float to = open ? 1.0f : 0.0f, way = open ? 1.0f - sink->fade.gain : sink->fade.gain;
    uint32_t frames = (uint32_t)(way * (float)sink->setup.fade_frames + 0.5f);
    fade_to(&sink->fade, to, frames < sink->setup.fade_frames ? frames : sink->setup.fade_frames);
    sink->open = open;
}

static void drop(struct core_sink *sink, uint32_t frames) {
    if (!frames)
        return;
    if (!sink->hole) {
        count_add(&sink->holes, 1);
        atomic_store_explicit(&sink->hole_at, atomic_load_explicit(&sink->ring->written, memory_order_relaxed), memory_order_release);
    }
    sink->hole = 1;
    count_add(&sink->unwritten, frames);
}

void core_sink_push(struct core_sink *sink, float *const *out, uint32_t frames) {
    uint32_t fill = sink->ring->capacity - core_ring_space(sink->ring);
    int room = fill + frames <= (sink->open ? sink->high : sink->low);
    if (room != sink->open)
        turn(sink, room);
    uint32_t keep = sink->open || sink->fade.left > frames ? frames : sink->fade.left;
    fade_run(&sink->fade, out, sink->setup.channels, 0, keep);
    core_ring_write(sink->ring, (const float *const *)out, keep);
    if (keep)
        sink->hole = 0;
    drop(sink, frames - keep);
    count_add(&sink->pushed, frames);
}

void core_sink_close(struct core_sink *sink) { core_ring_close(sink->ring); }

/* Jump over a hole that the writer has left, and all before it: the oldest frames fade out, and the writer has faded in what comes
   after the hole. */
static uint32_t jump_to_hole(struct core_sink *sink, float *samples, uint32_t frames, uint32_t hole) {
    uint32_t fade = frames < hole ? frames : hole, channels = sink->setup.channels;
    core_ring_read_interleaved(sink->ring, samples, fade);
    core_ring_skip(sink->ring, hole - fade);
    for (uint32_t i = 0; i < fade * channels; i++)
        samples[i] *= 1.0f - (float)(i / channels + 1) / (float)fade;
    count_add(&sink->skipped, hole - fade);
    return fade;
}

/* Jump over `over` frames: the oldest ones cross over into those where the jump ends. */
static uint32_t jump_ahead(struct core_sink *sink, float *samples, uint32_t frames, uint32_t over) {
    uint32_t channels = sink->setup.channels;
    core_ring_read_interleaved(sink->ring, sink->old, frames);
    core_ring_skip(sink->ring, over - frames);
    core_ring_read_interleaved(sink->ring, samples, frames);
    for (uint32_t i = 0; i < frames * channels; i++)
        samples[i] = sink->old[i] + (float)(i / channels + 1) / (float)frames * (samples[i] - sink->old[i]);
    count_add(&sink->skipped, over);
    count_add(&sink->jumps, 1);
    return frames;
}

/* The frames of a jump's fade; 0 if none is due. */
static uint32_t catch_up(struct core_sink *sink, float *samples, uint32_t frames) {
    uint64_t hole_at = atomic_load_explicit(&sink->hole_at, memory_order_acquire); /* before the fill, which then reaches to it */
    uint32_t fill = core_ring_fill(sink->ring), limit = sink->setup.limit_frames;
    if (sink->setup.overflow != SINK_DROP_OLDEST || fill <= limit)
        return 0;
    uint32_t fade = frames < sink->setup.fade_frames ? frames : sink->setup.fade_frames;
    uint64_t taken = atomic_load_explicit(&sink->ring->taken, memory_order_relaxed);
    uint32_t hole = hole_at > taken ? (uint32_t)(hole_at - taken) : 0;
    uint32_t over = fill - limit / 2; /* half the limit at least, so jumps are rare; and room for a fade at either end */
    return hole > over ? jump_to_hole(sink, samples, fade, hole) : jump_ahead(sink, samples, fade, over);
}

uint32_t core_sink_read_interleaved(struct core_sink *sink, float *samples, uint32_t frames) {
    uint32_t done = catch_up(sink, samples, frames);
    uint32_t fill = core_ring_fill(sink->ring), more = fill < frames - done ? fill : frames - done;
    core_ring_read_interleaved(sink->ring, samples + (size_t)done * sink->setup.channels, more);
    count_add(&sink->read, done + more);
    return done + more;
}

int core_sink_closed(const struct core_sink *sink) { return core_ring_closed(sink->ring); }

int core_sink_fits(const struct core_sink *sink, uint32_t channels, uint32_t frames) {
    return sink->setup.channels == channels && frames <= sink->setup.block_frames;
}

void core_sink_stats(const struct core_sink *sink, struct core_sink_stats *stats) {
    stats->pushed = atomic_load(&sink->pushed);
    stats->read = atomic_load(&sink->read);
    stats->dropped = atomic_load(&sink->unwritten) + atomic_load(&sink->skipped);
    stats->overruns = atomic_load(&sink->holes) + atomic_load(&sink->jumps);
    stats->fill = core_ring_level(sink->ring);
}
