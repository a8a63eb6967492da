#include "biquads_state.h"

#include <string.h>

#include "fpu.h"
#include "kernels.h"

/* y = factor * x, or y += that. */
static void add(double *restrict y, const double *restrict x, double factor, uint32_t frames, int first) {
    if (first)
        for (uint32_t n = 0; n < frames; n++)
            y[n] = factor * x[n];
    else
        for (uint32_t n = 0; n < frames; n++)
            y[n] += factor * x[n];
}

/* Fill the stage's planes with the mix of x. */
static void mix(const struct stage *stage, double *const *x, uint32_t frames) {
    for (uint32_t o = 0; o < stage->outputs; o++) {
        const double *row = stage->mix + (size_t)o * stage->inputs;
        int first = 1;
        for (uint32_t i = 0; i < stage->inputs; i++)
            if (row[i] != 0) {
                add(stage->planes[o], x[i], row[i], frames, first);
                first = 0;
            }
        if (first)
            memset(stage->planes[o], 0, frames * sizeof **stage->planes);
    }
}

static void pass_delay(struct delay *delay, double *samples, uint32_t frames) {
    for (uint32_t n = 0; n < frames; n++) {
        double old = delay->empty ? 0.0 : delay->line[delay->position];
        delay->empty -= delay->empty != 0;
        delay->line[delay->position] = samples[n];
        samples[n] = old;
        delay->position = delay->position + 1 == delay->frames ? 0 : delay->position + 1;
    }
}

static void run_cascades(const struct stage *stage, uint32_t bank, struct cascade *cascades, double *samples, uint32_t frames) {
    for (uint32_t i = 0; i < stage->cascades[bank]; i++)
        kernels_chosen()->cascade->run(&cascades[i], samples, stage->width, frames);
}

/* Planes become frames of `width` channels, which become planes again. */
static inline void run_frames(const struct stage *stage, uint32_t bank, struct cascade *cascades, double *restrict samples,
                              uint32_t width, uint32_t frames) {
    uint32_t used = biquads_least(width, stage->outputs - bank * width);
    double *const *planes = stage->planes + (size_t)bank * width;
    for (uint32_t c = 0; c < used; c++) {
        const double *restrict plane = planes[c];
        for (uint32_t n = 0; n < frames; n++)
            samples[(size_t)n * width + c] = plane[n];
    }
    run_cascades(stage, bank, cascades, samples, frames);
    for (uint32_t c = 0; c < used; c++) {
        double *restrict plane = planes[c];
        for (uint32_t n = 0; n < frames; n++)
            plane[n] = samples[(size_t)n * width + c];
    }
}

/* Let the outputs of one bank through its cascades. */
static void run_bank(const struct stage *stage, uint32_t bank, struct cascade *cascades, double *samples, uint32_t frames) {
    if (stage->width == 1)
        run_cascades(stage, bank, cascades, stage->planes[bank], frames);
    else if (stage->width == 2) /* known when compiling: vectors */
        run_frames(stage, bank, cascades, samples, 2, frames);
    else
        run_frames(stage, bank, cascades, samples, stage->width, frames);
}

static void run_stage(const struct core_biquads *biquads, const struct stage *stage, double *const *x, uint32_t frames) {
    struct cascade *cascades = stage->cascade;
    mix(stage, x, frames);
    for (uint32_t o = 0; o < stage->outputs; o++)
        if (stage->delays[o].frames)
            pass_delay(&stage->delays[o], stage->planes[o], frames);
    for (uint32_t bank = 0; bank < stage->banks; cascades += stage->cascades[bank++])
        if (stage->cascades[bank])
            run_bank(stage, bank, cascades, biquads->bank, frames);
}

/* Take `frames` frames, at most BIQUADS_CHUNK, from frame `offset` on; returns the planes that hold the result. */
static double *const *run(struct core_biquads *biquads, const float *const *in, uint32_t offset, uint32_t frames) {
    double *const *planes = biquads->planes;
    for (uint32_t c = 0; c < biquads->inputs; c++) {
        const float *restrict from = in[c] + offset;
        double *restrict to = planes[c];
        for (uint32_t n = 0; n < frames; n++)
            to[n] = from[n];
    }
    for (uint32_t s = 0; s < biquads->count; s++) {
        run_stage(biquads, &biquads->stages[s], planes, frames);
        planes = biquads->stages[s].planes;
    }
    return planes;
}

static int biquads_process(void *self, const struct sigrack_block *block) {
    struct core_biquads *biquads = self;
    if (block->channels < biquads->inputs || block->channels < biquads->outputs)
        return 1;
    for (uint32_t done = 0, frames; done < block->frames; done += frames) {
        frames = biquads_least(block->frames - done, BIQUADS_CHUNK);
        double *const *planes = run(biquads, block->in, done, frames);
        for (uint32_t c = 0; c < biquads->outputs; c++) {
            const double *restrict from = planes[c];
            float *restrict to = block->out[c] + done;
            for (uint32_t n = 0; n < frames; n++)
                to[n] = (float)from[n];
        }
    }
    return 0;
}

/* Beside the engine denormals would be slow, and not what the engine makes of them. */
static void biquads_prime(void *self, const float *const *in, uint32_t frames) {
    fpu_state before = fpu_get();
    fpu_set(FPU_CLEAN);
    for (uint32_t done = 0, part; done < frames; done += part) {
        part = biquads_least(frames - done, BIQUADS_CHUNK);
        run(self, in, done, part);
    }
    fpu_set(before);
}

static void biquads_catch_up(void *self) { (void)self; }

/* The lines may be long: what they hold is passed over instead. */
static void biquads_reset(void *self) {
    struct core_biquads *biquads = self;
    for (uint32_t s = 0; s < biquads->count; s++) {
        struct stage *stage = &biquads->stages[s];
        for (uint32_t i = 0; i < stage->cascade_count; i++) {
            memset(stage->cascade[i].s1, 0, sizeof stage->cascade[i].s1);
            memset(stage->cascade[i].s2, 0, sizeof stage->cascade[i].s2);
        }
        for (uint32_t o = 0; o < stage->outputs; o++)
            stage->delays[o].empty = stage->delays[o].frames;
    }
}

static size_t biquads_bytes(const void *self) {
    const struct core_biquads *biquads = self;
    return biquads->bytes;
}

const struct filter_class biquads_class = {biquads_free,     biquads_process, biquads_prime,
                                                  biquads_catch_up, biquads_reset,   biquads_bytes};
