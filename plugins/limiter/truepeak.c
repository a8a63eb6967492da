/* The inner loops, compiled once per x86-64 level with TRUEPEAK_RUN as their name. */
#include <string.h>

#include "truepeak.h"

#if defined(__AVX512F__)
#define WIDTH 16u
#elif defined(__AVX2__)
#define WIDTH 8u
#else
#define WIDTH 4u
#endif
_Static_assert(WIDTH <= TRUEPEAK_SPARE / 2, "two vectors must end within the spare floats");

#define SUMS 8u /* that one is split into: an addition need not wait for the one before */
_Static_assert(2 * TRUEPEAK_STEEP % SUMS == 0, "each gets as many taps");

/* Before a loop whose count is known when compiling: without this, arrays of vectors would live in memory, not in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

typedef float lane __attribute__((vector_size(WIDTH * sizeof(float)), may_alias));
typedef int32_t bits __attribute__((vector_size(WIDTH * sizeof(float)), may_alias));

static inline lane load(const float *from) {
    lane value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* The larger of `most` and |value|: floats without their sign are ordered as integers are. */
static inline bits larger(bits most, lane value) {
    bits size = (bits)value & INT32_MAX;
    bits mask = size > most;
    return (size & mask) | (most & ~mask);
}

/* middles[i]: halfway between in[i + TRUEPEAK_STEEP - 1] and the next frame. */
static void find_middles(const float *steep, const float *in, float *middles, uint32_t frames) {
    for (uint32_t i = 0; i < frames; i += WIDTH) {
        lane sums[SUMS] = {0};
        for (uint32_t j = 0; j < 2 * TRUEPEAK_STEEP; j += SUMS)
            UNROLL for (uint32_t k = 0; k < SUMS; k++) sums[k] += load(in + i + j + k) * steep[j + k];
        lane sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
        memcpy(middles + i, &sum, sizeof sum);
    }
}

/* The largest of `most` and the three instants in the middle of 2 * TRUEPEAK_SHORT points half a frame apart, which come in turn
   from `even` and from `odd`. */
static inline bits quarters(const struct truepeak *truepeak, bits most, const float *even, const float *odd) {
    lane sums[3] = {0};
    UNROLL for (uint32_t j = 0; j < TRUEPEAK_SHORT; j++) {
        const float *first = truepeak->quarters[2 * j], *second = truepeak->quarters[2 * j + 1];
        lane a = load(even + j), b = load(odd + j);
        UNROLL for (uint32_t k = 0; k < 3; k++) sums[k] += a * first[k];
        UNROLL for (uint32_t k = 0; k < 3; k++) sums[k] += b * second[k];
    }
    UNROLL for (uint32_t k = 0; k < 3; k++) most = larger(most, sums[k]);
    return most;
}

void TRUEPEAK_RUN(const struct truepeak *truepeak, const float *in, float *peak, uint32_t frames);

void TRUEPEAK_RUN(const struct truepeak *truepeak, const float *in, float *peak, uint32_t frames) {
    float middles[TRUEPEAK_MOST + TRUEPEAK_SPARE] = {0};
    find_middles(truepeak->steep, in, middles, frames + TRUEPEAK_SHORT);
    in += TRUEPEAK_REACH - 1;
    for (uint32_t i = 0; i < frames; i += WIDTH) {
        const float *middle = middles + i + TRUEPEAK_SHORT / 2; /* that of frame i */
        bits most = larger((bits)load(peak + i), load(in + i));
        most = larger(most, load(middle));
        most = quarters(truepeak, most, middle - 2, in + i - 1);
        most = quarters(truepeak, most, in + i - 1, middle - 1);
        memcpy(peak + i, &most, sizeof most);
    }
}
