/* The source ring as the engine plays it, in virtual time: every sample against a plain model, every frame counted. */
#include "source.h"

#include <math.h>
#include <string.h>

#include "check.h"
#include "threads.h"

#define CHANNELS 2u
#define BLOCK 64u
#define CAPACITY 1024u
#define MOST 400000u

/* The stream: no two neighbours differ by more than NATURAL_STEP. */
#define NATURAL_STEP 0.03
static double value(uint64_t frame, uint32_t channel) { return 0.5 + 0.4 * sin(0.05 * (double)frame + channel); }

struct scene {
    struct core_ring *ring;
    struct core_source *source;
    uint64_t written, played;
    float heard[CHANNELS][MOST];
};

static struct scene scene;

static void scene_open(uint32_t producer, uint32_t fade, uint32_t residue) {
    scene.ring = core_ring_new(CHANNELS, CAPACITY);
    scene.source = core_source_new(&(struct core_source_setup){scene.ring, BLOCK, producer, fade, residue});
    scene.written = scene.played = 0;
    CHECK(scene.ring && scene.source);
}

static void scene_close(void) {
    core_source_free(scene.source);
    core_ring_free(scene.ring);
}

static void feed(uint32_t frames) {
    for (uint32_t i = 0; i < frames; i++, scene.written++) {
        float samples[CHANNELS];
        for (uint32_t c = 0; c < CHANNELS; c++)
            samples[c] = (float)value(scene.written, c);
        CHECK(core_ring_write_interleaved(scene.ring, samples, 1));
    }
}

/* Play a block. What it holds before is garbage: all must be overwritten. */
static uint32_t play(void) {
    float *in[CHANNELS];
    for (uint32_t c = 0; c < CHANNELS; c++) {
        in[c] = scene.heard[c] + scene.played;
        CHECK(scene.played + BLOCK <= MOST);
        for (uint32_t i = 0; i < BLOCK; i++)
            in[c][i] = 1e9f;
    }
    uint32_t frames = core_source_pull(scene.source, in, BLOCK);
    CHECK(frames <= BLOCK);
    scene.played += frames;
    return frames;
}

static struct core_source_stats stats(void) {
    struct core_source_stats stats;
    core_source_stats(scene.source, &stats);
    CHECK(stats.read + stats.underrun + stats.waiting == scene.played && stats.fill == scene.written - stats.read);
    return stats;
}

static void expect_counts(uint64_t read, uint64_t underrun, uint64_t waiting, uint64_t underruns) {
    struct core_source_stats found = stats();
    CHECK(found.read == read && found.underrun == underrun && found.waiting == waiting && found.underruns == underruns);
}

/* Frame `at` of what was heard is frame `of` of the stream, times `gain`. */
static int heard(uint64_t at, uint64_t of, double gain) {
    for (uint32_t c = 0; c < CHANNELS; c++)
        if (fabs(scene.heard[c][at] - gain * value(of, c)) > 2e-6)
            return 0;
    return 1;
}

static int silent(uint64_t from, uint64_t to) {
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint64_t i = from; i < to; i++)
            if (scene.heard[c][i] != 0.0f)
                return 0;
    return 1;
}

static double largest_step(void) {
    double step = 0;
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint64_t i = 1; i < scene.played; i++)
            step = fmax(step, fabs(scene.heard[c][i] - scene.heard[c][i - 1]));
    return step;
}

static void a_ring_is_ready_when_a_block_of_its_writer_is_in_it(void) {
    static const uint32_t rule[][3] = {{0, 64, 192},  {1, 64, 64},    {63, 64, 64},     {64, 64, 64},   {65, 64, 65},
                                       {191, 64, 191}, {192, 64, 192}, {193, 64, 192}, {16384, 64, 192}, {100, 1, 3}};
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
        CHECK(core_source_ready(rule[i][0], rule[i][1]) == rule[i][2]);
}

static void a_ring_that_can_never_be_ready_is_refused(void) {
    struct core_ring *ring = core_ring_new(1, 64);
    CHECK(!core_source_new(&(struct core_source_setup){ring, 22, 0, 0, 0}));
    CHECK(!core_source_new(&(struct core_source_setup){ring, 0, 0, 0, 0}));
    struct core_source *source = core_source_new(&(struct core_source_setup){ring, 21, 0, 0, 0});
    CHECK(source && core_source_fits(source, 1, 21) && !core_source_fits(source, 1, 22) && !core_source_fits(source, 2, 21));
    core_source_free(source);
    core_source_free(NULL);
    core_ring_free(ring);
}

static void a_full_ring_plays_from_the_first_sample_to_the_last(void) {
    scene_open(0, 100, 20);
    feed(5 * BLOCK + 7);
    core_ring_close(scene.ring);
    while (play()) {
    }
    for (uint64_t i = 0; i < 5 * BLOCK + 7; i++)
        CHECK(heard(i, i, 1));
    expect_counts(5 * BLOCK + 7, 0, 0, 0);
    scene_close();
}

static void a_stream_that_is_shorter_than_the_threshold_is_played(void) {
    scene_open(0, 100, 20);
    feed(5);
    core_ring_close(scene.ring);
    CHECK(play() == 5 && play() == 0 && heard(0, 0, 1) && heard(4, 4, 1));
    expect_counts(5, 0, 0, 0);
    scene_close();
}

static void before_the_first_sound_it_waits_and_then_fades_in(void) {
    scene_open(100, 10, 5);
    for (int i = 0; i < 3; i++)
        CHECK(play() == BLOCK);
    feed(99);
    play();
    expect_counts(0, 0, 4 * BLOCK, 0);
    CHECK(silent(0, 4 * BLOCK));
    feed(1);
    play();
    expect_counts(BLOCK, 0, 4 * BLOCK, 0);
    for (uint64_t i = 0; i < BLOCK; i++)
        CHECK(heard(4 * BLOCK + i, i, i < 10 ? (double)(i + 1) / 10 : 1));
    scene_close();
}

/* 50 frames are there, the fade takes 40 of them. Then less than a block comes, a block, and enough. */
static void what_is_there_fades_out_and_the_wait_is_counted_apart(void) {
    scene_open(100, 40, 5);
    feed(100 + 14);
    play();
    play();
    expect_counts(114, 14, 0, 1);
    for (uint64_t i = 0; i < 114; i++)
        CHECK(heard(i, i, i < 74 ? 1 : 1 - (double)(i - 73) / 40));
    CHECK(fabsf(scene.heard[0][113]) < 1e-6);
    CHECK(silent(114, 2 * BLOCK));
    feed(63);
    play();
    expect_counts(114, 14 + BLOCK, 0, 1);
    feed(1);
    play();
    feed(35);
    play();
    expect_counts(114, 14 + BLOCK, 2 * BLOCK, 1);
    feed(1);
    CHECK(silent(114, 5 * BLOCK) && play() == BLOCK);
    expect_counts(114 + BLOCK, 14 + BLOCK, 2 * BLOCK, 1);
    for (uint64_t i = 0; i < BLOCK; i++)
        CHECK(heard(5 * BLOCK + i, 114 + i, i < 40 ? (double)(i + 1) / 40 : 1));
    scene_close();
}

static void where_nothing_is_there_the_last_sample_decays(void) {
    scene_open(BLOCK, 100, 80);
    feed(3 * BLOCK);
    for (int i = 0; i < 5; i++)
        play();
    expect_counts(3 * BLOCK, 2 * BLOCK, 0, 1);
    for (uint64_t i = 0; i < 80; i++)
        CHECK(heard(3 * BLOCK + i, 3 * BLOCK - 1, 1 - (double)(i + 1) / 80));
    CHECK(silent(3 * BLOCK + 79, 5 * BLOCK));
    scene_close();
}

static void where_little_is_there_its_last_sample_brings_the_fade_to_its_end(void) {
    scene_open(BLOCK, 100, 80);
    feed(3 * BLOCK + 30);
    for (int i = 0; i < 5; i++)
        play();
    expect_counts(3 * BLOCK + 30, 2 * BLOCK - 30, 0, 1);
    for (uint64_t i = 0; i < 80; i++)
        CHECK(heard(3 * BLOCK + i, 3 * BLOCK + (i < 30 ? i : 29), 1 - (double)(i + 1) / 80));
    CHECK(silent(3 * BLOCK + 79, 5 * BLOCK));
    scene_close();
}

static void the_end_in_the_middle_of_a_wait_ends_the_wait(void) {
    scene_open(100, 10, 5);
    feed(2 * BLOCK);
    play();
    play();
    play();
    feed(20);
    play();
    core_ring_close(scene.ring);
    CHECK(play() == 20 && play() == 0);
    expect_counts(2 * BLOCK + 20, 2 * BLOCK, 0, 1);
    CHECK(heard(4 * BLOCK, 2 * BLOCK, 0.1) && heard(4 * BLOCK + 19, 2 * BLOCK + 19, 1));
    scene_close();
}

/* What should be heard, added up over all time: fades by their start, residues at once to their end. */
struct model {
    uint64_t fill, read, underrun, waiting, underruns, now;
    int playing, begun;
    uint64_t fade_start;
    double fade_from, fade_to, fade_frames;
    double expected[CHANNELS][MOST + CAPACITY];
};

static struct model model;

static double model_gain(uint64_t frame) {
    double part = frame < model.fade_start ? 0 : (double)(frame + 1 - model.fade_start);
    return part >= model.fade_frames ? model.fade_to : model.fade_from + part / model.fade_frames * (model.fade_to - model.fade_from);
}

static void model_fade(uint64_t start, double to, uint32_t frames) {
    double from = start ? model_gain(start - 1) : 1;
    model.fade_start = start;
    model.fade_from = frames ? from : to;
    model.fade_to = to;
    model.fade_frames = frames;
}

static void model_hear(uint64_t from, uint64_t to) {
    for (; from < to; from++, model.read++)
        for (uint32_t c = 0; c < CHANNELS; c++)
            model.expected[c][from] += model_gain(from) * value(model.read, c);
}

static void model_play(int closed, uint32_t ready, uint32_t fade, uint32_t residue) {
    if (!model.playing && model.fill < ready && !closed) {
        *(model.begun && model.fill < BLOCK ? &model.underrun : &model.waiting) += BLOCK;
        model_fade(model.now + BLOCK, 0, 0);
        model.now += BLOCK;
        return;
    }
    if (!model.playing)
        model_fade(model.now, 1, model.now ? fade : 0);
    model.playing = model.begun = 1;
    uint32_t take = model.fill < BLOCK ? (uint32_t)model.fill : BLOCK;
    uint64_t dry = model.now + take;
    model.fill -= take;
    if (take == BLOCK || closed) {
        model_hear(model.now, dry);
        model.now = dry;
        return;
    }
    uint32_t length = take < fade ? take : fade;
    length = length < residue ? residue : length;
    uint32_t out = take < length ? take : length;
    model_hear(model.now, dry - out);
    model_fade(dry - out, 0, length);
    model_hear(dry - out, dry);
    for (uint32_t c = 0; c < CHANNELS && length > out; c++) {
        double last = dry ? model.expected[c][dry - 1] : 0;
        for (uint64_t i = dry; i < MOST + CAPACITY && i < dry + CAPACITY; i++)
            model.expected[c][i] = 0; /* the new residue takes over from one that still sounds */
        for (uint32_t i = 0; i < length - out; i++)
            model.expected[c][dry + i] = last * (1 - (double)(i + 1) / (length - out));
    }
    model_fade(model.now + BLOCK, 0, 0);
    model.playing = 0;
    model.underrun += BLOCK - take;
    model.underruns++;
    model.now += BLOCK;
}

/* A writer that dawdles, bursts and ends at a random moment, against the model. */
static void run_schedule(uint64_t seed, uint32_t producer, uint32_t fade, uint32_t residue) {
    uint64_t random = seed;
    uint32_t ready = core_source_ready(producer, BLOCK);
    scene_open(producer, fade, residue);
    memset(&model, 0, sizeof model);
    model.fade_from = model.fade_to = 1;
    int closed = 0;
    for (uint32_t block = 0; block < 3000; block++) {
        uint32_t frames = draw(&random, 3) ? draw(&random, 2 * BLOCK) : draw(&random, 8) ? 0 : draw(&random, 6 * BLOCK);
        frames = frames > CAPACITY - model.fill ? CAPACITY - (uint32_t)model.fill : frames;
        if (!closed) {
            feed(frames);
            model.fill += frames;
        }
        if (block == 2500 + seed && !closed) {
            core_ring_close(scene.ring);
            closed = 1;
        }
        uint32_t played = play();
        model_play(closed, ready, fade, residue);
        CHECK(scene.played == model.now);
        if (closed && !played)
            break;
    }
    CHECK(closed && model.underruns > 100 && scene.written == model.read);
    expect_counts(model.read, model.underrun, model.waiting, model.underruns);
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint64_t i = 0; i < scene.played; i++)
            CHECK(fabs(scene.heard[c][i] - model.expected[c][i]) < 1e-5);
    scene_close();
}

static void random_schedules_sound_as_the_model_says(void) {
    static const uint32_t setups[][3] = {{0, 960, 48},  {64, 960, 48}, {100, 40, 40}, {150, 64, 1},
                                         {192, 200, 200}, {64, 200, 200}, {0, 30, 10},   {64, 1, 1},    {100, 0, 0}};
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (size_t i = 0; i < sizeof setups / sizeof *setups; i++) {
            run_schedule(seed, setups[i][0], setups[i][1], setups[i][2]);
            double allowed = NATURAL_STEP + 1.0 / (setups[i][2] ? setups[i][2] : 1);
            CHECK(largest_step() < allowed);
        }
}

/* Negative control: the same schedule with hard edges has steps as high as the signal. */
static void without_fades_the_steps_are_heard(void) {
    run_schedule(1, 0, 960, 48);
    CHECK(largest_step() < NATURAL_STEP + 1.0 / 48);
    run_schedule(1, 0, 0, 0);
    CHECK(largest_step() > 0.8);
}

static void a_fade_makes_nothing_louder_and_ends_in_nothing(void) {
    for (uint32_t fade = 1; fade < 3 * BLOCK; fade++) {
        scene_open(BLOCK, fade, 1);
        play();
        float one[CHANNELS * 2 * BLOCK];
        for (uint32_t i = 0; i < CHANNELS * 2 * BLOCK; i++)
            one[i] = 1;
        for (int i = 0; i < 4; i++) {
            CHECK(core_ring_write_interleaved(scene.ring, one, i < 3 ? 2 * BLOCK : BLOCK - 1));
            scene.written += i < 3 ? 2 * BLOCK : BLOCK - 1;
            play();
            if (i < 3)
                play();
        }
        play();
        for (uint64_t i = 0; i < scene.played; i++)
            CHECK(scene.heard[0][i] <= 1);
        CHECK(stats().underruns == 1 && scene.heard[0][7 * BLOCK - 1] == 1 && silent(7 * BLOCK + BLOCK - 2, scene.played));
        scene_close();
    }
}

/* A stranger's NaN must not sound on as a residue. */
static void a_residue_of_nothing_finite_is_silence(void) {
    scene_open(BLOCK, 50, 50);
    feed(BLOCK - 1);
    CHECK(core_ring_write_interleaved(scene.ring, (float[CHANNELS]){NAN, INFINITY}, 1));
    scene.written++;
    play();
    play();
    CHECK(silent(BLOCK, 2 * BLOCK));
    scene_close();
}

#define STREAM 3000000ull

static void *write_in_bursts(void *argument) {
    struct core_ring *ring = argument;
    uint64_t random = 5;
    float samples[2 * BLOCK * CHANNELS];
    for (uint64_t frame = 0; frame < STREAM;) {
        uint32_t frames = draw(&random, 2 * BLOCK) + 1;
        frames = STREAM - frame < frames ? (uint32_t)(STREAM - frame) : frames;
        for (uint32_t i = 0; i < frames * CHANNELS; i++)
            samples[i] = (float)(frame + i / CHANNELS + 1);
        if (core_ring_write_interleaved(ring, samples, frames))
            frame += frames;
        dawdle(&random, 4);
    }
    core_ring_close(ring);
    return NULL;
}

/* Without fades each frame is the next of the stream or silence. */
static void two_threads_play_every_frame_once_and_in_order(void) {
    struct core_ring *ring = core_ring_new(CHANNELS, CAPACITY);
    struct core_source *source = core_source_new(&(struct core_source_setup){ring, BLOCK, 100, 0, 0});
    float samples[CHANNELS][BLOCK], *in[CHANNELS] = {samples[0], samples[1]};
    pthread_t writer = thread_start(write_in_bursts, ring);
    uint64_t read = 0, quiet = 0, random = 6;
    for (uint32_t frames; (frames = core_source_pull(source, in, BLOCK)); dawdle(&random, 3))
        for (uint32_t i = 0; i < frames; i++) {
            CHECK(samples[0][i] == samples[1][i]);
            if (samples[0][i] == 0.0f) {
                quiet++;
                continue;
            }
            read++;
            CHECK(samples[0][i] == (float)read);
        }
    thread_join(writer);
    struct core_source_stats found;
    core_source_stats(source, &found);
    CHECK(read == STREAM && found.read == read && found.underrun + found.waiting == quiet);
    core_source_free(source);
    core_ring_free(ring);
}

int main(void) {
    a_ring_is_ready_when_a_block_of_its_writer_is_in_it();
    a_ring_that_can_never_be_ready_is_refused();
    a_full_ring_plays_from_the_first_sample_to_the_last();
    a_stream_that_is_shorter_than_the_threshold_is_played();
    before_the_first_sound_it_waits_and_then_fades_in();
    what_is_there_fades_out_and_the_wait_is_counted_apart();
    where_nothing_is_there_the_last_sample_decays();
    where_little_is_there_its_last_sample_brings_the_fade_to_its_end();
    the_end_in_the_middle_of_a_wait_ends_the_wait();
    random_schedules_sound_as_the_model_says();
    without_fades_the_steps_are_heard();
    a_fade_makes_nothing_louder_and_ends_in_nothing();
    a_residue_of_nothing_finite_is_silence();
    two_threads_play_every_frame_once_and_in_order();
}
