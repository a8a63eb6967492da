/* wrap.h - stretches of one channel's ring, which come in two parts where they pass its end. */
#ifndef SIGRACK_WRAP_H
#define SIGRACK_WRAP_H

#include <stdint.h>
#include <string.h>

/* How many of `frames` frames follow frame `at` before the end of a ring of `length` frames. [any] */
static inline uint32_t wrap_straight(uint32_t length, uint64_t at, uint32_t frames) {
    uint32_t left = length - (uint32_t)(at % length);
    return left < frames ? left : frames;
}

/* Copy `frames` frames, at most `length`, into the ring from its frame `at` on. [the ring's writer] */
static inline void wrap_in(float *ring, uint32_t length, uint64_t at, const float *from, uint32_t frames) {
    uint32_t straight = wrap_straight(length, at, frames);
    memcpy(ring + at % length, from, straight * sizeof(float));
    memcpy(ring, from + straight, (frames - straight) * sizeof(float));
}

/* The same out of it. [the ring's reader] */
static inline void wrap_out(float *to, const float *ring, uint32_t length, uint64_t at, uint32_t frames) {
    uint32_t straight = wrap_straight(length, at, frames);
    memcpy(to, ring + at % length, straight * sizeof(float));
    memcpy(to + straight, ring, (frames - straight) * sizeof(float));
}

#endif
