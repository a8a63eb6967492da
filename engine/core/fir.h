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
#include "sigrack.h"

#define FIR_MAX_CHANNELS 8
#define FIR_MAX_PHASES 32
#define FIR_MAX_TAPS (4u << 20)
#define FIR_MAX_STAGES 4

struct core_fir;

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

/* NULL when a number is out of range or memory runs out. [control] */
CORE_API struct core_fir *core_fir_new(const struct core_fir_spec *spec);

/* Accepts NULL. [control, not while processing] */
CORE_API void core_fir_free(struct core_fir *fir);

/* Convolve one block of any length, including 0; an output holds block->frames * phases frames. Channels of the block beyond
   `inputs` and `outputs` are left alone. Returns 0, or 1 without writing when the block has fewer channels than the convolver.
   [engine] */
CORE_API int core_fir_process(void *fir, const struct sigrack_block *block);

/* Take input as `core_fir_process` does, but make no output: several times as fast. Before the next `core_fir_process`,
   `core_fir_catch_up` must be called. [control, not while processing] */
CORE_API void core_fir_prime(struct core_fir *fir, const float *const *in, uint32_t frames);
CORE_API void core_fir_catch_up(struct core_fir *fir);

/* Forget all input, in a time that does not depend on the number of taps. [engine] */
CORE_API void core_fir_reset(void *fir);

/* Memory held, in bytes. [any] */
CORE_API size_t core_fir_bytes(const struct core_fir *fir);

/* Write the stages; returns how many there are. [any] */
CORE_API uint32_t core_fir_stages(const struct core_fir *fir, struct core_fir_stage stages[FIR_MAX_STAGES]);

/* One level's convolver: the functions above, without `core_fir_`. */
struct fir_class {
    struct core_fir *(*new)(const struct core_fir_spec *spec);
    void (*free)(struct core_fir *fir);
    int (*process)(void *fir, const struct sigrack_block *block);
    void (*prime)(struct core_fir *fir, const float *const *in, uint32_t frames);
    void (*catch_up)(struct core_fir *fir);
    void (*reset)(void *fir);
    size_t (*bytes)(const struct core_fir *fir);
    uint32_t (*stages)(const struct core_fir *fir, struct core_fir_stage stages[FIR_MAX_STAGES]);
};

#endif
