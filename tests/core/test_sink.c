/* The sink ring under both policies: every sample that the reader gets against a plain model, every frame counted. */
#include "sink.h"

#include <math.h>
#include <string.h>

#include "check.h"
#include "threads.h"

#define CHANNELS 2u
#define BLOCK 64u
#define LIMIT 512u
#define MOST 400000u

/* The stream: no two neighbours differ by more than NATURAL_STEP. */
#define NATURAL_STEP 0.03
static double value(uint64_t frame, uint32_t channel) { return 0.5 + 0.4 * sin(0.05 * (double)frame + channel); }

struct scene {
    struct core_sink *sink;
    uint64_t pushed, taken;
    float heard[CHANNELS * MOST];
};

static struct scene scene;

static void scene_open(enum core_sink_overflow overflow, uint32_t fade) {
    scene.sink = core_sink_new(&(struct core_sink_setup){CHANNELS, LIMIT, BLOCK, fade, overflow});
    scene.pushed = scene.taken = 0;
    CHECK(scene.sink);
}

static void push(uint32_t frames) {
    float samples[CHANNELS][BLOCK], *out[CHANNELS] = {samples[0], samples[1]};
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < frames; i++)
            samples[c][i] = (float)value(scene.pushed + i, c);
    core_sink_push(scene.sink, out, frames);
    scene.pushed += frames;
}

static uint32_t take(uint32_t frames) {
    CHECK(scene.taken + frames <= MOST);
    uint32_t taken = core_sink_read_interleaved(scene.sink, scene.heard + scene.taken * CHANNELS, frames);
    CHECK(taken <= frames);
    scene.taken += taken;
    return taken;
}

static struct core_sink_stats stats(void) {
    struct core_sink_stats stats;
    core_sink_stats(scene.sink, &stats);
    CHECK(stats.pushed == scene.pushed && stats.read == scene.taken);
    CHECK(stats.pushed == stats.read + stats.dropped + stats.fill);
    return stats;
}

static void expect_dropped(uint64_t frames, uint64_t overruns) {
    struct core_sink_stats found = stats();
    CHECK(found.dropped == frames && found.overruns == overruns);
}

/* Frame `at` of what was heard is frame `of` of the stream, times `gain`. */
static int heard(uint64_t at, uint64_t of, double gain) {
    for (uint32_t c = 0; c < CHANNELS; c++)
        if (fabs(scene.heard[at * CHANNELS + c] - gain * value(of, c)) > 2e-6)
            return 0;
    return 1;
}

static double largest_step(void) {
    double step = 0;
    for (uint64_t i = CHANNELS; i < scene.taken * CHANNELS; i++)
        step = fmax(step, fabs(scene.heard[i] - scene.heard[i - CHANNELS]));
    return step;
}

static void impossible_sizes_are_refused(void) {
    static const struct core_sink_setup setups[] = {
        {0, 512, 64, 0, 0},  {33, 512, 64, 0, 0},          {2, 255, 64, 0, 0},
        {2, 512, 0, 0, 0},   {2, 512, 64, 0, 2},           {2, 0x80000000u, 64, 0, SINK_DROP_OLDEST},
    };
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++)
        CHECK(!core_sink_new(&setups[i]));
    struct core_sink *sink = core_sink_new(&(struct core_sink_setup){2, 256, 64, 1000000, SINK_DROP_OLDEST});
    CHECK(sink && core_sink_fits(sink, 2, 64) && !core_sink_fits(sink, 2, 65) && !core_sink_fits(sink, 1, 64));
    core_sink_free(sink);
    core_sink_free(NULL);
}

static void a_reader_that_keeps_up_gets_every_sample(void) {
    for (int policy = 0; policy < 2; policy++) {
        scene_open(policy, 100);
        for (int round = 0; round < 100; round++) {
            for (uint32_t i = 0; i < 5; i++)
                push(BLOCK);
            while (take(150)) {
            }
        }
        push(17);
        core_sink_close(scene.sink);
        CHECK(core_sink_closed(scene.sink) && take(150) == 17 && take(150) == 0);
        for (uint64_t i = 0; i < scene.taken; i++)
            CHECK(heard(i, i, 1));
        expect_dropped(0, 0);
        core_sink_free(scene.sink);
    }
}

/* The ring takes 512 frames: 384 and a fade of 128. It opens again when a block more would not fill half of the 384. */
static void the_newest_are_dropped_between_two_fades(void) {
    scene_open(SINK_DROP_NEWEST, 128);
    for (int i = 0; i < 20; i++)
        push(BLOCK);
    expect_dropped(20 * BLOCK - 512, 1);
    CHECK(take(384) == 384);
    push(BLOCK); /* 128 are left: not below half with this one */
    CHECK(stats().fill == 192 && take(512) == 192);
    push(BLOCK);
    CHECK(take(512) == BLOCK);
    expect_dropped(12 * BLOCK, 1);
    for (uint64_t i = 0; i < 512; i++)
        CHECK(heard(i, i, i < 384 ? 1 : 1 - (double)(i - 383) / 128));
    for (uint64_t i = 0; i < 128; i++)
        CHECK(heard(512 + i, 20 * BLOCK + i, (double)(i + 1) / 128));
    core_sink_free(scene.sink);
}

static void a_reader_that_comes_back_during_the_fade_loses_nothing(void) {
    scene_open(SINK_DROP_NEWEST, 128);
    for (int i = 0; i < 7; i++)
        push(BLOCK);
    CHECK(take(512) == 448);
    push(BLOCK);
    CHECK(take(512) == BLOCK);
    expect_dropped(0, 0);
    for (uint64_t i = 0; i < 512; i++)
        CHECK(heard(i, i, i < 384 ? 1 : i < 448 ? 1 - (double)(i - 383) / 128 : 0.5 + (double)(i - 447) / 128));
    core_sink_free(scene.sink);
}

static void hard_edges_drop_whole_blocks(void) {
    scene_open(SINK_DROP_NEWEST, 0);
    for (int i = 0; i < 20; i++)
        push(BLOCK);
    CHECK(take(MOST) == LIMIT);
    for (uint64_t i = 0; i < LIMIT; i++)
        CHECK(heard(i, i, 1));
    expect_dropped(20 * BLOCK - LIMIT, 1);
    core_sink_free(scene.sink);
}

static void a_reader_at_the_limit_is_not_behind(void) {
    scene_open(SINK_DROP_OLDEST, 128);
    for (uint32_t i = 0; i < LIMIT / BLOCK; i++)
        push(BLOCK);
    CHECK(take(LIMIT) == LIMIT);
    expect_dropped(0, 0);
    core_sink_free(scene.sink);
}

/* 576 frames wait, 64 more than the limit: the reader goes on at the last 256, and the fade takes it there. */
static void the_oldest_are_jumped_over_in_a_cross_fade(void) {
    scene_open(SINK_DROP_OLDEST, 128);
    for (int i = 0; i < 9; i++)
        push(BLOCK);
    CHECK(take(200) == 200);
    expect_dropped(320, 1);
    CHECK(stats().fill == 56 && take(200) == 56);
    for (uint64_t i = 0; i < 256; i++)
        for (uint32_t c = 0; c < CHANNELS; c++) {
            double part = i < 128 ? (double)(i + 1) / 128 : 1;
            double expected = part * value(320 + i, c) + (1 - part) * value(i, c);
            CHECK(fabs(scene.heard[i * CHANNELS + c] - expected) < 2e-6);
        }
    core_sink_free(scene.sink);
}

/* The reader is stuck for so long that the writer drops, too: nothing of before is played but a fade. */
static void a_reader_that_was_stuck_goes_on_with_what_is_new(void) {
    scene_open(SINK_DROP_OLDEST, 128);
    for (int i = 0; i < 100; i++)
        push(BLOCK);
    CHECK(stats().fill == 2 * LIMIT && take(512) == 128);
    expect_dropped(100 * BLOCK - 128, 1);
    CHECK(stats().fill == 0);
    push(BLOCK);
    push(BLOCK);
    CHECK(take(512) == 128);
    for (uint64_t i = 0; i < 128; i++)
        CHECK(heard(i, i, 1 - (double)(i + 1) / 128) && heard(128 + i, 100 * BLOCK + i, (double)(i + 1) / 128));
    core_sink_free(scene.sink);
}

/* The ring as a list of all that ever went in; gains move frame by frame. */
struct model {
    double queue[CHANNELS][MOST], heard[CHANNELS][MOST], gain;
    uint64_t in, out, hole_at, dropped, overruns, heard_frames;
    int open, hole;
};

static struct model model;

static void model_push(uint64_t first, uint32_t frames, uint32_t fade, int oldest) {
    uint64_t fill = model.in - model.out;
    uint32_t high = (oldest ? 2 : 1) * LIMIT - fade;
    model.open = fill + frames <= (model.open ? high : high / 2);
    for (uint32_t i = 0; i < frames; i++) {
        if (!model.open && model.gain < 1e-9) {
            model.overruns += !model.hole;
            model.hole_at = model.in;
            model.hole = 1;
            model.dropped++;
            continue;
        }
        model.gain = fmin(1, fmax(0, fade ? model.gain + (model.open ? 1.0 : -1.0) / fade : model.open));
        if (!model.open && !fade) {
            i--; /* silent at once: this frame is a dropped one */
            continue;
        }
        for (uint32_t c = 0; c < CHANNELS; c++)
            model.queue[c][model.in] = model.gain * value(first + i, c);
        model.in++;
        model.hole = 0;
    }
}

static void model_take(uint32_t frames, uint32_t fade, int oldest) {
    uint64_t fill = model.in - model.out, ahead = 0;
    uint32_t old = 0;
    if (oldest && fill > LIMIT) {
        uint64_t over = fill - LIMIT / 2, hole = model.hole_at > model.out ? model.hole_at - model.out : 0;
        old = frames < fade ? frames : fade;
        if (hole > over) { /* fade to silence, then on behind the hole */
            old = old < hole ? old : (uint32_t)hole;
            for (uint32_t c = 0; c < CHANNELS; c++)
                for (uint32_t i = 0; i < old; i++)
                    model.heard[c][model.heard_frames + i] = model.queue[c][model.out + i] * (1 - (double)(i + 1) / old);
            model.heard_frames += old;
            model.dropped += hole - old;
            model.out += hole;
            frames -= old;
            old = 0;
        } else {
            model.dropped += over;
            model.overruns++;
            ahead = over;
            model.out += over;
        }
    }
    for (uint32_t i = 0; i < frames && model.out < model.in; i++, model.out++, model.heard_frames++)
        for (uint32_t c = 0; c < CHANNELS; c++) {
            double part = i < old ? (double)(i + 1) / old : 1;
            model.heard[c][model.heard_frames] =
                part * model.queue[c][model.out] + (part < 1 ? (1 - part) * model.queue[c][model.out - ahead] : 0);
        }
}

/* A reader that dawdles and stops at times, against the model. */
static void run_schedule(uint64_t seed, enum core_sink_overflow overflow, uint32_t fade) {
    uint64_t random = seed;
    int oldest = overflow == SINK_DROP_OLDEST;
    scene_open(overflow, fade);
    memset(&model, 0, sizeof model);
    model.open = 1;
    model.gain = 1;
    for (uint32_t block = 0, stuck = 0; block < 4000; block++) {
        uint32_t frames = draw(&random, BLOCK) + 1;
        model_push(scene.pushed, frames, fade, oldest);
        push(frames);
        if (!stuck && !draw(&random, 40))
            stuck = draw(&random, 60);
        if (stuck && stuck--)
            continue;
        frames = draw(&random, BLOCK + 6) + (draw(&random, 20) ? 0 : 300);
        model_take(frames, fade, oldest);
        take(frames);
        CHECK(scene.taken == model.heard_frames);
        expect_dropped(model.dropped, model.overruns);
    }
    CHECK(model.overruns > 20);
    for (uint64_t i = 0; i < scene.taken; i++)
        for (uint32_t c = 0; c < CHANNELS; c++)
            CHECK(fabs(scene.heard[i * CHANNELS + c] - model.heard[c][i]) < 1e-5);
    core_sink_free(scene.sink);
}

static void random_schedules_sound_as_the_model_says(void) {
    static const uint32_t fades[] = {256, 100, 1, 0};
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (int i = 0; i < 4; i++) {
            run_schedule(seed, SINK_DROP_NEWEST, fades[i]);
            run_schedule(seed, SINK_DROP_OLDEST, fades[i]);
        }
}

/* A reader that is a little too slow, in reads that hold a whole fade. Negative control: hard edges. */
static void run_slow_reader(enum core_sink_overflow overflow, uint32_t fade) {
    scene_open(overflow, fade);
    for (uint32_t block = 0; block < 3000; block++) {
        push(BLOCK);
        if (block % 4 == 3)
            take(230 + block % 23);
    }
    CHECK(stats().dropped > 10 * BLOCK && stats().overruns > 10);
    core_sink_free(scene.sink);
}

static void no_drop_is_a_step_but_without_fades(void) {
    for (int policy = 0; policy < 2; policy++) {
        run_slow_reader(policy, 200);
        CHECK(largest_step() < NATURAL_STEP + 1.0 / 200);
        run_slow_reader(policy, 0);
        CHECK(largest_step() > 0.3);
    }
}

#define STREAM 6000000ull

struct race {
    struct core_sink *sink;
    uint64_t seed;
};

static void *push_everything(void *argument) {
    struct race *race = argument;
    float samples[CHANNELS][BLOCK], *out[CHANNELS] = {samples[0], samples[1]};
    for (uint64_t frame = 0; frame < STREAM;) {
        uint32_t frames = draw(&race->seed, BLOCK) + 1;
        frames = STREAM - frame < frames ? (uint32_t)(STREAM - frame) : frames;
        for (uint32_t c = 0; c < CHANNELS; c++)
            for (uint32_t i = 0; i < frames; i++)
                samples[c][i] = (float)(frame + i);
        core_sink_push(race->sink, out, frames);
        frame += frames;
        dawdle(&race->seed, 3);
    }
    core_sink_close(race->sink);
    return NULL;
}

/* Without fades the frames rise, and what is missing between them is what was dropped. */
static void two_threads_lose_only_what_is_counted(void) {
    for (int policy = 0; policy < 2; policy++) {
        struct race race = {core_sink_new(&(struct core_sink_setup){CHANNELS, LIMIT, BLOCK, 0, policy}), 7};
        pthread_t writer = thread_start(push_everything, &race);
        float samples[CHANNELS * 4 * BLOCK];
        uint64_t random = 8, next = 0, missing = 0;
        for (int closed = 0; !closed;) {
            closed = core_sink_closed(race.sink);
            for (uint32_t frames; (frames = core_sink_read_interleaved(race.sink, samples, draw(&random, 4 * BLOCK) + 1));) {
                for (uint32_t i = 0; i < frames; i++) {
                    uint64_t frame = (uint64_t)samples[i * CHANNELS];
                    CHECK(samples[i * CHANNELS] == samples[i * CHANNELS + 1] && frame >= next);
                    missing += frame - next;
                    next = frame + 1;
                }
                dawdle(&random, 12);
            }
        }
        thread_join(writer);
        struct core_sink_stats found;
        core_sink_stats(race.sink, &found);
        CHECK(found.pushed == STREAM && found.dropped == missing + STREAM - next && found.read + found.dropped == STREAM);
        CHECK(found.dropped > 0 && found.fill == 0);
        core_sink_free(race.sink);
    }
}

int main(void) {
    impossible_sizes_are_refused();
    a_reader_that_keeps_up_gets_every_sample();
    the_newest_are_dropped_between_two_fades();
    a_reader_that_comes_back_during_the_fade_loses_nothing();
    hard_edges_drop_whole_blocks();
    a_reader_at_the_limit_is_not_behind();
    the_oldest_are_jumped_over_in_a_cross_fade();
    a_reader_that_was_stuck_goes_on_with_what_is_new();
    random_schedules_sound_as_the_model_says();
    no_drop_is_a_step_but_without_fades();
    two_threads_lose_only_what_is_counted();
}
