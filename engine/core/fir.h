/* fir.h - a streaming matrix convolver: every output is the sum of every input through a filter of its own.

   It adds no latency, and the sequence of block sizes does not change the result: the first taps (one partition) are applied
   directly as frames arrive, the others by FFT, once per partition, from input that lies at least one partition back. A block
   that holds a whole partition skips the direct part. */
#ifndef SIGRACK_FIR_H
#define SIGRACK_FIR_H

#include <stddef.h>
#include <stdint.h>

#include "core.h"
#include "sigrack.h"

#define FIR_MAX_CHANNELS 8
#define FIR_MAX_TAPS (4u << 20)

struct core_fir;

/* Make a convolver of `count` taps, 1 to FIR_MAX_TAPS, for 1 to FIR_MAX_CHANNELS `inputs` and `outputs`. `taps` is
   [outputs][inputs][count] and is copied; a path whose taps are all zero costs nothing. `partition` is a power of two, 256 to
   65536 frames, or 0 to let the convolver choose. Returns NULL when a number is out of range or memory runs out. [control] */
CORE_API struct core_fir *core_fir_new(uint32_t inputs, uint32_t outputs, uint32_t count, const float *taps,
                                       uint32_t partition);

/* Accepts NULL. [control, not while processing] */
CORE_API void core_fir_free(struct core_fir *fir);

/* Convolve one block of any length, including 0. Channels of the block beyond `inputs` and `outputs` are left alone. Returns 0,
   or 1 without writing when the block has fewer channels than the convolver. [engine] */
CORE_API int core_fir_process(void *fir, const struct sigrack_block *block);

/* Forget all input, in a time that does not depend on the number of taps. [engine] */
CORE_API void core_fir_reset(void *fir);

/* Memory held, in bytes. [any] */
CORE_API size_t core_fir_bytes(const struct core_fir *fir);

/* One level's convolver: the functions above, without `core_fir_`. */
struct fir_class {
    struct core_fir *(*new)(uint32_t inputs, uint32_t outputs, uint32_t count, const float *taps, uint32_t partition);
    void (*free)(struct core_fir *fir);
    int (*process)(void *fir, const struct sigrack_block *block);
    void (*reset)(void *fir);
    size_t (*bytes)(const struct core_fir *fir);
};

#endif
