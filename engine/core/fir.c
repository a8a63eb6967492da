/* fir.c - what the convolver does with a block. Engine thread; compiled once per level.

   A segment of the first stage that arrives in pieces: at its first frame the tail (all partitions but the first) is finished for the
   whole segment; every piece adds the head directly; each piece also sums a share of the next segment's tail, as far as it depends
   on segments that are over (partitions from 2 on), so that the work does not come all at once. A segment that arrives whole is
   transformed first, and then the head is one more partition. The other stages' output was made before: it is only added. */
#include "fir_state.h"

#include <string.h>

#include "interleave.h"

/* From the first stage's sums to its output. */
static void invert_sums(const struct core_fir *fir) {
    const struct fir_stage *stage = &fir->stage[0];
    for (uint32_t voice = 0; voice < fir->voices; voice++)
        if (fir->used_out[voice / fir->phases])
            KERNEL(fft_class).inverse(stage->fft, stage->re[voice], stage->im[!stage->side][voice]);
}

/* What all partitions but the first give to a segment that begins. */
static void make_tails(struct core_fir *fir) {
    const struct fir_stage *stage = &fir->stage[0];
    bool summed = fir->ahead > 0;
    for (uint32_t r = 0; r < fir->phases; r++)
        KERNEL(fir_sum)(fir, stage, r, 0, stage->tiles, 1, summed ? 2 : stage->partitions, 0, summed);
    fir->ahead = 0;
    fir->stage[0].early_known = false;
    invert_sums(fir);
    for (uint32_t voice = 0; voice < fir->voices; voice++)
        if (fir->used_out[voice / fir->phases])
            memcpy(fir->tails[voice], fir->stage[0].im[1][voice], fir->stage[0].partition * sizeof(float));
}

/* Bring the next segment's sums as far as the current segment has come. */
static void sum_ahead(struct core_fir *fir) {
    const struct fir_stage *stage = &fir->stage[0];
    uint32_t end = (uint32_t)((uint64_t)stage->tiles * fir->position / stage->partition);
    if (stage->partitions > 2)
        for (uint32_t r = 0; r < fir->phases; r++)
            KERNEL(fir_sum)(fir, stage, r, fir->ahead, end, 2, stage->partitions, 0, false);
    fir->ahead = stage->partitions > 2 ? end : 0;
}

/* Turn each input's last two segments into the newest spectrum, in place of the oldest. */
static void transform_segment(struct core_fir *fir) {
    struct fir_stage *stage = &fir->stage[0];
    stage->newest = (stage->newest ? stage->newest : stage->slots) - 1;
    if (stage->finished < stage->slots)
        stage->finished++;
    for (uint32_t i = 0; i < fir->inputs; i++) {
        if (!fir->used_in[i])
            continue;
        for (uint32_t step = 0; step < KERNEL(fft_class).steps(stage->fft); step++)
            KERNEL(fir_forward)(fir, stage, i, fir->at, step);
    }
}

static void take_input(struct core_fir *fir, const float *const *in, uint32_t offset, uint32_t frames) {
    if (fir->mirrored) {
        const float *left = in[0] + offset, *right = in[1] + offset;
        float *sum = fir->history[0] + fir->at, *difference = fir->history[1] + fir->at;
        for (uint32_t n = 0; n < frames; n++) {
            sum[n] = 0.5f * (left[n] + right[n]);
            difference[n] = 0.5f * (left[n] - right[n]);
        }
        return;
    }
    for (uint32_t i = 0; i < fir->inputs; i++)
        if (fir->used_in[i])
            memcpy(fir->history[i] + fir->at, in[i] + offset, frames * sizeof(float));
}

/* The direct part of the segment that comes next reads up to a partition back, also across the ring's end. */
static void wrap_history(struct core_fir *fir) {
    size_t margin = fir->stage[0].partition;
    fir->at = 0;
    for (uint32_t i = 0; i < fir->inputs; i++)
        if (fir->used_in[i])
            memcpy(fir->history[i] - margin, fir->history[i] + fir->ring - margin, margin * sizeof(float));
}

/* Note that `frames` frames have come, which the history has. */
static void pass(struct core_fir *fir, uint32_t frames) {
    fir->at += frames;
    fir->position += frames;
    if (fir->at == fir->ring)
        wrap_history(fir);
}

/* Add what the later stages have made for the frames that begin now. */
static void add_stages(const struct core_fir *fir, uint32_t voice, float *to, uint32_t frames) {
    for (uint32_t s = 1; s < fir->stages; s++) {
        const struct fir_stage *stage = &fir->stage[s];
        const float *made = stage->im[stage->side][voice] + stage->position;
        if (!stage->silent)
            for (uint32_t n = 0; n < frames; n++)
                to[n] += made[n];
    }
}

/* Write one voice's frames: what is known of them, and with `head` the direct taps. */
static void write_voice(const struct core_fir *fir, uint32_t voice, const float *known, float *to, uint32_t frames, bool head) {
    memcpy(to, known, frames * sizeof(float));
    add_stages(fir, voice, to, frames);
    if (head)
        KERNEL(fir_add_head)(fir, voice, to, frames);
}

static void write_output(const struct core_fir *fir, uint32_t o, float *to, uint32_t frames, bool head) {
    uint32_t phases = fir->phases;
    for (uint32_t voice = o * phases; voice < (o + 1) * phases; voice++) {
        const float *known = head ? fir->tails[voice] + fir->position : fir->stage[0].im[1][voice];
        write_voice(fir, voice, known, fir->planes ? fir->planes[voice] : to, frames, head);
    }
    if (fir->planes)
        interleave(to, (const float *const *)fir->planes + o * phases, phases, frames);
}

/* From sum and difference to left and right. */
static void unmirror(float *restrict left, float *restrict right, size_t frames) {
    for (size_t n = 0; n < frames; n++) {
        float sum = left[n], difference = right[n];
        left[n] = sum + difference;
        right[n] = sum - difference;
    }
}

static void write_outputs(const struct core_fir *fir, float *const *out, size_t offset, uint32_t frames, bool head) {
    for (uint32_t o = 0; o < fir->outputs; o++) {
        float *to = out[o] + offset * fir->phases;
        if (fir->used_out[o])
            write_output(fir, o, to, frames, head);
        else
            memset(to, 0, (size_t)frames * fir->phases * sizeof(float));
    }
    if (fir->mirrored)
        unmirror(out[0] + offset * fir->phases, out[1] + offset * fir->phases, (size_t)frames * fir->phases);
}

static void process_piece(struct core_fir *fir, const struct sigrack_block *block, uint32_t offset, uint32_t frames) {
    if (fir->spectral && !fir->position)
        make_tails(fir);
    take_input(fir, block->in, offset, frames);
    write_outputs(fir, block->out, offset, frames, true);
    pass(fir, frames);
    if (fir->spectral)
        sum_ahead(fir);
    if (fir->position == fir->stage[0].partition) {
        if (fir->spectral)
            transform_segment(fir);
        fir->position = 0;
    }
}

/* Leave in the first stage's output what all partitions give to a segment that is over. */
static void make_whole(struct core_fir *fir) {
    struct fir_stage *stage = &fir->stage[0];
    stage->turn = !stage->turn;
    for (uint32_t r = 0; r < fir->phases; r++)
        for (uint32_t tile = 0; tile < stage->tiles; tile += stage->sum_tiles)
            KERNEL(fir_sum_all)(fir, stage, r, tile, 0);
    stage->early_known = true;
    fir->ahead = 0;
    invert_sums(fir);
}

static void process_segment(struct core_fir *fir, const struct sigrack_block *block, uint32_t offset) {
    uint32_t frames = fir->stage[0].partition;
    take_input(fir, block->in, offset, frames);
    pass(fir, frames);
    transform_segment(fir);
    make_whole(fir);
    write_outputs(fir, block->out, offset, frames, false);
    fir->position = 0;
}

static uint32_t next_piece(const struct core_fir *fir, uint32_t left) {
    uint32_t room = fir->stage[0].partition - fir->position;
    return left < room ? left : room;
}

static int fir_process(void *self, const struct sigrack_block *block) {
    struct core_fir *fir = self;
    if (block->channels < fir->inputs || block->channels < fir->outputs)
        return 1;
    uint32_t frames;
    for (uint32_t done = 0; done < block->frames; done += frames) {
        frames = next_piece(fir, block->frames - done);
        if (fir->spectral && frames == fir->stage[0].partition)
            process_segment(fir, block, done);
        else
            process_piece(fir, block, done, frames);
        for (uint32_t s = 1; s < fir->stages; s++)
            KERNEL(fir_advance)(fir, &fir->stage[s], frames);
    }
    return 0;
}

static void fir_prime(void *self, const float *const *in, uint32_t count) {
    struct core_fir *fir = self;
    uint32_t frames;
    for (uint32_t done = 0; done < count; done += frames) {
        frames = next_piece(fir, count - done);
        take_input(fir, in, done, frames);
        pass(fir, frames);
        if (fir->position == fir->stage[0].partition) {
            if (fir->spectral)
                transform_segment(fir);
            fir->position = 0;
        }
        for (uint32_t s = 1; s < fir->stages; s++)
            KERNEL(fir_skip)(fir, &fir->stage[s], frames);
    }
}

static void fir_catch_up(void *self) {
    struct core_fir *fir = self;
    fir->ahead = 0; /* the next segment's sums are begun anew */
    fir->stage[0].early_known = false;
    if (fir->spectral && fir->position)
        make_tails(fir);
    for (uint32_t s = 1; s < fir->stages; s++)
        KERNEL(fir_resume)(fir, &fir->stage[s]);
}

const struct filter_class KERNEL(fir_filter) = {KERNEL(fir_free), fir_process,       fir_prime,
                                                fir_catch_up,     KERNEL(fir_reset), KERNEL(fir_bytes)};

extern const struct fir_class KERNEL(fir_class);
const struct fir_class KERNEL(fir_class) = {KERNEL(fir_new), KERNEL(fir_stages)};
