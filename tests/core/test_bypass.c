/* Bypass: a linear cross-fade, the same at every block size, to an input that is as late as the output. */
#include <math.h>

#include "processor.h"

#define LIMIT 1e-6 /* -120 dB */

static float wet_of(const struct core_slot *slot) {
    uint32_t bits = atomic_load(&core_slot_meters(slot)->wet);
    float wet;
    memcpy(&wet, &bits, sizeof wet);
    return wet;
}

/* Largest distance from dry + g * (wet - dry), where g goes from `from` towards `to` over `fade` frames from `start` on. */
static double fade_error(float gain, uint32_t start, uint32_t frames, double from, double to, uint32_t fade) {
    double worst = 0;
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < frames; i++) {
            double g = to > from ? fmin(to, from + (i + 1.0) / fade) : fmax(to, from - (i + 1.0) / fade);
            double in = signal_now.in[c][start + i];
            worst = fmax(worst, fabs(in + g * (in * (double)gain - in) - signal_now.out[c][start + i]));
        }
    return worst;
}

static void bypass_is_a_linear_fade_at_every_block_size(void) {
    static const uint32_t blocks[] = {1, 7, 64, 1000}, fades[] = {1, 480, 960, 4800};
    for (int b = 0; b < 4; b++)
        for (int f = 0; f < 4; f++) {
            uint32_t length = fades[f] + 1000;
            struct processor processor = {.gain = -0.5f};
            struct core_slot *slot = slot_with(&processor, fades[f], 1);
            core_slot_activate(slot, 0);
            run(slot, 0, length, blocks[b]);
            CHECK(fade_error(-0.5f, 0, length, 1, 0, fades[f]) < LIMIT);
            CHECK(wet_of(slot) == 0);
            CHECK(!memcmp(signal_now.out[1] + fades[f], signal_now.in[1] + fades[f], 1000 * sizeof(float)));
            core_slot_activate(slot, 1);
            run(slot, length, length, blocks[b]);
            CHECK(fade_error(-0.5f, length, length, 0, 1, fades[f]) < LIMIT);
            CHECK(wet_of(slot) == 1);
            for (uint32_t i = length + fades[f]; i < 2 * length; i++)
                CHECK(signal_now.out[0][i] == signal_now.in[0][i] * -0.5f);
            core_slot_free(slot);
        }
}

static void a_slot_may_begin_bypassed(void) {
    struct processor processor = {.gain = 2};
    struct core_slot *slot = slot_with(&processor, 100, 0);
    CHECK(wet_of(slot) == 0);
    run(slot, 0, 64, 64);
    CHECK(!memcmp(signal_now.out[0], signal_now.in[0], 64 * sizeof(float)));
    core_slot_free(slot);
}

static void turning_round_in_mid_fade_makes_no_jump(void) {
    struct processor processor = {.gain = -1};
    struct core_slot *slot = slot_with(&processor, 480, 1);
    core_slot_activate(slot, 0);
    run(slot, 0, 200, 64);
    CHECK(fade_error(-1, 0, 200, 1, 0, 480) < LIMIT);
    core_slot_activate(slot, 1);
    run(slot, 200, 100, 64);
    CHECK(fade_error(-1, 200, 100, 1 - 200.0 / 480, 1, 480) < LIMIT);
    core_slot_activate(slot, 0);
    run(slot, 300, 1000, 64);
    CHECK(fade_error(-1, 300, 1000, 1 - 100.0 / 480, 0, 480) < LIMIT);
    core_slot_free(slot);
}

static void a_bypassed_processor_is_as_late_as_an_active_one(void) {
    static const uint32_t latencies[] = {1, 37, 64, 700}, blocks[] = {1, 64, 1000};
    for (int l = 0; l < 4; l++)
        for (int b = 0; b < 3; b++) {
            struct processor processor = {.gain = 1, .latency = latencies[l]};
            struct core_slot *slot = slot_with(&processor, 100, 0);
            run(slot, 0, 1000, blocks[b]);
            core_slot_activate(slot, 1);
            run(slot, 1000, 1000, blocks[b]); /* both sides of this fade are the same signal */
            for (uint32_t c = 0; c < CHANNELS; c++)
                for (uint32_t i = 0; i < 2000; i++)
                    CHECK(signal_now.out[c][i] == (i < latencies[l] ? 0 : signal_now.in[c][i - latencies[l]]));
            core_slot_free(slot);
        }
}

int main(void) {
    fill_noise();
    bypass_is_a_linear_fade_at_every_block_size();
    a_slot_may_begin_bypassed();
    turning_round_in_mid_fade_makes_no_jump();
    a_bypassed_processor_is_as_late_as_an_active_one();
}
