/* fir_state.h - what the convolver's set-up (fir_setup.c) prepares and its engine part (fir.c, fir_stage.c, fir_head.c) uses.

   Time is cut into segments of one partition, for each stage its own, all counted from the last reset. Partition k of a stage's
   filter meets the segment that lies k back; in stages after the first, counted from the last segment but one.
   A "voice" is one phase of one output: number output * phases + phase. */
#ifndef SIGRACK_FIR_STATE_H
#define SIGRACK_FIR_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fft.h"
#include "fir.h"
#include "fir_plan.h"
#include "kernels.h"
#include "lane.h"

/* Spectra are stored as [tile][partition][re, im][TILE_BINS], so that the sum over the partitions of a tile reads memory in order
   while it stays in registers. */
/* Frames whose direct sums are held in registers together. */
#define SPAN_LANES 4
#define SPAN_FRAMES (SPAN_LANES * LANE_WIDTH)

enum fir_work { FIR_FORWARD, FIR_SUM, FIR_INVERSE };

/* A part of a stage's work for one segment. */
struct fir_step {
    uint8_t work;     /* enum fir_work */
    uint8_t channel;  /* input, or output of FIR_INVERSE */
    uint8_t phase;    /* FIR_SUM, FIR_INVERSE */
    uint32_t number;  /* FIR_FORWARD, FIR_INVERSE: the transform's step; else the first tile */
    uint32_t due;     /* frames of the segment that have come when it must be done */
};

struct fir_stage {
    uint32_t partition;  /* frames */
    uint32_t partitions; /* of each filter */
    uint32_t slots;      /* spectra kept of each input: one more, for fir_catch_up */
    uint32_t tiles;      /* of a spectrum */
    size_t filter_stride, signal_stride; /* floats from one tile's spectra to the next tile's */
    struct fft *fft;
    float **filters; /* [voice * inputs + input]: spectra of all partitions, over P to undo the transform's scale; NULL: zeros */
    float **signals; /* [input]: spectra of the last segments, each with its predecessor, newest first from slot `newest` around */
    float **re;      /* [voice]: sums of spectra */
    float **im[2];   /* ... whose inverse transform's imaginary part is the output; while one side is played the other is made */
    float **early;   /* [voice], of a paired stage: sums for the next segment, as one spectrum; see fir_stage.c */
    float *work;     /* two partitions, for the forward transform */
    uint32_t newest;   /* slot of the last finished segment */
    uint32_t finished; /* segments since the last reset, at most `slots`; older slots hold nothing */
    uint32_t sum_tiles; /* tiles that one step sums */
    bool paired;        /* it sums for two segments at once */
    bool turn;          /* which half of the steps does so with the current segment */
    bool early_known;   /* the last segment has left in `early` what it should */
    /* Stages after the first. */
    struct fir_step *steps;
    uint32_t step_count, forward_count; /* all; those that turn input into spectra, which come first */
    uint32_t next;                      /* step */
    uint32_t position;                  /* frames of the current segment that have arrived */
    uint32_t end;                       /* where the last finished segment ends in the history */
    int side;                           /* of `im` that is played */
    bool silent;                        /* nothing is played yet */
    bool primed;                        /* a segment has ended without its output having been made */
};

struct core_fir {
    struct core_filter filter;
    uint32_t inputs, outputs, phases, voices;
    uint32_t head_taps; /* direct taps of a phase: the first partition or, without spectra, all */
    uint32_t stages;
    struct fir_stage stage[FIR_MAX_STAGES];
    bool spectral; /* false: all taps are direct */
    bool mirrored; /* both ears are alike: what runs are the filters of the sum and of the difference, half as many */
    bool used_in[FIR_MAX_CHANNELS], used_out[FIR_MAX_CHANNELS];
    float **heads;    /* [voice * inputs + input]: the first taps; NULL: zeros */
    float **history;  /* [input]: `ring` frames, of all stages; before them the first stage's partition once more */
    float **tails;    /* [voice]: what all partitions but the first give to the first stage's current segment */
    float **planes;   /* [voice]: output that is not interleaved yet; NULL with one phase */
    uint32_t ring;    /* frames */
    uint32_t at;      /* in the history: where the next frame goes */
    uint32_t position; /* frames of the first stage's segment that have arrived */
    uint32_t ahead;    /* of the first stage: tiles already summed for the next segment, from partition 2 on */
    struct fir_plan plan;
    void *memory; /* every array above points into it */
    size_t bytes;
};

/* fir_stage.c. Write, or `add` to, the sums of the partitions `from` to `to` - 1 for the tiles `tile` to `end` - 1 of one phase;
   partition `from` meets the segment `back` before the newest. */
void KERNEL(fir_sum)(const struct core_fir *fir, const struct fir_stage *stage, uint32_t phase, uint32_t tile, uint32_t end,
                     uint32_t from, uint32_t to, uint32_t back, bool add);
/* Write one step's sums of all partitions, from tile `tile` on; partition 0 meets the segment `back` before the newest. */
void KERNEL(fir_sum_all)(const struct core_fir *fir, const struct fir_stage *stage, uint32_t phase, uint32_t tile, uint32_t back);
/* Let `frames` frames pass in a stage after the first, which the history has already; they end no later than its segment. */
void KERNEL(fir_advance)(struct core_fir *fir, struct fir_stage *stage, uint32_t frames);
/* The same without output. */
void KERNEL(fir_skip)(struct core_fir *fir, struct fir_stage *stage, uint32_t frames);
/* Make up for the output that `fir_skip` has left out. */
void KERNEL(fir_resume)(struct core_fir *fir, struct fir_stage *stage);
/* One step of the transform of `input`: of the segment that ends at `end` in the history with, if any has come, the one before. */
void KERNEL(fir_forward)(const struct core_fir *fir, const struct fir_stage *stage, uint32_t input, uint32_t end, uint32_t step);

/* fir_head.c. Add the direct taps to `frames` frames of `voice`, which begin at the current position. */
void KERNEL(fir_add_head)(const struct core_fir *fir, uint32_t voice, float *to, uint32_t frames);

/* As in `struct fir_class`; fir_setup.c. */
struct core_filter *KERNEL(fir_new)(const struct core_fir_spec *spec);
uint32_t KERNEL(fir_stages)(const struct core_filter *fir, struct core_fir_stage *stages);
/* As in `struct filter_class`; fir_setup.c, and all of them in fir.c. */
void KERNEL(fir_free)(void *fir);
size_t KERNEL(fir_bytes)(const void *fir);
void KERNEL(fir_reset)(void *fir);
extern const struct filter_class KERNEL(fir_filter);

#endif
