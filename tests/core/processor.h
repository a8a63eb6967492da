/* processor.h - one slot with a processor that does what a test tells it, and a signal to run through it. */
#ifndef SIGRACK_PROCESSOR_H
#define SIGRACK_PROCESSOR_H

#include <string.h>

#include "check.h"
#include "slot.h"
#include "threads.h"

#define CHANNELS 2u
#define MOST 1024u

/* A processor that does what a test tells it. */
struct processor {
    float gain;
    float poison; /* written at the middle of the last channel's block, unless 0 */
    int status;
    uint32_t resets, latency;
    float line[CHANNELS][MOST];
    uint32_t position;
    struct sigrack_event events[SLOT_BLOCK_EVENTS]; /* of the last block */
    uint32_t event_count;
};

static inline int process(void *self, const struct sigrack_block *block) {
    struct processor *processor = self;
    processor->event_count = block->event_count;
    memcpy(processor->events, block->events, block->event_count * sizeof *block->events);
    for (uint32_t i = 0; i < block->frames; i++) {
        for (uint32_t c = 0; c < block->channels; c++) {
            float *late = &processor->line[c][processor->position];
            float in = processor->latency ? *late : block->in[c][i];
            block->out[c][i] = in * processor->gain;
            *late = block->in[c][i];
        }
        if (processor->latency)
            processor->position = (processor->position + 1) % processor->latency;
    }
    if (processor->poison != 0)
        block->out[block->channels - 1][block->frames / 2] = processor->poison;
    return processor->status;
}

static inline void reset(void *self) { ((struct processor *)self)->resets++; }

static inline struct core_slot *slot_with(struct processor *processor, uint32_t fade_frames, uint32_t active) {
    struct core_slot *slot = core_slot_new(&(struct core_slot_setup){
        .process = process,
        .reset = reset,
        .self = processor,
        .channels = CHANNELS,
        .max_frames = MOST,
        .latency_frames = processor->latency,
        .fade_frames = fade_frames,
        .active = active,
    });
    CHECK(slot);
    return slot;
}

/* A signal of `frames` frames through the slot, from engine frame `frame` on. */
struct signal {
    float in[CHANNELS][16 * MOST], out[CHANNELS][16 * MOST];
};
static struct signal signal_now;

static inline void fill_noise(void) {
    uint64_t random = 7;
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < 16 * MOST; i++)
            signal_now.in[c][i] = (float)draw(&random, 2000001) * 1e-6f - 1.0f;
}

static inline void run(struct core_slot *slot, uint32_t frame, uint32_t frames, uint32_t block) {
    for (uint32_t end = frame + frames; frame < end; frame += block) {
        const float *in[CHANNELS] = {signal_now.in[0] + frame, signal_now.in[1] + frame};
        float *out[CHANNELS] = {signal_now.out[0] + frame, signal_now.out[1] + frame};
        slot_run(slot, in, in, out, end - frame < block ? end - frame : block, frame);
    }
}

#endif
