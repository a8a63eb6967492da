#include "biquads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fpu.h"
#include "kernels.h"
#include "memory.h"

/* Frames that go through all stages at once. */
#define CHUNK 128u

struct delay {
    double *line; /* `frames` of them, or NULL */
    uint32_t frames, position;
    uint32_t empty; /* frames of the line that are silence, whatever it holds: after a reset */
};

struct stage {
    uint32_t inputs, outputs;
    double *mix;
    struct delay *delays; /* [output] */
    double **planes;      /* [output][CHUNK]: what comes out */
    uint32_t width;       /* outputs that share a vector: a bank */
    uint32_t banks;
    uint32_t *cascades; /* [bank]: how many, one behind the other */
    struct cascade *cascade;
    uint32_t cascade_count;
};

struct core_biquads {
    struct core_filter filter;
    uint32_t channels, count;
    struct stage *stages;
    double *planes[SIGRACK_MAX_CHANNELS]; /* [CHUNK]: what comes in */
    double *bank;                         /* [CHUNK][width] */
    size_t bytes;
};

/* What set-up takes, and counts. */
static void *take(struct core_biquads *biquads, size_t count, size_t size) {
    biquads->bytes += count * size;
    return core_take(count * size);
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static int in_range(const struct core_biquads_spec *spec) {
    uint32_t inputs = spec->channels;
    uint64_t memory = 0;
    if (!inputs || inputs > SIGRACK_MAX_CHANNELS || !spec->count || spec->count > BIQUADS_MAX_STAGES)
        return 0;
    for (uint32_t s = 0; s < spec->count; s++) {
        const struct core_biquads_stage *stage = &spec->stages[s];
        uint64_t sections = 0;
        if (stage->inputs != inputs || !stage->outputs || stage->outputs > BIQUADS_MAX_OUTPUTS)
            return 0;
        for (uint32_t o = 0; o < stage->outputs; o++) {
            sections += stage->sections[o];
            memory += stage->delay_frames[o] * sizeof(double);
            if (stage->delay_frames[o] > BIQUADS_MAX_DELAY || sections > BIQUADS_MAX_SECTIONS)
                return 0;
        }
        inputs = stage->outputs;
    }
    return inputs == spec->channels && memory <= BIQUADS_MAX_MEMORY;
}

/* Place a section. The differences are rounded once: a zero at 0 Hz stays where it is, also at a low frequency of the poles. */
static void put_section(struct cascade *cascade, uint32_t lane, const double *b) {
    double a1 = b[3], a2 = b[4];
    cascade->b0[lane] = b[0];
    cascade->c1[lane] = fma(-a1, b[0], b[1]);
    cascade->c2[lane] = fma(-a2, b[0], b[2]);
    cascade->a1[lane] = a1;
    cascade->a2[lane] = a2;
}

static int take_cascades(struct core_biquads *biquads, struct stage *stage, const struct core_biquads_stage *spec) {
    uint32_t depth = kernels_chosen()->cascade->lanes / stage->width;
    for (uint32_t o = 0; o < stage->outputs; o++) {
        uint32_t bank = o / stage->width, wanted = (spec->sections[o] + depth - 1) / depth;
        stage->cascades[bank] = wanted > stage->cascades[bank] ? wanted : stage->cascades[bank];
    }
    for (uint32_t bank = 0; bank < stage->banks; bank++)
        stage->cascade_count += stage->cascades[bank];
    stage->cascade = take(biquads, stage->cascade_count, sizeof *stage->cascade);
    if (stage->cascade_count && !stage->cascade)
        return 0;
    for (uint32_t i = 0; i < stage->cascade_count; i++) /* a lane without a section lets all through */
        for (uint32_t lane = 0; lane < CASCADE_MOST_LANES; lane++)
            stage->cascade[i].b0[lane] = 1.0;
    const double *coefficients = spec->coefficients;
    struct cascade *first = stage->cascade;
    for (uint32_t o = 0; o < stage->outputs; o++) {
        if (o && o % stage->width == 0)
            first += stage->cascades[o / stage->width - 1];
        for (uint32_t n = 0; n < spec->sections[o]; n++, coefficients += 5)
            put_section(&first[n / depth], n % depth * stage->width + o % stage->width, coefficients);
    }
    return 1;
}

static int take_stage(struct core_biquads *biquads, struct stage *stage, const struct core_biquads_stage *spec) {
    size_t factors = (size_t)spec->inputs * spec->outputs;
    uint32_t lanes = kernels_chosen()->cascade->lanes;
    stage->inputs = spec->inputs;
    stage->outputs = spec->outputs;
    stage->width = least(core_power_of_two(spec->outputs), lanes);
    stage->banks = (spec->outputs + stage->width - 1) / stage->width;
    stage->mix = take(biquads, factors, sizeof *stage->mix);
    stage->delays = take(biquads, stage->outputs, sizeof *stage->delays);
    stage->planes = take(biquads, stage->outputs, sizeof *stage->planes);
    stage->cascades = take(biquads, stage->banks, sizeof *stage->cascades);
    double *planes = take(biquads, (size_t)stage->outputs * CHUNK, sizeof *planes);
    if (!stage->mix || !stage->delays || !stage->planes || !stage->cascades || !planes) {
        free(planes);
        return 0;
    }
    memcpy(stage->mix, spec->mix, factors * sizeof *stage->mix);
    for (uint32_t o = 0; o < stage->outputs; o++) {
        struct delay *delay = &stage->delays[o];
        stage->planes[o] = planes + (size_t)o * CHUNK;
        delay->frames = spec->delay_frames[o];
        if (delay->frames && !(delay->line = take(biquads, delay->frames, sizeof *delay->line)))
            return 0;
    }
    return take_cascades(biquads, stage, spec);
}

static void biquads_free(void *self) {
    struct core_biquads *biquads = self;
    for (uint32_t s = 0; biquads->stages && s < biquads->count; s++) {
        struct stage *stage = &biquads->stages[s];
        for (uint32_t o = 0; stage->delays && o < stage->outputs; o++)
            free(stage->delays[o].line);
        free(stage->planes ? stage->planes[0] : NULL);
        free(stage->mix);
        free(stage->delays);
        free(stage->planes);
        free(stage->cascades);
        free(stage->cascade);
    }
    free(biquads->planes[0]);
    free(biquads->bank);
    free(biquads->stages);
    free(biquads);
}

/* y = the mix of x. */
static void mix(const struct stage *stage, double *const *x, uint32_t frames) {
    for (uint32_t o = 0; o < stage->outputs; o++) {
        const double *row = stage->mix + (size_t)o * stage->inputs;
        double *restrict y = stage->planes[o];
        memset(y, 0, frames * sizeof *y);
        for (uint32_t i = 0; i < stage->inputs; i++)
            if (row[i] != 0) {
                const double *restrict from = x[i];
                for (uint32_t n = 0; n < frames; n++)
                    y[n] += row[i] * from[n];
            }
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

/* Let the outputs of one bank through its cascades. */
static void run_bank(const struct stage *stage, struct cascade *cascades, uint32_t bank, double *samples, uint32_t frames) {
    uint32_t width = stage->width, from = bank * width, used = least(width, stage->outputs - from);
    for (uint32_t c = 0; c < used; c++)
        for (uint32_t n = 0; n < frames; n++)
            samples[n * width + c] = stage->planes[from + c][n];
    for (uint32_t i = 0; i < stage->cascades[bank]; i++)
        kernels_chosen()->cascade->run(&cascades[i], samples, width, frames);
    for (uint32_t c = 0; c < used; c++)
        for (uint32_t n = 0; n < frames; n++)
            stage->planes[from + c][n] = samples[n * width + c];
}

static void run_stage(const struct core_biquads *biquads, const struct stage *stage, double *const *x, uint32_t frames) {
    struct cascade *cascades = stage->cascade;
    mix(stage, x, frames);
    for (uint32_t o = 0; o < stage->outputs; o++)
        if (stage->delays[o].frames)
            pass_delay(&stage->delays[o], stage->planes[o], frames);
    for (uint32_t bank = 0; bank < stage->banks; cascades += stage->cascades[bank++])
        if (stage->cascades[bank])
            run_bank(stage, cascades, bank, biquads->bank, frames);
}

/* Take `frames` frames, at most CHUNK, from frame `offset` on; returns the planes that hold the result. */
static double *const *run(struct core_biquads *biquads, const float *const *in, uint32_t offset, uint32_t frames) {
    double *const *planes = biquads->planes;
    for (uint32_t c = 0; c < biquads->channels; c++)
        for (uint32_t n = 0; n < frames; n++)
            planes[c][n] = in[c][offset + n];
    for (uint32_t s = 0; s < biquads->count; s++) {
        run_stage(biquads, &biquads->stages[s], planes, frames);
        planes = biquads->stages[s].planes;
    }
    return planes;
}

static int biquads_process(void *self, const struct sigrack_block *block) {
    struct core_biquads *biquads = self;
    if (block->channels < biquads->channels)
        return 1;
    for (uint32_t done = 0, frames; done < block->frames; done += frames) {
        frames = least(block->frames - done, CHUNK);
        double *const *planes = run(biquads, block->in, done, frames);
        for (uint32_t c = 0; c < biquads->channels; c++)
            for (uint32_t n = 0; n < frames; n++)
                block->out[c][done + n] = (float)planes[c][n];
    }
    return 0;
}

/* Beside the engine denormals would be slow, and not what the engine makes of them. */
static void biquads_prime(void *self, const float *const *in, uint32_t frames) {
    fpu_state before = fpu_get();
    fpu_set(before | FPU_FLUSH);
    for (uint32_t done = 0, part; done < frames; done += part) {
        part = least(frames - done, CHUNK);
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

static const struct filter_class biquads_class = {biquads_free,     biquads_process, biquads_prime,
                                                  biquads_catch_up, biquads_reset,   biquads_bytes};

static int build(struct core_biquads *biquads, const struct core_biquads_spec *spec) {
    biquads->channels = spec->channels;
    biquads->count = spec->count;
    biquads->stages = take(biquads, spec->count, sizeof *biquads->stages);
    biquads->bank = take(biquads, CHUNK * CASCADE_MOST_LANES, sizeof *biquads->bank);
    double *planes = take(biquads, (size_t)spec->channels * CHUNK, sizeof *planes);
    for (uint32_t c = 0; c < spec->channels; c++)
        biquads->planes[c] = planes ? planes + (size_t)c * CHUNK : NULL;
    if (!biquads->stages || !biquads->bank || !planes)
        return 0;
    for (uint32_t s = 0; s < spec->count; s++)
        if (!take_stage(biquads, &biquads->stages[s], &spec->stages[s]))
            return 0;
    return 1;
}

struct core_filter *core_biquads_new(const struct core_biquads_spec *spec) {
    struct core_biquads *biquads = in_range(spec) ? core_take(sizeof *biquads) : NULL;
    if (!biquads)
        return NULL;
    biquads->filter.class = &biquads_class;
    biquads->bytes = sizeof *biquads;
    if (build(biquads, spec))
        return &biquads->filter;
    biquads_free(biquads);
    return NULL;
}
