/* kernels.h - the inner loops, compiled once per instruction set level and chosen at load. */
#ifndef SIGRACK_KERNELS_H
#define SIGRACK_KERNELS_H

#include <stddef.h>

#include "cascade.h"
#include "fir.h"

/* Files of the inner loops name their symbols KERNEL(name); the build adds the level: name_v3. */
#define KERNEL_JOIN2(name, suffix) name##suffix
#define KERNEL_JOIN(name, suffix) KERNEL_JOIN2(name, suffix)
#define KERNEL(name) KERNEL_JOIN(name, KERNEL_SUFFIX)

struct kernels {
    const char *level;
    const struct fir_class *fir;
    const struct cascade_class *cascade;
    /* Whether any of `count` floats is NaN or infinite. [engine] */
    int (*nonfinite)(const float *samples, size_t count);
    /* How many of `count` floats are 1 or more in magnitude; NaN is. [engine] */
    uint32_t (*clipped)(const float *samples, uint32_t count);
    /* samples[i] *= gain + (i + 1) * step [engine] */
    void (*ramp)(float *samples, size_t count, float gain, float step);
    /* wet[i] = dry[i] + (gain + (i + 1) * step) * (wet[i] - dry[i]) [engine] */
    void (*crossfade)(float *wet, const float *dry, size_t count, float gain, float step);
};

/* The best level this processor runs, not above SIGRACK_LEVEL (2, 3, 4) if that is set. [any] */
const struct kernels *kernels_chosen(void);

#endif
