/* fade.h - a gain on its way from one value to another, in a straight line, and what stands in for a signal that breaks off. */
#ifndef SIGRACK_FADE_H
#define SIGRACK_FADE_H

#include <stdint.h>

#include "sigrack.h"

/* From 0 to 1 or back: the k-th frame of a fade (from 1) has the gain from + k * (to - from) / frames. */
struct fade {
    float gain; /* of the last frame */
    float to, step;
    uint32_t left; /* frames until it is `to` */
};

/* Go to `to`, from the gain that has been reached, in `frames` frames; 0: at once. [the stream's thread] */
void fade_to(struct fade *fade, float to, uint32_t frames);
/* Apply it to frames from .. from + frames - 1 of each plane. [the stream's thread] */
void fade_run(struct fade *fade, float *const *planes, uint32_t channels, uint32_t from, uint32_t frames);

/* The last sample of a stream that broke off, going to 0 in a straight line: added to what follows, no step is left. */
struct residue {
    float values[SIGRACK_MAX_CHANNELS];
    uint32_t frames, left;
};

/* Begin: `values`, one per channel, go to 0 in `frames` frames. [the stream's thread] */
void residue_begin(struct residue *residue, const float *values, uint32_t channels, uint32_t frames);
/* Add it to frames from .. from + frames - 1 of each plane. [the stream's thread] */
void residue_add(struct residue *residue, float *const *planes, uint32_t channels, uint32_t from, uint32_t frames);

#endif
