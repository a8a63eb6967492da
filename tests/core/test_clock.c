/* The engine thread without a device: what goes in comes out once and in order, and every lack and loss is counted. No test
   expects a deadline to be met. */
#include "clock.h"

#include <errno.h>
#include <signal.h>

#include "check.h"
#include "ticks.h"
#include "threads.h"

#define BLOCK 64u
#define RATE 192000u
#define LONG_MS 60000u

/* A clock with all that it needs; the rack is empty unless a test adds a processor, so the output is the input. Nothing fades, and
   the source plays on as soon as it has a block. */
struct scene {
    struct core_slot *slot;
    struct core_engine *engine;
    struct core_ring *ring;
    struct core_source *source;
    struct core_sink *sink;
    struct core_bell *bell;
    struct core_clock *clock;
};

static struct scene scene_new(uint32_t source_frames, uint32_t sink_frames, uint32_t priority) {
    struct scene scene = {
        .engine = core_engine_new(1, BLOCK, 1),
        .ring = core_ring_new(1, source_frames),
        .sink = sink_frames ? core_sink_new(&(struct core_sink_setup){1, sink_frames, BLOCK, 0, SINK_DROP_NEWEST}) : NULL,
        .bell = core_bell_new(),
    };
    scene.source = core_source_new(&(struct core_source_setup){.ring = scene.ring, .block_frames = BLOCK, .producer_frames = 1});
    CHECK(scene.engine && scene.source && scene.bell && (scene.sink || !sink_frames));
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

/* Before the start. */
static void add_processor(struct scene *scene, core_process process, void *self) {
    scene->slot = core_slot_new(&(struct core_slot_setup){
        .process = process, .self = self, .channels = 1, .max_frames = BLOCK, .fade_frames = 1, .active = 1});
    struct core_run_list *list = core_run_list_new(&(struct core_step){.slot = scene->slot}, 1);
    CHECK(scene->slot && list && !core_engine_publish(scene->engine, list, 0));
}

static void scene_free(struct scene *scene) {
    CHECK(core_clock_free(scene->clock));
    core_bell_free(scene->bell);
    core_sink_free(scene->sink);
    core_source_free(scene->source);
    core_ring_free(scene->ring);
    core_engine_free(scene->engine);
    core_slot_free(scene->slot);
}

static struct core_clock_stats stats_of(const struct scene *scene) {
    struct core_clock_stats stats;
    core_clock_stats(scene->clock, &stats);
    return stats;
}

/* Frames that were played without one of the stream. */
static uint64_t silence_of(const struct scene *scene) {
    struct core_source_stats stats;
    core_source_stats(scene->source, &stats);
    return stats.underrun + stats.waiting;
}

static uint64_t dropped_by(const struct scene *scene) {
    struct core_sink_stats stats;
    core_sink_stats(scene->sink, &stats);
    return stats.dropped;
}

/* Frame n of the source holds n + 1: silence is told from it. */
static void feed(const struct scene *scene, uint32_t from, uint32_t frames) {
    for (uint32_t n = from; n < from + frames;) {
        float value = (float)(n + 1);
        if (core_ring_write_interleaved(scene->ring, &value, 1))
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
    while (core_sink_read_interleaved(scene->sink, &value, 1)) {
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
    core_ring_close(scene.ring);
    CHECK(!core_clock_start(scene.clock));
    wait_for_the_end(&scene);
    CHECK(core_clock_join(scene.clock, LONG_MS));
    struct core_clock_stats stats = stats_of(&scene);
    CHECK(core_sink_closed(scene.sink) && take_everything(&scene, frames) == 0);
    CHECK(stats.blocks == 51 && silence_of(&scene) == 0 && dropped_by(&scene) == 0 && stats.fifo == 0);
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
        for (uint64_t before = silence_of(&scene); silence_of(&scene) == before;)
            sched_yield();
    }
    core_ring_close(scene.ring);
    wait_for_the_end(&scene);
    CHECK(dropped_by(&scene) == 0 && silence_of(&scene) > 0);
    CHECK(take_everything(&scene, frames) == silence_of(&scene));
    scene_free(&scene);
}

static void without_a_source_silence_runs_and_nothing_is_missed(void) {
    struct scene scene = scene_new(64, 1 << 16, 0);
    CHECK(core_clock_free(scene.clock));
    scene.clock = core_clock_new(&(struct core_clock_setup){
        .engine = scene.engine, .sink = scene.sink, .bell = scene.bell, .rate_hz = RATE, .frames = BLOCK});
    CHECK(scene.clock && !core_clock_start(scene.clock));
    while (stats_of(&scene).blocks < 20)
        sched_yield();
    core_clock_stop(scene.clock);
    CHECK(core_clock_join(scene.clock, LONG_MS));
    uint64_t heard = 0;
    for (float value; core_sink_read_interleaved(scene.sink, &value, 1); heard++)
        CHECK(value == 0);
    CHECK(heard + dropped_by(&scene) == stats_of(&scene).blocks * BLOCK && silence_of(&scene) == 0);
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
        core_ring_close(scene.ring);
        wait_for_the_end(&scene);
        CHECK(take_everything(&scene, 10) == silence_of(&scene));
        scene_free(&scene);
    }
}

static void a_full_sink_loses_whole_blocks_and_counts_them(void) {
    struct scene scene = scene_new(1024, 256, 0);
    feed(&scene, 0, 1000);
    core_ring_close(scene.ring);
    CHECK(!core_clock_start(scene.clock));
    wait_for_the_end(&scene);
    CHECK(dropped_by(&scene) == 1000 - 256);
    CHECK(take_everything(&scene, 256) == 0);
    scene_free(&scene);
}

static void it_stops_when_asked_and_free_joins(void) {
    struct scene scene = scene_new(64, 0, 0);
    CHECK(core_clock_join(scene.clock, 0)); /* never started */
    CHECK(!core_clock_start(scene.clock));
    CHECK(!core_clock_join(scene.clock, 0)); /* not asked to end */
    while (stats_of(&scene).blocks < 3)
        sched_yield();
    CHECK(stats_of(&scene).running);
    core_clock_stop(scene.clock);
    CHECK(core_clock_join(scene.clock, LONG_MS));
    CHECK(core_clock_join(scene.clock, 0));
    CHECK(!stats_of(&scene).running);
    CHECK(silence_of(&scene) == stats_of(&scene).blocks * BLOCK);
    scene_free(&scene);
    scene = scene_new(64, 0, 0);
    CHECK(!core_clock_start(scene.clock));
    scene_free(&scene);
    CHECK(core_clock_free(NULL));
}

/* A processor that does not return until it is let go. */
struct hang {
    _Atomic int entered, go;
};

static int hang_process(void *self, const struct sigrack_block *block) {
    (void)block;
    struct hang *hang = self;
    atomic_store(&hang->entered, 1);
    while (!atomic_load(&hang->go))
        sched_yield();
    return 1;
}

static void a_processor_that_hangs_does_not_hang_the_stop(void) {
    struct hang hang = {0};
    struct scene scene = scene_new(64, 0, 0);
    add_processor(&scene, hang_process, &hang);
    CHECK(!core_clock_start(scene.clock));
    while (!atomic_load(&hang.entered))
        sched_yield();
    core_clock_stop(scene.clock);
    int64_t start_ns = core_now_ns();
    CHECK(!core_clock_join(scene.clock, 0) && !core_clock_join(scene.clock, 50));
    CHECK(core_now_ns() - start_ns >= 40000000); /* it waits; less than 50 ms, as the time of day may be adjusted */
    CHECK(!core_clock_free(scene.clock));
    CHECK(stats_of(&scene).running && stats_of(&scene).blocks == 0);
    atomic_store(&hang.go, 1);
    CHECK(core_clock_join(scene.clock, LONG_MS) && core_clock_join(scene.clock, 0));
    CHECK(!stats_of(&scene).running && stats_of(&scene).blocks == 1);
    scene_free(&scene);
}

static int mask_process(void *self, const struct sigrack_block *block) {
    (void)block;
    return pthread_sigmask(SIG_BLOCK, NULL, self) ? 0 : 1;
}

static void no_signal_but_a_fault_interrupts_the_engine_thread(void) {
    static const int blocked[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGUSR1, SIGUSR2,  SIGCHLD,
                                  SIGALRM, SIGPIPE, SIGCONT, SIGTSTP, SIGURG,  SIGTTIN, SIGTTOU};
    static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t ours, after, mask;
    CHECK(!sigemptyset(&ours) && !sigaddset(&ours, SIGUSR2) && !pthread_sigmask(SIG_SETMASK, &ours, NULL));
    sigemptyset(&mask);
    struct scene scene = scene_new(64, 0, 0);
    add_processor(&scene, mask_process, &mask);
    CHECK(!core_clock_start(scene.clock));
    while (!stats_of(&scene).blocks)
        sched_yield();
    scene_free(&scene);
    for (size_t i = 0; i < sizeof blocked / sizeof *blocked; i++)
        CHECK(sigismember(&mask, blocked[i]));
    for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
        CHECK(sigismember(&mask, number));
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        CHECK(!sigismember(&mask, open[i]));
    CHECK(!pthread_sigmask(SIG_SETMASK, NULL, &after)); /* the caller's is as before */
    CHECK(sigismember(&after, SIGUSR2) && !sigismember(&after, SIGINT) && !sigismember(&after, SIGTERM));
    sigemptyset(&ours);
    CHECK(!pthread_sigmask(SIG_SETMASK, &ours, NULL));
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
    without_a_source_silence_runs_and_nothing_is_missed();
    what_was_written_right_before_the_closing_arrives();
    a_full_sink_loses_whole_blocks_and_counts_them();
    it_stops_when_asked_and_free_joins();
    a_processor_that_hangs_does_not_hang_the_stop();
    no_signal_but_a_fault_interrupts_the_engine_thread();
    a_refused_priority_leaves_its_reason();
}
