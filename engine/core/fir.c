/* fir.c - what the convolver does on the engine thread. Compiled once per level: KERNEL_SUFFIX names the copy.

   A segment that arrives in pieces: at its first frame the tail (all partitions but the first) is finished for the whole segment;
   every piece adds the head directly; each piece also sums a share of the next segment's tail, as far as it depends on segments
   that are over (partitions from 2 on), so that the work does not come all at once. A segment that arrives whole is
   transformed first, and then the head is one more partition. */
#include "fir_state.h"

#include <string.h>

/* Long float sums lose bits, so a direct sum goes over to a compensated total this often. */
#define CHUNK_TAPS 64

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

/* Write, or `add`, partitions `from` to `to` - 1 of one tile of one output; partition `from` meets the newest segment. */
static void sum_tile(const struct core_fir *fir, uint32_t o, uint32_t tile, uint32_t from, uint32_t to, bool add) {
    struct sums sums = {{{0}}, {{0}}, {{0}}, {{0}}};
    size_t at = tile * fir->tile_stride;
    uint32_t count = to - from < fir->finished ? to - from : fir->finished;
    uint32_t straight = fir->partitions - fir->newest;
    if (straight > count)
        straight = count;
    for (uint32_t i = 0; i < fir->inputs; i++) {
        if (!fir->paths[o][i].head)
            continue;
        const float *filter = fir->paths[o][i].spectra + at + (size_t)from * TILE_FLOATS;
        const float *signal = fir->in[i].spectra + at;
        multiply(&sums, filter, signal + (size_t)fir->newest * TILE_FLOATS, straight);
        multiply(&sums, filter + (size_t)straight * TILE_FLOATS, signal, count - straight);
    }
    for (int v = 0; v < 2; v++) {
        float *re = fir->out[o].re + tile * TILE_BINS + v * LANE_WIDTH;
        float *im = fir->out[o].im + tile * TILE_BINS + v * LANE_WIDTH;
        lane_store(re, (add ? lane_load(re) : (lane){0}) + (sums.rr[v] - sums.ii[v]));
        lane_store(im, (add ? lane_load(im) : (lane){0}) + (sums.ri[v] + sums.ir[v]));
    }
}

/* The outer loop is the tile, so that its signal is in the nearest cache for all outputs but the first. */
static void sum_tiles(const struct core_fir *fir, uint32_t tile, uint32_t end, uint32_t from, uint32_t to, bool add) {
    for (; tile < end; tile++)
        for (uint32_t o = 0; o < fir->outputs; o++)
            if (fir->out[o].used)
                sum_tile(fir, o, tile, from, to, add);
}

/* Leave in `im` of each output what the partitions from `first` on give to a segment; partition `first` meets the newest. */
static void finish_sums(struct core_fir *fir, uint32_t first) {
    bool summed = fir->ahead > 0;
    sum_tiles(fir, 0, fir->tiles, first, summed ? 2 : fir->partitions, summed);
    fir->ahead = 0;
    for (uint32_t o = 0; o < fir->outputs; o++)
        if (fir->out[o].used)
            KERNEL(fft_class).inverse(fir->fft, fir->out[o].re, fir->out[o].im);
}

/* Bring the next segment's sums as far as the current segment has come. */
static void sum_ahead(struct core_fir *fir) {
    uint32_t end = (uint32_t)((uint64_t)fir->tiles * fir->position / fir->partition);
    sum_tiles(fir, fir->ahead, end, 2, fir->partitions, false);
    fir->ahead = end;
}

/* Turn each input's last two segments into the newest spectrum, in place of the oldest. */
static void transform_segment(struct core_fir *fir) {
    fir->newest = (fir->newest ? fir->newest : fir->partitions) - 1;
    if (fir->finished < fir->partitions)
        fir->finished++;
    for (uint32_t i = 0; i < fir->inputs; i++) {
        if (!fir->in[i].used)
            continue;
        memcpy(fir->work, fir->in[i].history, 2 * fir->partition * sizeof(float));
        KERNEL(fft_class).forward(fir->fft, fir->work, fir->work + fir->partition);
        fir_put(fir, fir->in[i].spectra, fir->newest, fir->work, fir->work + fir->partition);
    }
}

static void take_input(struct core_fir *fir, const struct sigrack_block *block, uint32_t offset, uint32_t frames) {
    for (uint32_t i = 0; i < fir->inputs; i++)
        if (fir->in[i].used)
            memcpy(fir->in[i].history + fir->partition + fir->position, block->in[i] + offset, frames * sizeof(float));
}

static void end_segment(struct core_fir *fir) {
    for (uint32_t i = 0; i < fir->inputs; i++)
        memcpy(fir->in[i].history, fir->in[i].history + fir->partition, fir->partition * sizeof(float));
    fir->position = 0;
}

/* Direct sums of consecutive frames and what rounding has cut off them so far (Kahan). */
struct span {
    lane total[SPAN_LANES], lost[SPAN_LANES];
};

/* Add one path's direct taps for `lanes` vectors of frames; `frame` is the first of them in the history. */
LANE_INLINE void add_head(struct span *span, const float *head, uint32_t taps, const float *frame, int lanes) {
    for (uint32_t first = 0; first < taps; first += CHUNK_TAPS) {
        uint32_t end = taps - first < CHUNK_TAPS ? taps : first + CHUNK_TAPS;
        lane sum[SPAN_LANES] = {{0}};
        for (uint32_t tap = first; tap < end; tap++)
            LANE_UNROLL for (int v = 0; v < lanes; v++)
                sum[v] += head[tap] * lane_load_loose(frame - tap + v * LANE_WIDTH);
        LANE_UNROLL for (int v = 0; v < lanes; v++) {
            lane step = sum[v] - span->lost[v], total = span->total[v] + step;
            span->lost[v] = (total - span->total[v]) - step;
            span->total[v] = total;
        }
    }
}

/* Write `frames` frames of one output from the segment's frame `from` on, at most as many as `lanes` vectors hold. */
LANE_INLINE void write_span(const struct core_fir *fir, uint32_t o, uint32_t from, float *to, uint32_t frames, int lanes) {
    struct span span = {{{0}}, {{0}}};
    for (uint32_t i = 0; i < fir->inputs; i++)
        if (fir->paths[o][i].head)
            add_head(&span, fir->paths[o][i].head, fir->head_taps, fir->in[i].history + fir->partition + from, lanes);
    const float *sum = (const float *)span.total;
    for (uint32_t n = 0; n < frames; n++)
        to[n] = fir->out[o].tail[from + n] + sum[n];
}

/* Short rests take one vector: a block of a few frames should not pay for a whole span. */
static void write_piece(const struct core_fir *fir, uint32_t o, float *to, uint32_t frames) {
    uint32_t count;
    for (uint32_t done = 0; done < frames; done += count) {
        count = frames - done < SPAN_FRAMES ? frames - done : SPAN_FRAMES;
        if (count > LANE_WIDTH)
            write_span(fir, o, fir->position + done, to + done, count, SPAN_LANES);
        else
            write_span(fir, o, fir->position + done, to + done, count, 1);
    }
}

static void process_piece(struct core_fir *fir, const struct sigrack_block *block, uint32_t offset, uint32_t frames) {
    if (fir->fft && !fir->position) {
        finish_sums(fir, 1);
        for (uint32_t o = 0; o < fir->outputs; o++)
            if (fir->out[o].used)
                memcpy(fir->out[o].tail, fir->out[o].im, fir->partition * sizeof(float));
    }
    take_input(fir, block, offset, frames);
    for (uint32_t o = 0; o < fir->outputs; o++) {
        if (fir->out[o].used)
            write_piece(fir, o, block->out[o] + offset, frames);
        else
            memset(block->out[o] + offset, 0, frames * sizeof(float));
    }
    fir->position += frames;
    if (fir->fft)
        sum_ahead(fir);
    if (fir->position < fir->partition)
        return;
    if (fir->fft)
        transform_segment(fir);
    end_segment(fir);
}

static void process_segment(struct core_fir *fir, const struct sigrack_block *block, uint32_t offset) {
    size_t size = fir->partition * sizeof(float);
    take_input(fir, block, offset, fir->partition);
    transform_segment(fir);
    finish_sums(fir, 0);
    for (uint32_t o = 0; o < fir->outputs; o++) {
        if (fir->out[o].used)
            memcpy(block->out[o] + offset, fir->out[o].im, size);
        else
            memset(block->out[o] + offset, 0, size);
    }
    end_segment(fir);
}

static int fir_process(void *self, const struct sigrack_block *block) {
    struct core_fir *fir = self;
    if (block->channels < fir->inputs || block->channels < fir->outputs)
        return 1;
    uint32_t frames;
    for (uint32_t done = 0; done < block->frames; done += frames) {
        frames = block->frames - done;
        if (frames > fir->partition - fir->position)
            frames = fir->partition - fir->position;
        if (fir->fft && frames == fir->partition)
            process_segment(fir, block, done);
        else
            process_piece(fir, block, done, frames);
    }
    return 0;
}

static void fir_reset(void *self) {
    struct core_fir *fir = self;
    for (uint32_t i = 0; i < fir->inputs; i++)
        memset(fir->in[i].history, 0, 2 * fir->partition * sizeof(float));
    fir->position = fir->newest = fir->finished = fir->ahead = 0;
}

extern const struct fir_class KERNEL(fir_class);
const struct fir_class KERNEL(fir_class) = {KERNEL(fir_new), KERNEL(fir_free), fir_process, fir_reset, KERNEL(fir_bytes)};
