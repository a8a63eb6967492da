/* biquads.h - a recursive filter as it is written: stages of a mix, delays and second-order sections, in double precision.

   For responses that ring longer than a convolver should be long. It adds no latency; its work does not depend on how long it
   rings. Each channel's sections run one behind the other in the lanes of a vector (cascade.h). */
#ifndef SIGRACK_BIQUADS_H
#define SIGRACK_BIQUADS_H

#include <stdint.h>

#include "core.h"
#include "filter.h"
#include "sigrack.h"

#define BIQUADS_MAX_STAGES 4096u
#define BIQUADS_MAX_OUTPUTS 4096u       /* of a stage */
#define BIQUADS_MAX_SECTIONS 65536u     /* of a stage */
#define BIQUADS_MAX_DELAY (1u << 22)    /* frames, of one output of a stage */
#define BIQUADS_MAX_MEMORY (1ull << 30) /* bytes, of all delays */

/* y[o] = the sections of output o, one after the other, applied to the sum over i of mix[o][i] x[i], late by delay_frames[o].
   A section is (b0 + b1/z + b2/z^2) / (1 + a1/z + a2/z^2). */
struct core_biquads_stage {
    uint32_t inputs, outputs;
    const double *mix;            /* [outputs][inputs] */
    const uint32_t *delay_frames; /* [outputs] */
    const uint32_t *sections;     /* [outputs]: how many */
    const double *coefficients;   /* [section][b0, b1, b2, a1, a2]: those of output 0 first, in the order of the signal */
};

struct core_biquads_spec {
    uint32_t inputs, outputs; /* channels, 1 to SIGRACK_MAX_CHANNELS */
    uint32_t count;           /* of stages, at least 1; the first has the inputs, the last one the outputs */
    const struct core_biquads_stage *stages;
};

/* A recursion (filter.h), ready after `core_filter_prime` without catching up. All is copied. NULL when a number is out of range,
   the stages do not fit together, or memory runs out. [control] */
CORE_API struct core_filter *core_biquads_new(const struct core_biquads_spec *spec);

#endif
