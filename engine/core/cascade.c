/* cascade.c - the inner loop of second-order sections. Compiled once per level. */
#include "cascade.h"

#include "kernels.h"
#include "lane.h"

#define LANES (LANE_WIDTH / 2)

typedef double wide __attribute__((vector_size(LANES * sizeof(double)), may_alias));
typedef double loose __attribute__((vector_size(LANES * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef double quad __attribute__((vector_size(4 * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef double pair __attribute__((vector_size(2 * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef int64_t mask __attribute__((vector_size(LANES * sizeof(int64_t)), may_alias));

struct coefficients {
    wide b0, c1, c2, a1, a2;
};

struct state {
    wide s1, s2;
};

/* A frame as the beginning of a vector; what follows is not looked at. */
LANE_INLINE wide load_frame(const double *samples, uint32_t width) {
    if (width == LANES)
        return *(const loose *)samples;
#if LANES == 8
    if (width == 4) {
        quad x = *(const quad *)samples;
        return __builtin_shufflevector(x, x, 0, 1, 2, 3, 0, 1, 2, 3);
    }
#endif
#if LANES == 4
    if (width == 2) {
        pair x = *(const pair *)samples;
        return __builtin_shufflevector(x, x, 0, 1, 0, 1);
    }
#endif
    return samples[0] - (wide){0};
}

LANE_INLINE wide load(const double *from) { return *(const wide *)from; }

/* What enters at a frame of `width` channels: the outputs of all sections but the last move on, the frame comes before them. By
   shuffles alone: a frame that is written and read again as part of a vector would stall. */
LANE_INLINE wide entering(wide y, const double *samples, uint32_t width) {
    wide x = load_frame(samples, width);
#if LANES == 8
    if (width == 1)
        return __builtin_shufflevector(x, y, 0, 8, 9, 10, 11, 12, 13, 14);
    if (width == 2) { /* one after the other: GCC would widen a pair through memory */
        wide z = __builtin_shufflevector(x, y, 0, 0, 8, 9, 10, 11, 12, 13);
        return __builtin_shufflevector(z, samples[1] - (wide){0}, 0, 8, 2, 3, 4, 5, 6, 7);
    }
    if (width == 4)
        return __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11);
#elif LANES == 4
    if (width == 1)
        return __builtin_shufflevector(x, y, 0, 4, 5, 6);
    if (width == 2)
        return __builtin_shufflevector(x, y, 0, 1, 4, 5);
#else
    if (width == 1)
        return __builtin_shufflevector(x, y, 0, 2);
#endif
    return x;
}

/* The last section's outputs are the frame that leaves. */
LANE_INLINE void leaving(double *samples, wide y, uint32_t width) {
#if LANES == 8
    if (width == 4)
        *(quad *)samples = __builtin_shufflevector(y, y, 4, 5, 6, 7);
#endif
    if (width == LANES)
        *(loose *)samples = y;
    else if (width == 2)
        *(pair *)samples = __builtin_shufflevector(y, y, LANES - 2, LANES - 1);
    else if (width == 1)
        samples[0] = y[LANES - 1];
}

LANE_INLINE wide step(const struct coefficients *k, struct state *state, wide x) {
    wide y = k->b0 * x + state->s1, next = k->c1 * x + state->s2 - k->a1 * state->s1;
    state->s2 = k->c2 * x - k->a2 * state->s1;
    state->s1 = next;
    return y;
}

LANE_INLINE wide chosen(mask which, wide a, wide b) { return (wide)((which & (mask)a) | (~which & (mask)b)); }

/* A step in which only the lanes move whose section has a frame: `n` frames have entered, `frames` will have. */
LANE_INLINE wide step_some(const struct coefficients *k, struct state *state, wide x, mask depth, int64_t n, int64_t frames) {
    struct state before = *state;
    wide y = step(k, state, x);
    mask moving = (depth <= n) & (depth > n - frames);
    state->s1 = chosen(moving, state->s1, before.s1);
    state->s2 = chosen(moving, state->s2, before.s2);
    return y;
}

LANE_INLINE void run_width(struct cascade *cascade, double *samples, uint32_t frames, uint32_t width) {
    struct coefficients k = {load(cascade->b0), load(cascade->c1), load(cascade->c2), load(cascade->a1), load(cascade->a2)};
    struct state state = {load(cascade->s1), load(cascade->s2)};
    uint32_t behind = LANES / width - 1, n = 0; /* frames by which the last section is behind the first */
    mask depth;
    for (uint32_t i = 0; i < LANES; i++)
        depth[i] = i / width;
    static const double silence[LANES] = {0};
    wide y = {0};
    for (; n < behind && n < frames; n++)
        y = step_some(&k, &state, entering(y, samples + n * width, width), depth, n, frames);
    for (; n < frames; n++) {
        y = step(&k, &state, entering(y, samples + n * width, width));
        leaving(samples + (n - behind) * width, y, width);
    }
    for (; n < frames + behind; n++) {
        y = step_some(&k, &state, entering(y, silence, width), depth, n, frames);
        if (n >= behind)
            leaving(samples + (n - behind) * width, y, width);
    }
    *(wide *)cascade->s1 = state.s1;
    *(wide *)cascade->s2 = state.s2;
}

static void run(struct cascade *cascade, double *samples, uint32_t width, uint32_t frames) {
    switch (width) {
    case 1:
        run_width(cascade, samples, frames, 1);
        break;
#if LANES > 2
    case 2:
        run_width(cascade, samples, frames, 2);
        break;
#endif
#if LANES > 4
    case 4:
        run_width(cascade, samples, frames, 4);
        break;
#endif
    default:
        run_width(cascade, samples, frames, LANES);
    }
}

extern const struct cascade_class KERNEL(cascade_class);
const struct cascade_class KERNEL(cascade_class) = {LANES, run};
