/* fir_head.c - the first taps, applied directly to frames as they come. Engine thread; compiled once per level. */
#include "fir_state.h"

/* Long float sums lose bits, so a direct sum goes over to a compensated total this often. */
#define CHUNK_TAPS 64

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

/* Add to `frames` frames of one voice from the history's frame `from` on, at most as many as `lanes` vectors hold. */
LANE_INLINE void add_span(const struct core_fir *fir, uint32_t voice, size_t from, float *to, uint32_t frames, int lanes) {
    struct span span = {{{0}}, {{0}}};
    for (uint32_t i = 0; i < fir->inputs; i++) {
        const float *head = fir->heads[voice * fir->inputs + i];
        if (head)
            add_head(&span, head, fir->head_taps, fir->history[i] + from, lanes);
    }
    const float *sum = (const float *)span.total;
    for (uint32_t n = 0; n < frames; n++)
        to[n] += sum[n];
}

/* Short rests take one vector: a block of a few frames should not pay for a whole span. */
void KERNEL(fir_add_head)(const struct core_fir *fir, uint32_t voice, float *to, uint32_t frames) {
    uint32_t count;
    for (uint32_t done = 0; done < frames; done += count) {
        count = frames - done < SPAN_FRAMES ? frames - done : SPAN_FRAMES;
        if (count > LANE_WIDTH)
            add_span(fir, voice, fir->at + done, to + done, count, SPAN_LANES);
        else
            add_span(fir, voice, fir->at + done, to + done, count, 1);
    }
}
