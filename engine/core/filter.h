/* filter.h - a linear filter as a group runs it: a convolver (fir.h) or a recursion (biquads.h).

   It adds no latency that it does not state, and the sequence of block sizes does not change the result. */
#ifndef SIGRACK_FILTER_H
#define SIGRACK_FILTER_H

#include <stddef.h>
#include <stdint.h>

#include "core.h"
#include "sigrack.h"

/* What one kind of filter does: the functions below, without `core_filter_`. */
struct filter_class {
    void (*free)(void *filter);
    int (*process)(void *filter, const struct sigrack_block *block);
    void (*prime)(void *filter, const float *const *in, uint32_t frames);
    void (*catch_up)(void *filter);
    void (*reset)(void *filter);
    size_t (*bytes)(const void *filter);
};

/* The beginning of each filter. */
struct core_filter {
    const struct filter_class *class;
};

/* Accepts NULL. [control, not while processing] */
CORE_API void core_filter_free(struct core_filter *filter);

/* Filter one block of any length, including 0. Returns 0, or 1 without writing when the block has too few channels. [engine] */
CORE_API int core_filter_process(void *filter, const struct sigrack_block *block);

/* Take input as `core_filter_process` does, but make no output: never slower, and a convolver several times as fast. Before the
   next `core_filter_process`, `core_filter_catch_up` must be called. [control, not while processing] */
CORE_API void core_filter_prime(struct core_filter *filter, const float *const *in, uint32_t frames);
CORE_API void core_filter_catch_up(struct core_filter *filter);

/* Forget all input. [engine] */
CORE_API void core_filter_reset(void *filter);

/* Memory held, in bytes. [any] */
CORE_API size_t core_filter_bytes(const struct core_filter *filter);

#endif
