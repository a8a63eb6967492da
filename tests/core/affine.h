/* affine.h - an engine whose processors are one multiplication and one addition, run block by block. */
#ifndef SIGRACK_AFFINE_H
#define SIGRACK_AFFINE_H

#include "check.h"
#include "engine.h"

#define CHANNELS 2u
#define MOST 64u
#define DIP 100u

/* A processor: out = in * factor + term. */
struct affine {
    float factor, term;
};

static inline int process(void *self, const struct sigrack_block *block) {
    const struct affine *affine = self;
    for (uint32_t c = 0; c < block->channels; c++) {
        CHECK(block->in[c] != block->out[c]);
        for (uint32_t i = 0; i < block->frames; i++)
            block->out[c][i] = block->in[c][i] * affine->factor + affine->term;
    }
    return 0;
}

static inline struct core_slot *slot_of(core_process function, void *self) {
    struct core_slot *slot = core_slot_new(&(struct core_slot_setup){
        .process = function, .self = self, .channels = CHANNELS, .max_frames = MOST, .fade_frames = 1, .active = 1});
    CHECK(slot);
    return slot;
}

static inline struct core_engine *engine_new(void) {
    struct core_engine *engine = core_engine_new(CHANNELS, MOST, DIP);
    CHECK(engine);
    return engine;
}

static inline struct core_run_list *list_of(struct core_slot *slot) {
    struct core_run_list *list = core_run_list_new(&(struct core_step){.slot = slot}, slot != NULL);
    CHECK(list);
    return list;
}

/* Run one block of the constant `value`; the output stays in `last_out`. */
static float last_out[CHANNELS][MOST];

static inline void run(struct core_engine *engine, float value, uint32_t frames) {
    float samples[CHANNELS][MOST];
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t i = 0; i < frames; i++)
            samples[c][i] = value;
    core_engine_block(engine, (const float *[]){samples[0], samples[1]}, (float *[]){last_out[0], last_out[1]}, frames);
}

static inline float run_one(struct core_engine *engine, float value) {
    run(engine, value, 1);
    CHECK(last_out[0][0] == last_out[1][0]);
    return last_out[0][0];
}

static inline struct core_engine_stats stats_of(const struct core_engine *engine) {
    struct core_engine_stats stats;
    core_engine_stats(engine, &stats);
    return stats;
}

#endif
