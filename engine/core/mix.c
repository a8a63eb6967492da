/* Compiled once per level. */
#include "kernels.h"

#include <stdint.h>
#include <string.h>

static int nonfinite(const float *samples, size_t count) {
    /* The exponent is all ones. An OR over integers vectorises, whatever the rules of floating point. */
    uint32_t any = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, samples + i, sizeof bits);
        any |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return (int)any;
}

static uint32_t clipped(const float *samples, uint32_t count) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, samples + i, sizeof bits);
        found += (bits & 0x7fffffffu) >= 0x3f800000u; /* the bits of 1.0f; those of magnitudes are in their order */
    }
    return found;
}

static void ramp(float *restrict samples, size_t count, float gain, float step) {
    for (size_t i = 0; i < count; i++)
        samples[i] *= gain + (float)(int32_t)(i + 1) * step;
}

static void crossfade(float *restrict wet, const float *restrict dry, size_t count, float gain, float step) {
    for (size_t i = 0; i < count; i++)
        wet[i] = dry[i] + (gain + (float)(int32_t)(i + 1) * step) * (wet[i] - dry[i]);
}

extern const struct fir_class KERNEL(fir_class);
extern const struct cascade_class KERNEL(cascade_class);

extern const struct kernels KERNEL(kernels);
const struct kernels KERNEL(kernels) = {
    KERNEL_LEVEL, &KERNEL(fir_class), &KERNEL(cascade_class), nonfinite, clipped, ramp, crossfade,
};
