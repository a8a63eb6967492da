/* The engine thread without a device: what goes in comes out once and in order, and every lack and loss is counted. No test
   expects a deadline to be met. */
#include "clock.h"

#include <errno.h>

#include "check.h"
#include "threads.h"

#define BLOCK 64u
#define RATE 192000u

/* A clock with all that it needs; the rack is empty, so the output is the input. */
struct scene {
    struct core_engine *engine;
    struct core_ring *source, *sink;
    struct core_bell *bell;
    struct core_clock *clock;
};

static struct scene scene_new(uint32_t source_frames, uint32_t sink_frames, uint32_t priority) {
    struct scene scene = {
        .engine = core_engine_new(1, BLOCK, 1),
        .source = core_ring_new(1, source_frames),
        .sink = sink_frames ? core_ring_new(1, sink_frames) : NULL,
        .bell = core_bell_new(),
    };
    CHECK(scene.engine && scene.source && scene.bell);
    scene.clock = core_clock_new(&(struct core_clock_setup){
        .engine = scene.engine,
        .source = scene.source,
        .sink = scene.sink,
        .bell = scene.bell,
        .rate_hz = RATE,
        .frames = BLOCK,
        .priority = priority,
    });
    CHECK(scene.clock);
    return scene;
}

static void scene_free(struct scene *scene) {
    core_clock_free(scene->clock);
    core_bell_free(scene->bell);
    core_ring_free(scene->sink);
    core_ring_free(scene->source);
    core_engine_free(scene->engine);
}

static struct core_clock_stats stats_of(const struct scene *scene) {
    struct core_clock_stats stats;
    core_clock_stats(scene->clock, &stats);
    return stats;
}

/* Frame n of the source holds n + 1: silence is told from it. */
static void feed(const struct scene *scene, uint32_t from, uint32_t frames) {
    for (uint32_t n = from; n < from + frames;) {
        float value = (float)(n + 1);
        if (core_ring_write_interleaved(scene->source, &value, 1))
            n++;
        else
            sched_yield();
    }
}

/* Sleep on the bell until the thread has ended. */
static void wait_for_the_end(const struct scene *scene) {
    for (;;) {
        core_bell_arm(scene->bell);
        if (!stats_of(scene).running)
            return;
        CHECK(readable(core_bell_descriptor(scene->bell), -1));
    }
}

/* Take all of the sink: the source's frames 1, 2, 3 ... with silence between; returns the silent ones. */
static uint64_t take_everything(const struct scene *scene, uint32_t frames) {
    uint64_t silent = 0;
    float value, last = 0;
    while (core_ring_read_interleaved(scene->sink, &value, 1)) {
        if (value == 0) {
            silent++;
            continue;
        }
        CHECK(value == last + 1);
        last = value;
    }
    CHECK(last == (float)frames);
    return silent;
}

static void a_stream_passes_whole_and_ends_with_a_shorter_block(void) {
    const uint32_t frames = 50 * BLOCK + 17;
    struct scene scene = scene_new(8192, 8192, 0);
    feed(&scene, 0, frames);
    core_ring_close(scene.source);
    CHECK(!core_clock_start(scene.clock));
    wait_for_the_end(&scene);
    core_clock_join(scene.clock);
    struct core_clock_stats stats = stats_of(&scene);
    CHECK(core_ring_closed(scene.sink) && take_everything(&scene, frames) == 0);
    CHECK(stats.blocks == 51 && stats.source_underrun == 0 && stats.sink_overrun == 0 && stats.fifo == 0);
    uint64_t counted = 0;
    for (int bin = 0; bin < CLOCK_LATENESS_BINS; bin++)
        counted += stats.lateness[bin];
    CHECK(counted == 51 && stats.latest_ns > 0 && stats.late <= 51);
    scene_free(&scene);
}

static void a_live_source_is_joined_by_silence_where_it_is_late(void) {
    const uint32_t frames = 10000;
    struct scene scene = scene_new(256, 1 << 22, 0);
    CHECK(!core_clock_start(scene.clock));
    for (uint32_t part = 0; part < 4; part++) {
        feed(&scene, part * frames / 4, frames / 4);
        for (uint64_t before = stats_of(&scene).source_underrun; stats_of(&scene).source_underrun == before;)
            sched_yield();
    }
    core_ring_close(scene.source);
    wait_for_the_end(&scene);
    struct core_clock_stats stats = stats_of(&scene);
    CHECK(stats.sink_overrun == 0 && stats.source_underrun > 0);
    CHECK(take_everything(&scene, frames) == stats.source_underrun);
    scene_free(&scene);
}

static void what_was_written_right_before_the_closing_arrives(void) {
    uint64_t random = 14;
    for (int round = 0; round < 100; round++) {
        struct scene scene = scene_new(256, 1 << 16, 0);
        CHECK(!core_clock_start(scene.clock));
        while (!stats_of(&scene).blocks)
            sched_yield();
        for (volatile uint32_t spin = draw(&random, 1000000); spin; spin--) {
        }
        feed(&scene, 0, 10);
        core_ring_close(scene.source);
        wait_for_the_end(&scene);
        CHECK(take_everything(&scene, 10) == stats_of(&scene).source_underrun);
        scene_free(&scene);
    }
}

static void a_full_sink_loses_whole_blocks_and_counts_them(void) {
    struct scene scene = scene_new(1024, 160, 0);
    feed(&scene, 0, 1000);
    core_ring_close(scene.source);
    CHECK(!core_clock_start(scene.clock));
    wait_for_the_end(&scene);
    CHECK(stats_of(&scene).sink_overrun == 1000 - 256);
    CHECK(take_everything(&scene, 256) == 0);
    scene_free(&scene);
}

static void it_stops_when_asked_and_free_joins(void) {
    struct scene scene = scene_new(64, 0, 0);
    CHECK(!core_clock_start(scene.clock));
    while (stats_of(&scene).blocks < 3)
        sched_yield();
    CHECK(stats_of(&scene).running);
    core_clock_stop(scene.clock);
    core_clock_join(scene.clock);
    core_clock_join(scene.clock);
    CHECK(!stats_of(&scene).running);
    CHECK(stats_of(&scene).source_underrun == stats_of(&scene).blocks * BLOCK);
    scene_free(&scene);
    scene = scene_new(64, 0, 0);
    CHECK(!core_clock_start(scene.clock));
    scene_free(&scene);
    core_clock_free(NULL);
}

static void a_refused_priority_leaves_its_reason(void) {
    struct scene scene = scene_new(64, 0, 1);
    CHECK(!core_clock_start(scene.clock));
    int fifo = stats_of(&scene).fifo;
    CHECK(fifo == 1 || fifo == -EPERM);
    scene_free(&scene);
}

int main(void) {
    a_stream_passes_whole_and_ends_with_a_shorter_block();
    a_live_source_is_joined_by_silence_where_it_is_late();
    what_was_written_right_before_the_closing_arrives();
    a_full_sink_loses_whole_blocks_and_counts_them();
    it_stops_when_asked_and_free_joins();
    a_refused_priority_leaves_its_reason();
}
