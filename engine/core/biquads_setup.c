/* biquads_setup.c - what a recursion does on the control thread: check, allocate, place the sections in their lanes. */
#include "biquads_state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "memory.h"

/* What set-up takes, and counts. */
static void *take(struct core_biquads *biquads, size_t count, size_t size) {
    biquads->bytes += count * size;
    return core_take(count * size);
}

static int in_range(const struct core_biquads_spec *spec) {
    uint32_t inputs = spec->inputs;
    uint64_t memory = 0;
    if (!inputs || inputs > SIGRACK_MAX_CHANNELS || spec->outputs > SIGRACK_MAX_CHANNELS || !spec->count || spec->count > BIQUADS_MAX_STAGES)
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
    return inputs == spec->outputs && memory <= BIQUADS_MAX_MEMORY;
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
    stage->width = biquads_least(core_power_of_two(spec->outputs), lanes);
    stage->banks = (spec->outputs + stage->width - 1) / stage->width;
    stage->mix = take(biquads, factors, sizeof *stage->mix);
    stage->delays = take(biquads, stage->outputs, sizeof *stage->delays);
    stage->planes = take(biquads, stage->outputs, sizeof *stage->planes);
    stage->cascades = take(biquads, stage->banks, sizeof *stage->cascades);
    double *planes = take(biquads, (size_t)stage->outputs * BIQUADS_CHUNK, sizeof *planes);
    if (!stage->mix || !stage->delays || !stage->planes || !stage->cascades || !planes) {
        free(planes);
        return 0;
    }
    memcpy(stage->mix, spec->mix, factors * sizeof *stage->mix);
    for (uint32_t o = 0; o < stage->outputs; o++) {
        struct delay *delay = &stage->delays[o];
        stage->planes[o] = planes + (size_t)o * BIQUADS_CHUNK;
        delay->frames = spec->delay_frames[o];
        if (delay->frames && !(delay->line = take(biquads, delay->frames, sizeof *delay->line)))
            return 0;
    }
    return take_cascades(biquads, stage, spec);
}

void biquads_free(void *self) {
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

static int build(struct core_biquads *biquads, const struct core_biquads_spec *spec) {
    biquads->inputs = spec->inputs;
    biquads->outputs = spec->outputs;
    biquads->count = spec->count;
    biquads->stages = take(biquads, spec->count, sizeof *biquads->stages);
    biquads->bank = take(biquads, BIQUADS_CHUNK * CASCADE_MOST_LANES, sizeof *biquads->bank);
    double *planes = take(biquads, (size_t)spec->inputs * BIQUADS_CHUNK, sizeof *planes);
    for (uint32_t c = 0; c < spec->inputs; c++)
        biquads->planes[c] = planes ? planes + (size_t)c * BIQUADS_CHUNK : NULL;
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
