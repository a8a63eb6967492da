/* Faders: straight ramps that begin together, at every block size, and nothing at all while every gain is 1. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "engine.h"
#include "threads.h"

#define CHANNELS 3u
#define MOST 256u
#define FADE 480u
#define LENGTH 6000u
#define LIMIT 3e-6 /* -110 dB */

static float in[CHANNELS][LENGTH], out[CHANNELS][LENGTH];

static struct core_engine *engine_with(struct core_faders *faders) {
    struct core_engine *engine = core_engine_new(CHANNELS, MOST, 1);
    CHECK(engine && faders);
    CHECK(!core_engine_publish(engine, core_run_list_new(&(struct core_step){.faders = faders}, 1), 0));
    return engine;
}

static void play(struct core_engine *engine, uint32_t start, uint32_t end, uint32_t block) {
    for (uint32_t at = start; at < end; at += block) {
        uint32_t frames = end - at < block ? end - at : block;
        core_engine_block(engine, (const float *[]){in[0] + at, in[1] + at, in[2] + at},
                          (float *[]){out[0] + at, out[1] + at, out[2] + at}, frames);
    }
}

/* The gain of a frame on a straight way from `from`, at frame `start`, to `to`. */
static double on_the_way(double from, double to, uint32_t start, uint32_t frame) {
    double done = frame < start ? 0 : (frame - start + 1.0) / FADE;
    return from + (to - from) * fmin(done, 1);
}

static double error(uint32_t channel, uint32_t frame, double gain) {
    return fabs(out[channel][frame] - gain * (double)in[channel][frame]);
}

static void a_change_is_a_straight_ramp_at_every_block_size(void) {
    static const uint32_t blocks[] = {1, 7, 64, 256};
    for (int b = 0; b < 4; b++) {
        struct core_faders *faders = core_faders_new(CHANNELS, FADE, (const float[]){1, 1, 0});
        struct core_engine *engine = engine_with(faders);
        double worst = 0, jump = 0;
        play(engine, 0, 1000, blocks[b]);
        core_faders_set(faders, (const float[]){0, 1, 0.5f});
        play(engine, 1000, 2000, blocks[b]);
        CHECK(core_faders_gain(faders, 0) == 0 && core_faders_gain(faders, 1) == 1 && core_faders_gain(faders, 2) == 0.5f);
        core_faders_set(faders, (const float[]){1, 4, 0});
        play(engine, 2000, LENGTH, blocks[b]);
        for (uint32_t i = 0; i < LENGTH; i++) {
            worst = fmax(worst, error(0, i, i < 2000 ? on_the_way(1, 0, 1000, i) : on_the_way(0, 1, 2000, i)));
            worst = fmax(worst, error(1, i, on_the_way(1, 4, 2000, i)));
            worst = fmax(worst, error(2, i, i < 2000 ? on_the_way(0, 0.5, 1000, i) : on_the_way(0.5, 0, 2000, i)));
            jump = fmax(jump, error(0, i, i < 1000 || i >= 2000 ? 1 : 0));
        }
        CHECK(worst < LIMIT && jump > 0.1); /* a negative control: the sound is not switched at once */
        CHECK(!memcmp(out[0] + 2000 + FADE, in[0] + 2000 + FADE, (LENGTH - 2000 - FADE) * sizeof(float)));
        for (uint32_t i = 1000 + FADE; i < 2000; i++)
            CHECK(out[0][i] == 0);
        core_engine_free(engine);
        core_faders_free(faders);
    }
}

static void turning_round_begins_where_it_is(void) {
    struct core_faders *faders = core_faders_new(CHANNELS, FADE, (const float[]){1, 1, 1});
    struct core_engine *engine = engine_with(faders);
    double worst = 0, there = 1 - 120.0 / FADE;
    core_faders_set(faders, (const float[]){0, 1, 1});
    play(engine, 0, 120, 60);
    CHECK(fabs(core_faders_gain(faders, 0) - there) < 1e-6);
    core_faders_set(faders, (const float[]){1, 1, 1});
    play(engine, 120, 2000, 60);
    for (uint32_t i = 0; i < 2000; i++)
        worst = fmax(worst, error(0, i, i < 120 ? on_the_way(1, 0, 0, i) : on_the_way(there, 1, 120, i)));
    CHECK(worst < LIMIT);
    core_engine_free(engine);
    core_faders_free(faders);
}

static void at_gain_1_nothing_is_copied(void) {
    struct core_faders *faders = core_faders_new(CHANNELS, FADE, (const float[]){1, 0, 1});
    float memory[2][CHANNELS][MOST];
    struct bus bus = {.channels = CHANNELS};
    for (uint32_t c = 0; c < CHANNELS; c++) {
        bus.now[c] = in[c];
        bus.next[c] = memory[0][c];
        bus.spare[c] = memory[1][c];
    }
    faders_run(faders, &bus, MOST);
    CHECK(bus.now[0] == in[0] && bus.now[1] == memory[0][1] && bus.now[2] == in[2]);
    core_faders_free(faders);
}

static void an_idle_list_is_skipped_though_it_has_faders(void) {
    struct core_faders *faders = core_faders_new(CHANNELS, FADE, (const float[]){1, 1, 1});
    struct core_engine *engine = engine_with(faders);
    play(engine, 0, 10, 10);
    CHECK(core_engine_skip(engine, 1000));
    core_engine_free(engine);
    core_faders_free(faders);
}

static void sizes_that_are_none_are_refused(void) {
    CHECK(!core_faders_new(0, 1, NULL) && !core_faders_new(SIGRACK_MAX_CHANNELS + 1, 1, NULL));
    core_faders_free(NULL);
}

/* What is set together is heard together: a writer that never rests keeps the gains of two channels equal. */
struct restless {
    struct core_faders *faders;
    _Atomic int stop;
};

static void *set_without_rest(void *argument) {
    struct restless *restless = argument;
    for (uint32_t n = 0; !atomic_load(&restless->stop); n++) {
        float gain = (float)(n % 1000) * 1e-3f;
        core_faders_set(restless->faders, (const float[]){gain, gain, 1});
        if (n % 8 == 0)
            sched_yield();
    }
    return NULL;
}

static void channels_that_are_set_together_move_together(void) {
    struct restless restless = {.faders = core_faders_new(CHANNELS, FADE, (const float[]){1, 1, 1})};
    struct core_engine *engine = engine_with(restless.faders);
    memcpy(in[1], in[0], sizeof in[1]);
    pthread_t thread = thread_start(set_without_rest, &restless);
    uint32_t moved = 0;
    for (uint32_t block = 0; block < 20000 || moved <= 1000; block++) { /* until the writer has had its turns */
        play(engine, 0, 16, 16);
        CHECK(!memcmp(out[0], out[1], 16 * sizeof(float)));
        moved += out[0][15] != in[0][15];
    }
    atomic_store(&restless.stop, 1);
    thread_join(thread);
    core_engine_free(engine);
    core_faders_free(restless.faders);
}

int main(void) {
    uint64_t random = 3;
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < LENGTH; i++)
            in[c][i] = (float)draw(&random, 2000001) * 1e-6f - 1.0f;
    a_change_is_a_straight_ramp_at_every_block_size();
    turning_round_begins_where_it_is();
    at_gain_1_nothing_is_copied();
    an_idle_list_is_skipped_though_it_has_faders();
    sizes_that_are_none_are_refused();
    channels_that_are_set_together_move_together();
}
