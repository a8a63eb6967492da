#include "source.h"

#include <stdlib.h>
#include <string.h>

#include "count.h"
#include "fade.h"
#include "memory.h"

struct core_source {
    struct core_source_setup setup;
    uint32_t ready;
    /* The engine thread's. */
    int playing; /* else silence, until the ring is ready */
    int begun;   /* it has played */
    struct fade fade;
    struct residue residue;
    float last[SIGRACK_MAX_CHANNELS]; /* what was played last */
    /* Written by the engine thread. */
    _Atomic uint64_t read, underrun, waiting, underruns;
};

uint32_t core_source_ready(uint32_t producer_frames, uint32_t block_frames) {
    uint32_t most = 3 * block_frames;
    if (!producer_frames || producer_frames > most)
        return most;
    return producer_frames < block_frames ? block_frames : producer_frames;
}

struct core_source *core_source_new(const struct core_source_setup *setup) {
    uint32_t ready = core_source_ready(setup->producer_frames, setup->block_frames);
    if (!ready || ready > setup->ring->capacity || setup->ring->channels > SIGRACK_MAX_CHANNELS)
        return NULL;
    struct core_source *source = core_take(sizeof *source);
    if (!source)
        return NULL;
    source->setup = *setup;
    if (setup->residue_frames > setup->fade_frames)
        source->setup.residue_frames = setup->fade_frames;
    source->ready = ready;
    source->fade.gain = source->fade.to = 1; /* the very first frames are as they are: nothing was silent before */
    return source;
}

void core_source_free(struct core_source *source) { free(source); }

static void play(struct core_source *source) {
    source->playing = source->begun = 1;
    if (source->fade.gain < 1.0f)
        fade_to(&source->fade, 1, source->setup.fade_frames);
}

/* What is there fades out, in its last `most` frames if it has so many. If it has not even the shortest fade's, the residue of its
   last frame, or of the last that was played, brings that to its end. */
static void fade_out(struct core_source *source, float *const *in, uint32_t take) {
    uint32_t channels = source->setup.ring->channels, most = source->setup.fade_frames, least = source->setup.residue_frames;
    uint32_t length = take < most ? take : most;
    length = length < least ? least : length;
    uint32_t from = take > length ? take - length : 0;
    fade_to(&source->fade, 0, length); /* a fade in that still goes on is longer than a block, and then `from` is 0 */
    fade_run(&source->fade, in, channels, from, take - from);
    residue_add(&source->residue, in, channels, 0, take);
    for (uint32_t c = 0; take && c < channels; c++)
        source->last[c] = in[c][take - 1];
    residue_begin(&source->residue, source->last, channels, length - (take - from));
    fade_to(&source->fade, 0, 0);
}

/* Frames `from` .. `frames` - 1 have no sound but the residue's. */
static void rest(struct core_source *source, float *const *in, uint32_t from, uint32_t frames) {
    uint32_t channels = source->setup.ring->channels;
    for (uint32_t c = 0; c < channels; c++)
        memset(in[c] + from, 0, (frames - from) * sizeof(float));
    residue_add(&source->residue, in, channels, from, frames - from);
    fade_to(&source->fade, 0, 0);
}

static void hold(struct core_source *source, float *const *in, uint32_t fill, uint32_t frames) {
    rest(source, in, 0, frames);
    count_add(source->begun && fill < frames ? &source->underrun : &source->waiting, frames);
}

static void run_dry(struct core_source *source, float *const *in, uint32_t take, uint32_t frames) {
    fade_out(source, in, take);
    rest(source, in, take, frames);
    source->playing = 0;
    count_add(&source->underrun, frames - take);
    count_add(&source->underruns, 1);
}

static uint32_t pull(struct core_source *source, float *const *in, uint32_t frames) {
    struct core_ring *ring = source->setup.ring;
    int closed = core_ring_closed(ring); /* before the fill: what was written before the closing is then in it */
    uint32_t fill = core_ring_fill(ring);
    if (!source->playing) {
        if (fill < source->ready && !closed) {
            hold(source, in, fill, frames);
            return frames;
        }
        play(source);
    }
    uint32_t take = fill < frames ? fill : frames;
    core_ring_read(ring, in, take);
    count_add(&source->read, take);
    if (take < frames && !closed) {
        run_dry(source, in, take, frames);
        return frames;
    }
    fade_run(&source->fade, in, ring->channels, 0, take);
    residue_add(&source->residue, in, ring->channels, 0, take);
    return take;
}

uint32_t core_source_pull(struct core_source *source, float *const *in, uint32_t frames) {
    uint32_t length = pull(source, in, frames);
    for (uint32_t c = 0; length && c < source->setup.ring->channels; c++)
        source->last[c] = in[c][length - 1];
    return length;
}

int core_source_fits(const struct core_source *source, uint32_t channels, uint32_t frames) {
    return source->setup.ring->channels == channels && frames <= source->setup.block_frames;
}

void core_source_stats(const struct core_source *source, struct core_source_stats *stats) {
    stats->read = atomic_load(&source->read);
    stats->underrun = atomic_load(&source->underrun);
    stats->waiting = atomic_load(&source->waiting);
    stats->underruns = atomic_load(&source->underruns);
    stats->fill = core_ring_level(source->setup.ring);
}
