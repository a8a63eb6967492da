/* fir_state.h - what the convolver's set-up (fir_setup.c) prepares and its engine part (fir.c) uses.

   Time is cut into segments of one partition, counted from the last reset. Partition k of a filter (taps k * P to k * P + P - 1)
   meets the segment that lies k back. */
#ifndef SIGRACK_FIR_STATE_H
#define SIGRACK_FIR_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fft.h"
#include "fir.h"
#include "kernels.h"
#include "lane.h"

/* Spectra are stored as [tile][partition][re, im][TILE_BINS], so that the sum over the partitions of a tile reads memory in order
   while it stays in registers. */
#define TILE_BINS (2 * LANE_WIDTH)
#define TILE_FLOATS (2 * TILE_BINS)

/* Frames whose direct sums are held in registers together. */
#define SPAN_LANES 4
#define SPAN_FRAMES (SPAN_LANES * LANE_WIDTH)

/* One filter, from one input to one output. */
struct fir_path {
    float *head;    /* its first `head_taps` taps; NULL if all taps are zero */
    float *spectra; /* of all its partitions, over P to undo the transform's scale; NULL without spectra */
};

struct fir_input {
    bool used;
    float *history; /* the previous and the current segment, and SPAN_FRAMES for reading beyond */
    float *spectra; /* of the last segments, each with its predecessor, newest first from slot `newest` around */
};

struct fir_output {
    bool used;
    float *re, *im; /* sums of spectra; after the inverse transform `im` is the output */
    float *tail;    /* what all partitions but the first give to the current segment */
};

struct core_fir {
    uint32_t inputs, outputs;
    uint32_t partition;  /* P, frames */
    uint32_t partitions; /* of each path; 1: no spectra, all taps are direct */
    uint32_t head_taps;  /* P or, without spectra, the number of taps */
    uint32_t tiles;      /* of each spectrum */
    size_t tile_stride;  /* floats from one tile's partitions to the next tile's */
    uint32_t position;   /* frames of the current segment that have arrived */
    uint32_t newest;     /* slot of the last finished segment */
    uint32_t finished;   /* segments since the last reset, at most `partitions`; older slots hold nothing */
    uint32_t ahead;      /* tiles already summed for the next segment, from partition 2 on */
    struct fir_path paths[FIR_MAX_CHANNELS][FIR_MAX_CHANNELS]; /* [output][input] */
    struct fir_input in[FIR_MAX_CHANNELS];
    struct fir_output out[FIR_MAX_CHANNELS];
    float *work;     /* two partitions, for the forward transform */
    struct fft *fft; /* NULL without spectra */
    float *memory;   /* every array above points into it */
    size_t bytes;
};

/* Copy a spectrum from `re` and `im` into slot `slot` of `spectra`. [any] */
static inline void fir_put(const struct core_fir *fir, float *spectra, uint32_t slot, const float *re, const float *im) {
    for (uint32_t tile = 0; tile < fir->tiles; tile++) {
        float *to = spectra + tile * fir->tile_stride + (size_t)slot * TILE_FLOATS;
        for (uint32_t i = 0; i < TILE_BINS; i += LANE_WIDTH) {
            lane_store(to + i, lane_load(re + tile * TILE_BINS + i));
            lane_store(to + TILE_BINS + i, lane_load(im + tile * TILE_BINS + i));
        }
    }
}

/* As in `struct fir_class`; fir_setup.c. */
struct core_fir *KERNEL(fir_new)(uint32_t inputs, uint32_t outputs, uint32_t count, const float *taps, uint32_t partition);
void KERNEL(fir_free)(struct core_fir *fir);
size_t KERNEL(fir_bytes)(const struct core_fir *fir);

#endif
