/* The limiter's envelope against its definition, its promises, and over hours. */
#include <math.h>
#include <string.h>

#include "envelope.h"
#include "threads.h"

#define WINDOW 95u
#define SMOOTH 64u
#define HOLD 30u
#define RELEASE 200.0
#define FRAMES 20000u

static float needed[FRAMES], given[FRAMES];

static void fill_needed(void) {
    uint64_t random = 3;
    for (uint32_t i = 0; i < FRAMES; i++)
        needed[i] = draw(&random, 50) ? 1.0f : (float)(draw(&random, 1000) + 1) * 1e-3f;
}

/* What envelope.h promises, from its words: slow, in double. */
static double defined_gain(const double *released, uint32_t frame) {
    uint32_t first = (SMOOTH + 1) / 2, second = SMOOTH + 1 - first;
    double sum = 0.0;
    for (uint32_t i = 0; i < first; i++)
        for (uint32_t k = 0; k < second; k++)
            sum += frame >= i + k ? floor(released[frame - i - k] * 0x1p30) * 0x1p-30 : 1.0;
    return sum / (first * second);
}

static void fill_released(double *released) {
    double gain = 1.0;
    uint32_t held = 0;
    for (uint32_t frame = 0; frame < FRAMES; frame++) {
        double least = 1.0;
        for (uint32_t i = 0; i < WINDOW && i <= frame; i++)
            least = fmin(least, needed[frame - i]);
        if (least <= gain)
            gain = least, held = 0;
        else if (held++ >= HOLD)
            gain = fmin(least, gain + gain * (1.0 - gain) / RELEASE);
        released[frame] = gain;
    }
}

static void open_envelope(struct envelope *envelope, uint32_t window, uint32_t smooth) {
    CHECK(envelope_open(envelope, window, smooth));
    envelope_set(envelope, HOLD, RELEASE);
}

static void the_envelope_is_what_its_header_says(void) {
    static double released[FRAMES];
    struct envelope envelope;
    open_envelope(&envelope, WINDOW, SMOOTH);
    memcpy(given, needed, sizeof given);
    for (uint32_t at = 0, block = 0; at < FRAMES; at += block, block = block * 7 % 331 + 1)
        envelope_run(&envelope, given + at, FRAMES - at < block ? FRAMES - at : block);
    fill_released(released);
    double most = 0.0;
    for (uint32_t frame = 0; frame < FRAMES; frame++)
        most = fmax(most, fabs(defined_gain(released, frame) - given[frame]));
    CHECK(most < 1e-6); /* the snap to 1 at the end of a release, and single precision */
    envelope_close(&envelope);
}

static int too_loud(const float *gains) {
    for (uint32_t frame = 0; frame + WINDOW <= FRAMES; frame++)
        for (uint32_t i = SMOOTH - 1; i < WINDOW; i++)
            if (gains[frame + i] > needed[frame] * (1.0f + 0x1p-23f))
                return 1;
    return 0;
}

/* No step is larger than what the moving averages allow: from 1 to 0 in a triangle of `SMOOTH` frames. */
static int steps(const float *gains) {
    for (uint32_t frame = 1; frame < FRAMES; frame++)
        if (fabsf(gains[frame] - gains[frame - 1]) > 2.0f / SMOOTH)
            return 1;
    return 0;
}

static void the_gain_is_down_in_time_and_never_steps(void) {
    static float late[FRAMES], instant[FRAMES];
    CHECK(!too_loud(given) && !steps(given));
    for (uint32_t frame = 0; frame < FRAMES; frame++) { /* negative controls */
        late[frame] = frame < SMOOTH ? 1.0f : given[frame - SMOOTH];
        instant[frame] = needed[frame];
    }
    CHECK(too_loud(late) && steps(instant));
}

/* Negative control: the same moving sum in single precision. */
static float drifting(float gain) {
    static float past[SMOOTH], sum;
    static uint32_t at;
    sum += gain - past[at];
    past[at] = gain;
    at = (at + 1) % SMOOTH;
    return sum / SMOOTH;
}

/* Minutes at a high rate: the sums are still exact, so the gain comes back to exactly 1. */
static void nothing_drifts(void) {
    struct envelope envelope;
    open_envelope(&envelope, 1200, 1058);
    uint64_t random = 5;
    float gains[1000], drifted = 0.0f;
    const uint32_t loud = SANITIZED ? 2000 : 100000, rest = 20; /* blocks of 1000 frames */
    for (uint32_t block = 0; block < loud + rest; block++) {
        for (uint32_t i = 0; i < 1000; i++)
            gains[i] = block < loud ? (float)(draw(&random, 1 << 24) + 1) * 0x1p-24f : 1.0f;
        if (block + 2000 >= loud)
            for (uint32_t i = 0; i < 1000; i++)
                drifted = drifting(gains[i]);
        envelope_run(&envelope, gains, 1000);
    }
    CHECK(gains[999] == 1.0f && envelope.gain == 1.0);
    CHECK(drifted != 1.0f);
    envelope_close(&envelope);
}

int main(void) {
    fill_needed();
    the_envelope_is_what_its_header_says();
    the_gain_is_down_in_time_and_never_steps();
    nothing_drifts();
}
