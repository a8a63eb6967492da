/* interleave.h - phases become consecutive frames. For files that are compiled once per level. */
#ifndef SIGRACK_INTERLEAVE_H
#define SIGRACK_INTERLEAVE_H

#include <stddef.h>
#include <stdint.h>

#include "lane.h"

LANE_INLINE void lane_store_loose(float *to, lane value) { *(lane_loose *)to = value; }

/* `phases` known when compiling: vectors by the compiler's own shuffles. */
LANE_INLINE void interleave_some(float *to, const float *const *from, uint32_t phases, uint32_t begin, uint32_t frames) {
    for (uint32_t n = begin; n < frames; n++)
        LANE_UNROLL for (uint32_t r = 0; r < phases; r++)
            to[(size_t)n * phases + r] = from[r][n];
}

/* Multiples of LANE_WIDTH: squares of vectors, transposed. */
LANE_INLINE void interleave_squares(float *to, const float *const *from, uint32_t phases, uint32_t frames) {
    uint32_t whole = frames / LANE_WIDTH * LANE_WIDTH;
    for (uint32_t n = 0; n < whole; n += LANE_WIDTH)
        for (uint32_t r = 0; r < phases; r += LANE_WIDTH) {
            lane rows[LANE_WIDTH];
            LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i++)
                rows[i] = lane_load_loose(from[r + i] + n);
            lane_transpose(rows);
            LANE_UNROLL for (int i = 0; i < LANE_WIDTH; i++)
                lane_store_loose(to + (size_t)(n + i) * phases + r, rows[i]);
        }
    interleave_some(to, from, phases, whole, frames);
}

/* to[n * phases + r] = from[r][n] for n below `frames`. [any] */
static void interleave(float *restrict to, const float *const *from, uint32_t phases, uint32_t frames) {
    switch (phases) {
    case 2:
        interleave_some(to, from, 2, 0, frames);
        break;
#if LANE_WIDTH > 4
    case 4:
        interleave_some(to, from, 4, 0, frames);
        break;
#endif
#if LANE_WIDTH > 8
    case 8:
        interleave_some(to, from, 8, 0, frames);
        break;
#endif
    default:
        if (phases % LANE_WIDTH == 0)
            interleave_squares(to, from, phases, frames);
        else
            interleave_some(to, from, phases, 0, frames);
    }
}

#endif
