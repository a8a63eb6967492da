/* The frame ring: bounds, wrap-around, both layouts, and two threads. */
#include "ring.h"

#include "check.h"
#include "threads.h"

#define CHANNELS 3u
#define MOST 64u

/* A different value for every frame and channel, exact in a float. */
static float value(uint64_t frame, uint32_t channel) { return (float)((frame * CHANNELS + channel) & 0xffffff); }

struct planes {
    float samples[CHANNELS][MOST];
    float *at[CHANNELS];
    const float *in[CHANNELS];
};

static void aim(struct planes *planes) {
    for (uint32_t c = 0; c < CHANNELS; c++)
        planes->in[c] = planes->at[c] = planes->samples[c];
}

static uint32_t write_planar(struct core_ring *ring, uint64_t frame, uint32_t frames) {
    struct planes planes;
    aim(&planes);
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < frames; i++)
            planes.samples[c][i] = value(frame + i, c);
    return core_ring_write(ring, planes.in, frames);
}

static uint32_t write_interleaved(struct core_ring *ring, uint64_t frame, uint32_t frames) {
    float samples[MOST * CHANNELS];
    for (uint32_t i = 0; i < frames * CHANNELS; i++)
        samples[i] = value(frame + i / CHANNELS, i % CHANNELS);
    return core_ring_write_interleaved(ring, samples, frames);
}

/* Both readers check what they took. */
static uint32_t read_planar(struct core_ring *ring, uint64_t frame, uint32_t frames) {
    struct planes planes;
    aim(&planes);
    uint32_t taken = core_ring_read(ring, planes.at, frames);
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < taken; i++)
            CHECK(planes.samples[c][i] == value(frame + i, c));
    return taken;
}

static uint32_t read_interleaved(struct core_ring *ring, uint64_t frame, uint32_t frames) {
    float samples[MOST * CHANNELS];
    uint32_t taken = core_ring_read_interleaved(ring, samples, frames);
    for (uint32_t i = 0; i < taken * CHANNELS; i++)
        CHECK(samples[i] == value(frame + i / CHANNELS, i % CHANNELS));
    return taken;
}

static uint32_t (*const writers[])(struct core_ring *, uint64_t, uint32_t) = {write_planar, write_interleaved};
static uint32_t (*const readers[])(struct core_ring *, uint64_t, uint32_t) = {read_planar, read_interleaved};

static void capacity_is_rounded_up_to_a_power_of_two(void) {
    static const uint32_t wishes[][2] = {{1, 1}, {2, 2}, {3, 4}, {5, 8}, {1000, 1024}, {1024, 1024}, {1025, 2048}};
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        struct core_ring *ring = core_ring_new(1, wishes[i][0]);
        CHECK(ring && core_ring_space(ring) == wishes[i][1]);
        CHECK(core_ring_fill(ring) == 0);
        core_ring_free(ring);
    }
}

static void impossible_sizes_are_refused(void) {
    CHECK(!core_ring_new(0, 8));
    CHECK(!core_ring_new(2, 0));
    CHECK(!core_ring_new(1, 0x80000001u));
    core_ring_free(NULL);
}

static void all_or_nothing_when_full_and_when_empty(void) {
    for (int layout = 0; layout < 2; layout++) {
        struct core_ring *ring = core_ring_new(CHANNELS, 8);
        CHECK(readers[layout](ring, 0, 1) == 0);
        CHECK(writers[layout](ring, 0, 9) == 0);
        CHECK(writers[layout](ring, 0, 5) == 5);
        CHECK(writers[layout](ring, 100, 4) == 0);
        CHECK(core_ring_fill(ring) == 5 && core_ring_space(ring) == 3);
        CHECK(writers[layout](ring, 5, 3) == 3);
        CHECK(writers[layout](ring, 100, 1) == 0);
        CHECK(core_ring_fill(ring) == 8 && core_ring_space(ring) == 0);
        CHECK(readers[layout](ring, 0, 9) == 0);
        CHECK(readers[layout](ring, 0, 8) == 8);
        CHECK(readers[layout](ring, 8, 1) == 0);
        CHECK(writers[layout](ring, 0, 0) == 0 && readers[layout](ring, 0, 0) == 0);
        core_ring_free(ring);
    }
}

static void skipped_frames_are_gone_and_the_next_ones_are_not(void) {
    struct core_ring *ring = core_ring_new(CHANNELS, 8);
    write_planar(ring, 0, 7);
    CHECK(core_ring_level(ring) == 7 && core_ring_skip(ring, 8) == 0 && core_ring_skip(ring, 5) == 5);
    CHECK(core_ring_level(ring) == 2 && core_ring_space(ring) == 6);
    write_planar(ring, 7, 6);
    CHECK(core_ring_level(ring) == 8 && core_ring_skip(ring, 1) == 1 && read_planar(ring, 6, 7) == 7);
    CHECK(core_ring_level(ring) == 0 && core_ring_skip(ring, 1) == 0 && core_ring_skip(ring, 0) == 0);
    core_ring_free(ring);
}

static void every_run_wraps_in_both_layouts(void) {
    for (int layouts = 0; layouts < 4; layouts++)
        for (uint32_t start = 0; start < 8; start++)
            for (uint32_t frames = 1; frames <= 8; frames++) {
                struct core_ring *ring = core_ring_new(CHANNELS, 8);
                CHECK(write_planar(ring, 0, start) == start && read_planar(ring, 0, start) == start);
                CHECK(writers[layouts & 1](ring, start, frames) == frames);
                CHECK(readers[layouts >> 1](ring, start, frames) == frames);
                core_ring_free(ring);
            }
}

static void what_was_written_before_closing_can_be_read(void) {
    struct core_ring *ring = core_ring_new(CHANNELS, 8);
    write_planar(ring, 0, 3);
    CHECK(!core_ring_closed(ring));
    core_ring_close(ring);
    CHECK(core_ring_closed(ring) && core_ring_fill(ring) == 3 && read_planar(ring, 0, 3) == 3);
    core_ring_free(ring);
}

#define FRAMES 12000000ull

static void *write_everything(void *argument) {
    struct core_ring *ring = argument;
    uint64_t random = 1;
    for (uint64_t frame = 0; frame < FRAMES;) {
        uint32_t frames = draw(&random, MOST) + 1;
        frames = FRAMES - frame < frames ? (uint32_t)(FRAMES - frame) : frames;
        uint32_t written = writers[draw(&random, 2)](ring, frame, frames);
        CHECK(written == frames || written == 0);
        frame += written;
        if (!written)
            sched_yield();
    }
    core_ring_close(ring);
    return NULL;
}

static void two_threads_move_every_frame_once_and_in_order(void) {
    struct core_ring *ring = core_ring_new(CHANNELS, 4 * MOST);
    pthread_t writer = thread_start(write_everything, ring);
    uint64_t frame = 0, random = 2;
    for (;;) {
        int closed = core_ring_closed(ring);
        uint32_t fill = core_ring_fill(ring), frames = draw(&random, MOST) + 1;
        if (closed && !fill)
            break;
        uint32_t taken = readers[draw(&random, 2)](ring, frame, closed && fill < frames ? fill : frames);
        frame += taken;
        if (!taken)
            sched_yield();
    }
    thread_join(writer);
    CHECK(frame == FRAMES);
    core_ring_free(ring);
}

int main(void) {
    capacity_is_rounded_up_to_a_power_of_two();
    impossible_sizes_are_refused();
    all_or_nothing_when_full_and_when_empty();
    skipped_frames_are_gone_and_the_next_ones_are_not();
    every_run_wraps_in_both_layouts();
    what_was_written_before_closing_can_be_read();
    two_threads_move_every_frame_once_and_in_order();
}
