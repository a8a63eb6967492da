/* The tap: every delivered sample stands at its own frame number, whatever was lost or skipped on the way. */
#include "tap.h"

#include "check.h"
#include "threads.h"

#define CHANNELS 2u
#define MOST 128u

/* The content of a frame is its number, exact in a float; the second channel differs. */
static float value(uint64_t frame, uint32_t channel) { return (float)((frame ^ channel << 20) & 0xffffff); }

static void write_frames(struct core_tap *tap, uint64_t frame, uint32_t frames) {
    float samples[CHANNELS][MOST];
    const float *planes[CHANNELS] = {samples[0], samples[1]};
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < frames; i++)
            samples[c][i] = value(frame + i, c);
    core_tap_write(tap, planes, frames, frame);
}

/* Reads `frames` frames, checks their content against the number that the tap gives them, and returns it. */
static uint64_t read_frames(struct core_tap *tap, uint32_t frames, int interleaved) {
    float samples[CHANNELS * MOST];
    uint64_t frame = interleaved ? core_tap_read_interleaved(tap, samples, frames)
                                 : core_tap_read(tap, samples, MOST, frames);
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < frames; i++)
            CHECK(samples[interleaved ? i * CHANNELS + c : c * MOST + i] == value(frame + i, c));
    return frame;
}

/* The next run, at most `limit`: its length and whether it is whole are as said. */
static void expect_run(struct core_tap *tap, uint32_t limit, uint32_t frames, int whole) {
    int found;
    CHECK(core_tap_peek(tap, limit, &found) == frames);
    CHECK(found == whole);
}

static struct core_bell *bell;

static void numbers_are_right_after_an_overflow(void) {
    struct core_tap *tap = core_tap_new(CHANNELS, 8, 1, bell);
    write_frames(tap, 100, 4);
    write_frames(tap, 104, 4);
    CHECK(core_tap_space(tap) == 0);
    write_frames(tap, 108, 4);
    CHECK(core_tap_lost(tap) == 4 && core_tap_written(tap) == 8);
    expect_run(tap, MOST, 8, 0);
    CHECK(read_frames(tap, 5, 0) == 100);
    write_frames(tap, 112, 5);
    expect_run(tap, MOST, 3, 1);
    CHECK(read_frames(tap, 3, 1) == 105);
    expect_run(tap, MOST, 5, 0);
    CHECK(read_frames(tap, 5, 0) == 112);
    CHECK(core_tap_lost(tap) == 4 && core_tap_written(tap) == 13);
    core_tap_free(tap);
}

static void numbers_may_jump_both_ways(void) {
    static const uint64_t starts[] = {1ull << 40, 7, 7, 1000, 1003, 0};
    struct core_tap *tap = core_tap_new(CHANNELS, 64, 1, bell);
    for (int i = 0; i < 6; i++)
        write_frames(tap, starts[i], 3);
    for (int i = 0; i < 3; i++) {
        expect_run(tap, MOST, 3, 1);
        CHECK(read_frames(tap, 3, i & 1) == starts[i]);
    }
    expect_run(tap, MOST, 6, 1);
    CHECK(read_frames(tap, 6, 0) == 1000);
    CHECK(read_frames(tap, core_tap_peek(tap, MOST, &(int){0}), 0) == 0);
    CHECK(core_tap_lost(tap) == 0);
    core_tap_free(tap);
}

static void without_a_mark_left_a_jump_is_lost_but_counted(void) {
    struct core_tap *tap = core_tap_new(CHANNELS, 1024, 1, bell);
    for (uint32_t i = 0; i < TAP_MARKS; i++)
        write_frames(tap, 10 * i, 1);
    CHECK(core_tap_lost(tap) == 0 && core_tap_space(tap) == 0);
    write_frames(tap, 5000, 2);
    CHECK(core_tap_lost(tap) == 2);
    uint64_t next = 10 * (TAP_MARKS - 1) + 1;
    write_frames(tap, next, 2);
    CHECK(core_tap_lost(tap) == 2 && core_tap_written(tap) == TAP_MARKS + 2);
    for (uint32_t i = 0; i < TAP_MARKS - 1; i++) {
        expect_run(tap, MOST, 1, 1);
        CHECK(read_frames(tap, 1, 0) == 10 * i);
    }
    write_frames(tap, 6000, 1);
    expect_run(tap, MOST, 3, 1);
    CHECK(read_frames(tap, 3, 0) == next - 1);
    expect_run(tap, MOST, 1, 0);
    CHECK(read_frames(tap, 1, 0) == 6000);
    core_tap_free(tap);
}

static void a_run_is_whole_at_the_limit_before_a_gap_and_at_the_end(void) {
    struct core_tap *tap = core_tap_new(CHANNELS, 64, 1, bell);
    expect_run(tap, 4, 0, 0);
    write_frames(tap, 0, 6);
    expect_run(tap, 7, 6, 0);
    expect_run(tap, 6, 6, 1);
    expect_run(tap, 4, 4, 1);
    write_frames(tap, 20, 1);
    expect_run(tap, 7, 6, 1);
    CHECK(read_frames(tap, 6, 0) == 0);
    expect_run(tap, 7, 1, 0);
    core_tap_close(tap);
    CHECK(!core_tap_ended(tap));
    expect_run(tap, 7, 1, 1);
    CHECK(read_frames(tap, 1, 0) == 20);
    CHECK(core_tap_ended(tap));
    core_tap_free(tap);
}

static int rung(void) { return readable(core_bell_descriptor(bell), 0); }

static void the_bell_rings_once_per_arming_and_not_before_it_is_due(void) {
    struct core_tap *tap = core_tap_new(CHANNELS, 16, 8, bell);
    write_frames(tap, 0, 8);
    CHECK(!rung());
    read_frames(tap, 8, 0);
    core_bell_arm(bell);
    write_frames(tap, 8, 7);
    CHECK(!rung());
    write_frames(tap, 15, 1);
    CHECK(rung());
    core_bell_arm(bell);
    CHECK(!rung());
    write_frames(tap, 16, 9);
    CHECK(rung() && core_tap_lost(tap) == 9);
    core_bell_arm(bell);
    core_tap_close(tap);
    CHECK(rung());
    core_bell_arm(bell);
    core_bell_ring(bell);
    core_bell_ring(bell);
    CHECK(rung());
    core_tap_free(tap);
}

static void impossible_taps_are_refused(void) {
    CHECK(!core_tap_new(0, 8, 1, bell));
    CHECK(!core_tap_new(33, 8, 1, bell));
    CHECK(!core_tap_new(1, 0, 1, bell));
    CHECK(!core_tap_new(1, 8, 1, NULL));
    core_tap_free(NULL);
}

#define BLOCKS 300000u

struct stream {
    struct core_tap *tap;
    uint32_t patient; /* waits for room, so that nothing is lost */
    uint64_t offered; /* frames */
};

static void *write_everything(void *argument) {
    struct stream *stream = argument;
    uint64_t random = 3, frame = 1ull << 40;
    for (uint32_t block = 0; block < BLOCKS; block++) {
        uint32_t frames = draw(&random, MOST) + 1;
        while (stream->patient && core_tap_space(stream->tap) < frames)
            sched_yield();
        if (!draw(&random, 100))
            frame += draw(&random, 100000) + 1;
        write_frames(stream->tap, frame, frames);
        frame += frames;
        stream->offered += frames;
    }
    core_tap_close(stream->tap);
    return NULL;
}

/* Reads to the end, sleeping on the bell whenever there is nothing; returns the number of frames. */
static uint64_t read_everything(struct core_tap *tap, uint32_t slowness) {
    uint64_t random = 4, frames = 0, last = 0;
    int whole, gap = 0; /* the last run was said to end at a gap, or at the end */
    for (;;) {
        uint32_t limit = draw(&random, MOST) + 1, run = core_tap_peek(tap, limit, &whole);
        if (run) {
            uint64_t frame = read_frames(tap, run, (int)draw(&random, 2));
            CHECK(gap ? frame > last : frame >= last);
            last = frame + run;
            gap = whole && run < limit;
            frames += run;
            if (slowness && !draw(&random, 100))
                dawdle(&random, slowness);
            continue;
        }
        if (core_tap_ended(tap))
            return frames;
        core_bell_arm(bell);
        if (!core_tap_peek(tap, 1, &whole) && !core_tap_ended(tap))
            CHECK(readable(core_bell_descriptor(bell), -1));
    }
}

static void a_slow_reader_gets_each_sample_at_its_frame_and_an_exact_account(void) {
    struct stream stream = {.tap = core_tap_new(CHANNELS, 256, 1, bell)};
    pthread_t writer = thread_start(write_everything, &stream);
    while (!core_tap_lost(stream.tap))
        sched_yield();
    uint64_t read = read_everything(stream.tap, 50);
    thread_join(writer);
    CHECK(read == core_tap_written(stream.tap));
    CHECK(read + core_tap_lost(stream.tap) == stream.offered);
    core_tap_free(stream.tap);
}

static void a_patient_writer_loses_nothing(void) {
    struct stream stream = {.tap = core_tap_new(CHANNELS, 256, 1, bell), .patient = 1};
    pthread_t writer = thread_start(write_everything, &stream);
    uint64_t read = read_everything(stream.tap, 0);
    thread_join(writer);
    CHECK(read == stream.offered && core_tap_lost(stream.tap) == 0);
    core_tap_free(stream.tap);
}

int main(void) {
    bell = core_bell_new();
    CHECK(bell);
    impossible_taps_are_refused();
    numbers_are_right_after_an_overflow();
    numbers_may_jump_both_ways();
    without_a_mark_left_a_jump_is_lost_but_counted();
    a_run_is_whole_at_the_limit_before_a_gap_and_at_the_end();
    the_bell_rings_once_per_arming_and_not_before_it_is_due();
    a_slow_reader_gets_each_sample_at_its_frame_and_an_exact_account();
    a_patient_writer_loses_nothing();
    core_bell_free(bell);
}
