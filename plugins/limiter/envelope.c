#include "envelope.h"

#include <stdlib.h>

#define UNITY (1u << 30)

int envelope_open(struct envelope *envelope, uint32_t window, uint32_t smooth) {
    uint32_t first = (smooth + 1) / 2, second = smooth + 1 - first;
    *envelope = (struct envelope){.window = window, .rise = 1.0, .first_frames = first, .second_frames = second};
    envelope->scale = 1.0 / ((double)first * second * UNITY);
    envelope->stretch = malloc(window * sizeof *envelope->stretch);
    envelope->first = malloc(first * sizeof *envelope->first);
    envelope->second = malloc(second * sizeof *envelope->second);
    if (!envelope->stretch || !envelope->first || !envelope->second)
        return 0;
    envelope_reset(envelope);
    return 1;
}

void envelope_close(struct envelope *envelope) {
    free(envelope->stretch);
    free(envelope->first);
    free(envelope->second);
    *envelope = (struct envelope){0};
}

void envelope_reset(struct envelope *envelope) {
    for (uint32_t i = 0; i < envelope->window; i++)
        envelope->stretch[i] = 1.0f;
    envelope->least = 1.0f;
    envelope->at = 0;
    envelope->gain = 1.0;
    envelope->held = 0;
    envelope->first_sum = (uint64_t)envelope->first_frames * UNITY;
    envelope->second_sum = envelope->second_frames * envelope->first_sum;
    for (uint32_t i = 0; i < envelope->first_frames; i++)
        envelope->first[i] = UNITY;
    for (uint32_t i = 0; i < envelope->second_frames; i++)
        envelope->second[i] = envelope->first_sum;
}

void envelope_set(struct envelope *envelope, double hold, double release) {
    envelope->hold = (uint32_t)hold;
    envelope->rise = 1.0 / (release > 1.0 ? release : 1.0);
}

static float smaller(float a, float b) { return a < b ? a : b; }

/* The least of the last `window` gains. A stretch of `window` frames that is full is gone through once more. */
static float least(struct envelope *envelope, float gain) {
    float *stretch = envelope->stretch;
    uint32_t at = envelope->at++;
    envelope->least = smaller(envelope->least, gain);
    stretch[at] = gain;
    if (envelope->at < envelope->window)
        return smaller(envelope->least, stretch[envelope->at]);
    for (uint32_t i = envelope->window - 1; i > 0; i--)
        stretch[i - 1] = smaller(stretch[i - 1], stretch[i]);
    envelope->least = 1.0f;
    envelope->at = 0;
    return stretch[0];
}

/* Down at once; up after the hold, at a bounded rate in dB, and without an end that is never reached. */
static double released(struct envelope *envelope, double goal) {
    if (goal <= envelope->gain) {
        envelope->held = 0;
        return envelope->gain = goal;
    }
    if (envelope->held < envelope->hold) {
        envelope->held++;
        return envelope->gain;
    }
    double gain = envelope->gain + envelope->gain * (1.0 - envelope->gain) * envelope->rise;
    if (gain > 1.0 - 0x1p-24)
        gain = 1.0;
    return envelope->gain = gain < goal ? gain : goal;
}

static uint32_t next(uint32_t at, uint32_t length) { return at + 1 == length ? 0 : at + 1; }

static float averaged(struct envelope *envelope, uint32_t gain) {
    uint32_t *first = &envelope->first[envelope->first_at];
    uint64_t *second = &envelope->second[envelope->second_at];
    envelope->first_sum += (uint64_t)gain - *first;
    *first = gain;
    envelope->second_sum += envelope->first_sum - *second;
    *second = envelope->first_sum;
    envelope->first_at = next(envelope->first_at, envelope->first_frames);
    envelope->second_at = next(envelope->second_at, envelope->second_frames);
    return (float)((double)envelope->second_sum * envelope->scale);
}

void envelope_run(struct envelope *envelope, float *gains, uint32_t frames) {
    for (uint32_t i = 0; i < frames; i++) {
        double gain = released(envelope, least(envelope, gains[i]));
        gains[i] = averaged(envelope, (uint32_t)(gain * UNITY));
    }
}
