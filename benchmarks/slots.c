/* slots.c - eight processors with real work, the bare loop that the engine is measured against, and the timed loops.

   Stereo only. Times are CPU time of the calling thread: a neighbour on the same core is not counted. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "sigrack.h"

#define CHANNELS 2
#define MOST_FRAMES 64
#define MOST_STAGES 24
#define MOST_TAPS 192

/* --- Eight processors ------------------------------------------------------------------------------------------------ */

/* Bells in series, transposed direct form II. */
static void cascade(float state[CHANNELS][MOST_STAGES][2], uint32_t stages, const struct sigrack_block *block) {
    const float b0 = 1.012f, b1 = -1.86f, b2 = 0.882f, a1 = -1.86f, a2 = 0.894f;
    for (uint32_t c = 0; c < CHANNELS; c++) {
        memcpy(block->out[c], block->in[c], block->frames * sizeof(float));
        for (uint32_t s = 0; s < stages; s++) {
            float first = state[c][s][0], second = state[c][s][1];
            for (uint32_t i = 0; i < block->frames; i++) {
                float x = block->out[c][i], y = b0 * x + first;
                first = b1 * x - a1 * y + second;
                second = b2 * x - a2 * y;
                block->out[c][i] = y;
            }
            state[c][s][0] = first;
            state[c][s][1] = second;
        }
    }
}

#define CASCADE(stages)                                                          \
    static int cascade_##stages(void *self, const struct sigrack_block *block) { \
        static float state[CHANNELS][MOST_STAGES][2];                            \
        (void)self;                                                              \
        cascade(state, stages, block);                                           \
        return 0;                                                                \
    }
CASCADE(16)
CASCADE(18)
CASCADE(20)
CASCADE(22)
CASCADE(24)

/* A direct FIR filter whose impulse response is a ramp down to zero. */
static void direct(float history[CHANNELS][MOST_TAPS + MOST_FRAMES], uint32_t taps, const struct sigrack_block *block) {
    float ramp[MOST_TAPS];
    for (uint32_t k = 0; k < taps; k++)
        ramp[k] = 2.0f * (float)(int32_t)(k + 1) / (float)(int32_t)(taps * taps);
    for (uint32_t c = 0; c < CHANNELS; c++) {
        memcpy(history[c] + taps, block->in[c], block->frames * sizeof(float));
        for (uint32_t i = 0; i < block->frames; i++) {
            float sum[4] = {0};
            for (uint32_t k = 0; k < taps; k += 4)
                for (uint32_t lane = 0; lane < 4; lane++)
                    sum[lane] += history[c][i + 1 + k + lane] * ramp[k + lane];
            block->out[c][i] = sum[0] + sum[1] + sum[2] + sum[3];
        }
        memmove(history[c], history[c] + block->frames, taps * sizeof(float));
    }
}

#define DIRECT(taps)                                                          \
    static int direct_##taps(void *self, const struct sigrack_block *block) { \
        static float history[CHANNELS][MOST_TAPS + MOST_FRAMES];              \
        (void)self;                                                           \
        direct(history, taps, block);                                         \
        return 0;                                                             \
    }
DIRECT(160)
DIRECT(192)

/* A soft saturator: the mean of tanh at six points between the last sample and this one. */
static int saturate(void *self, const struct sigrack_block *block) {
    static float last[CHANNELS];
    (void)self;
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < block->frames; i++) {
            float step = (block->in[c][i] - last[c]) / 6.0f, sum = 0.0f;
            for (int point = 1; point <= 6; point++)
                sum += tanhf(last[c] + (float)point * step);
            block->out[c][i] = sum / 6.0f;
            last[c] = block->in[c][i];
        }
    return 0;
}

typedef int (*bench_process)(void *self, const struct sigrack_block *block);

SIGRACK_EXPORT bench_process const bench_slots[8] = {cascade_16, direct_160, cascade_18, saturate,
                                                     cascade_20, direct_192, cascade_22, cascade_24};

/* --- Timed loops ----------------------------------------------------------------------------------------------------- */

struct bench_step {
    bench_process process;
    void *self;
};

static int64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The least that a chain of `count` processors can cost: call each, from one buffer to the other. Nanoseconds for `blocks` blocks. */
SIGRACK_EXPORT int64_t bench_bare(const struct bench_step *steps, uint32_t count, const float *const *in, uint32_t frames,
                                  uint32_t blocks) {
    static float memory[2][CHANNELS][MOST_FRAMES];
    float *const planes[2][CHANNELS] = {{memory[0][0], memory[0][1]}, {memory[1][0], memory[1][1]}};
    struct sigrack_block block = {.size = sizeof block, .frames = frames, .channels = CHANNELS};
    int64_t begun = cpu_ns();
    for (uint32_t n = 0; n < blocks; n++) {
        block.in = in;
        for (uint32_t i = 0; i < count; i++) {
            block.out = planes[i & 1];
            steps[i].process(steps[i].self, &block);
            block.in = (const float *const *)planes[i & 1];
        }
        block.frame += frames;
    }
    return cpu_ns() - begun;
}

typedef void (*engine_block)(void *engine, const float *const *in, float *const *out, uint32_t frames);

/* `run` is core_engine_block. */
SIGRACK_EXPORT int64_t bench_engine(engine_block run, void *engine, const float *const *in, float *const *out, uint32_t frames,
                                    uint32_t blocks) {
    int64_t begun = cpu_ns();
    for (uint32_t n = 0; n < blocks; n++)
        run(engine, in, out, frames);
    return cpu_ns() - begun;
}

/* `post` is core_post. */
SIGRACK_EXPORT int64_t bench_post(int (*post)(uint64_t, uint32_t, uint64_t, const double *, uint32_t), uint64_t cookie,
                                  uint32_t records) {
    const double values[CHANNELS] = {-20.0, -21.0};
    int64_t begun = cpu_ns();
    for (uint32_t n = 0; n < records; n++)
        post(cookie, 0, n, values, CHANNELS);
    return cpu_ns() - begun;
}

/* `callback` is core_signal_callback: the same, found by name. */
SIGRACK_EXPORT int64_t bench_callback(void (*callback)(const char *, long long, const double *, int, void *), void *cookie,
                                      uint32_t records) {
    const double values[CHANNELS] = {-20.0, -21.0};
    int64_t begun = cpu_ns();
    for (uint32_t n = 0; n < records; n++)
        callback("level_db", n, values, CHANNELS, cookie);
    return cpu_ns() - begun;
}

/* `arm` and `ring` are core_bell_arm and core_bell_ring; without `ring` only the arming is timed. */
SIGRACK_EXPORT int64_t bench_bell(void (*arm)(void *), void (*ring)(void *), void *bell, uint32_t rings) {
    int64_t begun = cpu_ns();
    for (uint32_t n = 0; n < rings; n++) {
        arm(bell);
        if (ring)
            ring(bell);
    }
    return cpu_ns() - begun;
}
