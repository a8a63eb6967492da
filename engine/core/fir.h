/* fir.h - a streaming matrix convolver: every output is the sum of every input through a filter of its own, at the input's rate or
   at a multiple of it.

   It adds no latency, and the sequence of block sizes does not change the result. Filters are cut into stages of growing
   partitions: the first stage answers at once, the others work ahead on input that lies two of their partitions back, a share with
   each block. With `phases` above 1 the input is taken for a signal with phases - 1 zeros after each frame: a polyphase
   interpolator, whose phases are outputs of their own until they are interleaved. */
#ifndef SIGRACK_FIR_H
#define SIGRACK_FIR_H

#include <stddef.h>
#include <stdint.h>

#include "core.h"
#include "filter.h"

#define FIR_MAX_CHANNELS 8
#define FIR_MAX_PHASES 32
#define FIR_MAX_TAPS (4u << 20)
#define FIR_MAX_STAGES 4

struct core_fir_spec {
    uint32_t inputs, outputs; /* channels, 1 to FIR_MAX_CHANNELS */
    uint32_t phases;          /* output frames for each input frame, 1 to FIR_MAX_PHASES */
    uint32_t count;           /* taps of each path, at the output's rate: 1 to FIR_MAX_TAPS */
    const float *taps;        /* [outputs][inputs][count]; copied. A path of zeros costs nothing, equal paths share memory */
    uint32_t block;           /* input frames that usually come at once; 0: not known */
    uint32_t partitions[FIR_MAX_STAGES]; /* of the stages, rising powers of two, 256 to 65536 frames, then 0; all 0: choose */
};

/* One stage of a convolver. */
struct core_fir_stage {
    uint32_t partition;  /* input frames */
    uint32_t partitions; /* of each path's phase */
    uint32_t from;       /* its first tap, counted at the input's rate */
    uint32_t steps;      /* parts in which it does its work; 0: all at once */
    double ns;           /* its work per input frame, direct taps included, as the cost model sees it */
};

/* A convolver (filter.h). An output of a block holds block->frames * phases frames; channels of the block beyond `inputs` and
   `outputs` are left alone; one that has fewer is refused. Resetting takes a time that does not depend on the number of taps.
   NULL when a number is out of range or memory runs out. [control] */
CORE_API struct core_filter *core_fir_new(const struct core_fir_spec *spec);

/* Write the stages; returns how many there are. [any] */
CORE_API uint32_t core_fir_stages(const struct core_filter *fir, struct core_fir_stage stages[FIR_MAX_STAGES]);

/* One level's convolver: the functions above, without `core_fir_`. */
struct fir_class {
    struct core_filter *(*new)(const struct core_fir_spec *spec);
    uint32_t (*stages)(const struct core_filter *fir, struct core_fir_stage stages[FIR_MAX_STAGES]);
};

#endif
