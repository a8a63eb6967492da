/* fir_stage.c - spectra: sums of products, and the stages that do their work ahead, a share with each block. Engine thread; compiled
   once per level.

   Sums take as long as it takes to read the spectra. A paired stage reads them once for two segments: it sums for the newest one
   and, but for the partition that meets what has not come yet, for the next one. That part waits in `early`; with the next segment
   only the one partition is read. The steps of even number do the much in one segment, those of odd number in the other, so that
   all segments take the same time. */
#include "fir_state.h"

#include <string.h>

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* The four products of complex sums, kept apart: as many independent chains as the processor needs to multiply at full speed. */
struct sums {
    lane rr[2], ii[2], ri[2], ir[2];
};

/* Add to `sums` the products of `count` partitions of one tile. */
LANE_INLINE void multiply(struct sums *sums, const float *filter, const float *signal, uint32_t count) {
    for (uint32_t p = 0; p < count; p++) {
        LANE_UNROLL for (int v = 0; v < 2; v++) {
            lane fr = lane_load(filter + v * LANE_WIDTH), fi = lane_load(filter + TILE_BINS + v * LANE_WIDTH);
            lane sr = lane_load(signal + v * LANE_WIDTH), si = lane_load(signal + TILE_BINS + v * LANE_WIDTH);
            sums->rr[v] += fr * sr;
            sums->ii[v] += fi * si;
            sums->ri[v] += fr * si;
            sums->ir[v] += fi * sr;
        }
        filter += TILE_FLOATS;
        signal += TILE_FLOATS;
    }
}

/* Partitions of a sum, and the two stretches of slots whose segments they meet. */
struct reach {
    uint32_t from, count; /* partitions */
    uint32_t slot, straight;
};

static struct reach reach_of(const struct fir_stage *stage, uint32_t from, uint32_t to, uint32_t back) {
    uint32_t known = stage->finished > back ? stage->finished - back : 0;
    uint32_t count = to - from < known ? to - from : known;
    uint32_t slot = (stage->newest + back) % stage->slots, straight = stage->slots - slot;
    return (struct reach){from, count, slot, straight < count ? straight : count};
}

static void sum_tile(const struct core_fir *fir, const struct fir_stage *stage, uint32_t voice, uint32_t tile,
                     const struct reach *reach, bool add) {
    struct sums sums = {{{0}}, {{0}}, {{0}}, {{0}}};
    for (uint32_t i = 0; i < fir->inputs; i++) {
        const float *filter = stage->filters[voice * fir->inputs + i];
        if (!filter)
            continue;
        filter += tile * stage->filter_stride + (size_t)reach->from * TILE_FLOATS;
        const float *signal = stage->signals[i] + tile * stage->signal_stride;
        multiply(&sums, filter, signal + (size_t)reach->slot * TILE_FLOATS, reach->straight);
        multiply(&sums, filter + (size_t)reach->straight * TILE_FLOATS, signal, reach->count - reach->straight);
    }
    for (int v = 0; v < 2; v++) {
        float *re = stage->re[voice] + tile * TILE_BINS + v * LANE_WIDTH;
        float *im = stage->im[!stage->side][voice] + tile * TILE_BINS + v * LANE_WIDTH;
        lane_store(re, (add ? lane_load(re) : (lane){0}) + (sums.rr[v] - sums.ii[v]));
        lane_store(im, (add ? lane_load(im) : (lane){0}) + (sums.ri[v] + sums.ir[v]));
    }
}

/* How far ahead tiles are asked for whose partitions are not read in order. */
#define SOON_TILES 4

/* The sums of two segments. They are chains enough without keeping the four products apart. */
struct pair {
    lane re[2], im[2], early_re[2], early_im[2];
};

/* Add the products of `count` partitions with the segments from `signal` on, and with those from `later` on for the next segment. */
LANE_INLINE void multiply_pair(struct pair *pair, const float *filter, const float *signal, const float *later, uint32_t count) {
    for (uint32_t p = 0; p < count; p++) {
        LANE_UNROLL for (int v = 0; v < 2; v++) {
            lane fr = lane_load(filter + v * LANE_WIDTH), fi = lane_load(filter + TILE_BINS + v * LANE_WIDTH);
            lane sr = lane_load(signal + v * LANE_WIDTH), si = lane_load(signal + TILE_BINS + v * LANE_WIDTH);
            lane lr = lane_load(later + v * LANE_WIDTH), li = lane_load(later + TILE_BINS + v * LANE_WIDTH);
            pair->re[v] += fr * sr;
            pair->im[v] += fr * si;
            pair->early_re[v] += fr * lr;
            pair->early_im[v] += fr * li;
            pair->re[v] -= fi * si;
            pair->im[v] += fi * sr;
            pair->early_re[v] -= fi * li;
            pair->early_im[v] += fi * lr;
        }
        filter += TILE_FLOATS;
        signal += TILE_FLOATS;
        later += TILE_FLOATS;
    }
}

/* Add all partitions but the first, which meets the segment in `slot`: the next segment takes the place before it. */
LANE_INLINE void multiply_rest(struct pair *pair, const struct fir_stage *stage, const float *filter, const float *signal,
                               uint32_t slot) {
    uint32_t run;
    for (uint32_t p = 1; p < stage->partitions; p += run) {
        uint32_t at = (slot + p) % stage->slots, before = (at ? at : stage->slots) - 1;
        run = at ? least(stage->partitions - p, stage->slots - at) : 1;
        multiply_pair(pair, filter + (size_t)p * TILE_FLOATS, signal + (size_t)at * TILE_FLOATS,
                      signal + (size_t)before * TILE_FLOATS, run);
    }
}

/* Write the sums of one tile: with `both` for two segments, else with what the last segment has left in `early`. */
static void sum_pair(const struct core_fir *fir, const struct fir_stage *stage, uint32_t voice, uint32_t tile, uint32_t back,
                     bool both) {
    struct sums first = {{{0}}, {{0}}, {{0}}, {{0}}};
    struct pair pair = {{{0}}, {{0}}, {{0}}, {{0}}};
    uint32_t slot = (stage->newest + back) % stage->slots;
    for (uint32_t i = 0; i < fir->inputs; i++) {
        const float *filter = stage->filters[voice * fir->inputs + i];
        if (!filter)
            continue;
        filter += tile * stage->filter_stride;
        const float *signal = stage->signals[i] + tile * stage->signal_stride;
        const float *newest = signal + (size_t)slot * TILE_FLOATS;
        multiply(&first, filter, newest, 1);
        if (both) {
            multiply_rest(&pair, stage, filter, signal, slot);
        } else {
            tile_prefetch(filter + SOON_TILES * stage->filter_stride);
            tile_prefetch(newest + SOON_TILES * stage->signal_stride);
        }
    }
    float *early = stage->early[voice] + (size_t)tile * TILE_FLOATS;
    float *re = stage->re[voice] + tile * TILE_BINS, *im = stage->im[!stage->side][voice] + tile * TILE_BINS;
    for (int v = 0; v < 2 * LANE_WIDTH; v += LANE_WIDTH) {
        int n = v / LANE_WIDTH;
        lane rest_re = both ? pair.re[n] : lane_load(early + v), rest_im = both ? pair.im[n] : lane_load(early + TILE_BINS + v);
        lane_store(re + v, rest_re + (first.rr[n] - first.ii[n]));
        lane_store(im + v, rest_im + (first.ri[n] + first.ir[n]));
        if (both) {
            lane_store(early + v, pair.early_re[n]);
            lane_store(early + TILE_BINS + v, pair.early_im[n]);
        }
    }
}

/* The outer loop is the tile, so that its signals, and a filter that several outputs share, are in the nearest cache for all outputs
   but the first. */
void KERNEL(fir_sum)(const struct core_fir *fir, const struct fir_stage *stage, uint32_t phase, uint32_t tile, uint32_t end,
                     uint32_t from, uint32_t to, uint32_t back, bool add) {
    struct reach reach = reach_of(stage, from, to, back);
    for (; tile < end; tile++)
        for (uint32_t o = 0; o < fir->outputs; o++)
            if (fir->used_out[o])
                sum_tile(fir, stage, o * fir->phases + phase, tile, &reach, add);
}

/* Until all partitions have a segment, nothing is paired. */
void KERNEL(fir_sum_all)(const struct core_fir *fir, const struct fir_stage *stage, uint32_t phase, uint32_t tile, uint32_t back) {
    uint32_t end = least(tile + stage->sum_tiles, stage->tiles);
    bool both = !stage->early_known || (tile / stage->sum_tiles + stage->turn) % 2;
    if (!stage->paired || stage->finished - back < stage->partitions + !both) {
        KERNEL(fir_sum)(fir, stage, phase, tile, end, 0, stage->partitions, back, false);
        return;
    }
    for (; tile < end; tile++)
        for (uint32_t o = 0; o < fir->outputs; o++)
            if (fir->used_out[o])
                sum_pair(fir, stage, o * fir->phases + phase, tile, back, both);
}

void KERNEL(fir_forward)(const struct core_fir *fir, const struct fir_stage *stage, uint32_t input, uint32_t end, uint32_t step) {
    uint32_t length = stage->partition;
    const float *history = fir->history[input];
    uint32_t current = (end ? end : fir->ring) - length, before = (current ? current : fir->ring) - length;
    float *to = stage->signals[input] + (size_t)stage->newest * TILE_FLOATS;
    struct fft_forward work = {history + before, history + current, stage->work, stage->work + length, to, stage->signal_stride};
    if (stage->finished == 1) { /* nothing has come before */
        work.from_re = work.re;
        if (step == 0)
            memset(work.re, 0, length * sizeof(float));
    }
    KERNEL(fft_class).forward_step(stage->fft, &work, step);
}

static void run_step(struct core_fir *fir, struct fir_stage *stage, const struct fir_step *step) {
    uint32_t voice = step->channel * fir->phases + step->phase;
    switch (step->work) {
    case FIR_FORWARD:
        KERNEL(fir_forward)(fir, stage, step->channel, stage->end, step->number);
        break;
    case FIR_SUM:
        KERNEL(fir_sum_all)(fir, stage, step->phase, step->number, 0);
        break;
    default:
        KERNEL(fft_class).inverse_step(stage->fft, stage->re[voice], stage->im[!stage->side][voice], step->number);
    }
}

static void run_steps(struct core_fir *fir, struct fir_stage *stage, uint32_t end, uint32_t position) {
    while (stage->next < end && stage->steps[stage->next].due <= position)
        run_step(fir, stage, &stage->steps[stage->next++]);
}

/* The segment has ended: what was made during it is played now, and its own work begins. */
static void end_segment(struct core_fir *fir, struct fir_stage *stage) {
    stage->side = !stage->side;
    stage->turn = !stage->turn;
    stage->early_known = true;
    stage->silent = !stage->finished;
    stage->newest = (stage->newest ? stage->newest : stage->slots) - 1;
    if (stage->finished < stage->slots)
        stage->finished++;
    stage->end = fir->at;
    stage->position = stage->next = 0;
}

void KERNEL(fir_advance)(struct core_fir *fir, struct fir_stage *stage, uint32_t frames) {
    stage->position += frames;
    run_steps(fir, stage, stage->finished ? stage->step_count : 0, stage->position);
    if (stage->position == stage->partition)
        end_segment(fir, stage);
}

void KERNEL(fir_skip)(struct core_fir *fir, struct fir_stage *stage, uint32_t frames) {
    stage->position += frames;
    if (stage->position < stage->partition)
        return;
    run_steps(fir, stage, stage->finished ? stage->forward_count : 0, stage->position);
    end_segment(fir, stage);
    stage->primed = true;
}

void KERNEL(fir_resume)(struct core_fir *fir, struct fir_stage *stage) {
    if (stage->primed && !stage->silent) { /* what should have been made during the last segment, into the side that is played */
        stage->side = !stage->side;
        stage->early_known = false;
        for (uint32_t r = 0; r < fir->phases; r++)
            for (uint32_t tile = 0; tile < stage->tiles; tile += stage->sum_tiles)
                KERNEL(fir_sum_all)(fir, stage, r, tile, 1);
        for (uint32_t voice = 0; voice < fir->voices; voice++)
            if (fir->used_out[voice / fir->phases])
                KERNEL(fft_class).inverse(stage->fft, stage->re[voice], stage->im[!stage->side][voice]);
        stage->side = !stage->side;
        stage->early_known = true;
    }
    stage->primed = false;
    run_steps(fir, stage, stage->finished ? stage->step_count : 0, stage->position);
}
