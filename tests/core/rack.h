/* rack.h - a rack with one of everything that the engine thread can do, and a main thread that never leaves it in peace. */
#ifndef SIGRACK_RACK_H
#define SIGRACK_RACK_H

#include "biquads.h"
#include "check.h"
#include "engine.h"
#include "fir.h"
#include "group.h"
#include "handle.h"
#include "results.h"
#include "sink.h"
#include "source.h"
#include "threads.h"

#define RACK_CHANNELS 2u
#define RACK_BLOCK 64u
#define RACK_TAPS 3000u

/* The first processor: a gain that is set by events, after whatever the test adds. */
struct rack_head {
    void (*extra)(void *argument); /* or NULL; on the engine thread, in every block */
    void *argument;
    float gain;
};

struct rack {
    struct rack_head head;
    struct core_bell *bell;
    struct core_symbols *symbols;
    struct core_results *results;
    uint64_t cookie, random;
    struct core_group *group;
    struct core_filter *offered; /* to the group */
    struct core_slot *slots[4];
    struct core_tap *tap;
    struct core_faders *faders;
    struct core_engine *engine;
};

static inline int rack_gain(void *self, const struct sigrack_block *block) {
    struct rack_head *head = self;
    if (head->extra)
        head->extra(head->argument);
    for (uint32_t i = 0; i < block->event_count; i++)
        head->gain = (float)block->events[i].value;
    for (uint32_t c = 0; c < block->channels; c++)
        for (uint32_t i = 0; i < block->frames; i++)
            block->out[c][i] = block->in[c][i] * head->gain;
    return block->frame % 11 == 0; /* fails now and then */
}

/* The last processor: posts what it hears, by both ways. */
static inline int rack_level(void *self, const struct sigrack_block *block) {
    const struct rack *rack = self;
    double values[RACK_CHANNELS];
    for (uint32_t c = 0; c < block->channels; c++) {
        values[c] = block->in[c][0];
        for (uint32_t i = 0; i < block->frames; i++)
            block->out[c][i] = block->in[c][i];
    }
    core_post(rack->cookie, 0, block->frame, values, RACK_CHANNELS);
    core_signal_callback("level", 0, values, RACK_CHANNELS, (void *)(uintptr_t)rack->cookie);
    core_signal_callback("unknown", 0, values, RACK_CHANNELS, (void *)(uintptr_t)rack->cookie);
    core_post(0, 0, 0, values, RACK_CHANNELS);
    return 0;
}

static inline struct core_slot *rack_slot(core_process process, core_reset reset, void *self, uint32_t latency) {
    struct core_slot *slot = core_slot_new(&(struct core_slot_setup){
        process, reset, self, RACK_CHANNELS, RACK_BLOCK, 1, latency, .fade_frames = 200, .active = 1});
    CHECK(slot);
    return slot;
}

/* A processor on some channels: hears the second, writes the first, 50 frames late, so that the second has to wait. */
static inline struct core_slot *rack_route(void *self) {
    struct core_slot *slot = core_slot_new(&(struct core_slot_setup){
        .process = rack_gain, .self = self, .channels = 1, .max_frames = RACK_BLOCK, .latency_frames = 50, .fade_frames = 200,
        .active = 1, .bus = RACK_CHANNELS, .outputs = 1, .in = {1}, .out = {0}});
    CHECK(slot);
    return slot;
}

static inline struct core_filter *rack_fir(struct rack *rack) {
    float taps[RACK_CHANNELS * RACK_CHANNELS * RACK_TAPS];
    for (uint32_t i = 0; i < RACK_CHANNELS * RACK_CHANNELS * RACK_TAPS; i++)
        taps[i] = (float)draw(&rack->random, 1000) * 1e-6f;
    struct core_fir_spec spec = {RACK_CHANNELS, RACK_CHANNELS, 1, RACK_TAPS, taps, 0, {256, 512}};
    struct core_filter *fir = core_fir_new(&spec);
    CHECK(fir);
    return fir;
}

static inline struct core_filter *rack_biquads(struct rack *rack) {
    double mix[] = {0.5, 0.1, 0, 1}, coefficients[3][5];
    uint32_t delays[] = {draw(&rack->random, 20), 0}, sections[] = {1, 2};
    for (int s = 0; s < 3; s++)
        for (int i = 0; i < 5; i++)
            coefficients[s][i] = (double)draw(&rack->random, 1000) * 4e-4;
    struct core_biquads_stage stages[] = {{2, 2, mix, delays, sections, coefficients[0]},
                                          {2, 2, mix, delays, sections, coefficients[0]}};
    struct core_filter *filter = core_biquads_new(&(struct core_biquads_spec){RACK_CHANNELS, RACK_CHANNELS, 2, stages});
    CHECK(filter);
    return filter;
}

/* Offer the group another filter, or take the offer back. */
static inline void rack_refilter(struct rack *rack) {
    core_filter_free(core_group_collect(rack->group));
    if (rack->offered) {
        if (core_group_withdraw(rack->group))
            core_filter_free(rack->offered);
        rack->offered = NULL;
        return;
    }
    struct core_filter *fir = draw(&rack->random, 2) ? rack_fir(rack) : rack_biquads(rack);
    uint64_t at = core_group_feed(rack->group, fir, core_group_oldest(rack->group), UINT32_MAX, 1);
    if (at == GROUP_LOST) {
        core_filter_free(fir);
        return;
    }
    core_filter_catch_up(fir);
    if (core_group_offer(rack->group, fir, at) == GROUP_LOST)
        core_filter_free(fir);
    else
        rack->offered = fir;
}

static inline struct core_run_list *rack_list(const struct rack *rack, uint32_t turn) {
    struct core_step steps[6] = {{.slot = rack->slots[0]},           {.tap = rack->tap},     {.slot = rack->slots[1 + turn % 2]},
                                 {.slot = rack->slots[2 - turn % 2]}, {.slot = rack->slots[3]}, {.faders = rack->faders}};
    struct core_run_list *list = core_run_list_new(steps, 6);
    CHECK(list);
    return list;
}

static inline void rack_open(struct rack *rack) {
    static const char *const names[] = {"level"};
    *rack = (struct rack){.random = 11, .head.gain = 1};
    rack->bell = core_bell_new();
    rack->symbols = core_symbols_new(names, 1);
    rack->results = core_results_new(64, RACK_CHANNELS, rack->symbols, rack->bell, NULL);
    rack->cookie = core_handle_open(rack->results);
    const struct core_group_setup setup = {RACK_CHANNELS, RACK_CHANNELS, RACK_BLOCK, 1, RACK_TAPS, 100};
    rack->group = core_group_new(&setup, rack_fir(rack));
    rack->tap = core_tap_new(RACK_CHANNELS, 1024, 256, rack->bell);
    rack->engine = core_engine_new(RACK_CHANNELS, RACK_BLOCK, 150);
    rack->faders = core_faders_new(RACK_CHANNELS, 100, (const float[RACK_CHANNELS]){1, 1});
    core_tap_map(rack->tap, (const uint8_t[RACK_CHANNELS]){1, 0});
    CHECK(rack->faders && rack->bell && rack->symbols && rack->results && rack->cookie && rack->group && rack->tap && rack->engine);
    rack->slots[0] = rack_slot(rack_gain, NULL, &rack->head, 0);
    rack->slots[1] = rack_slot(core_group_process, core_group_reset, rack->group, 30);
    rack->slots[2] = rack_slot(rack_level, NULL, rack, 0);
    rack->slots[3] = rack_route(&rack->head);
    CHECK(!core_engine_publish(rack->engine, rack_list(rack, 0), 0));
}

static inline void rack_close(struct rack *rack) {
    core_engine_free(rack->engine);
    for (int i = 0; i < 4; i++)
        core_slot_free(rack->slots[i]);
    CHECK(core_handle_close(rack->cookie) && core_handle_release(rack->cookie));
    core_tap_free(rack->tap);
    core_faders_free(rack->faders);
    core_group_free(rack->group); /* with what was offered and not taken */
    core_results_free(rack->results);
    core_symbols_free(rack->symbols);
    core_bell_free(rack->bell);
}

/* One step of what the main thread does to a running rack; readers fall behind at times, so that all bounds are met. */
static inline void rack_disturb(struct rack *rack) {
    struct core_span span;
    core_slot_set(rack->slots[0], 0, 1e-3 * draw(&rack->random, 1000), 0);
    if (!draw(&rack->random, 7))
        core_slot_activate(rack->slots[draw(&rack->random, 4)], (int)draw(&rack->random, 2));
    if (!draw(&rack->random, 9))
        rack_refilter(rack);
    if (!draw(&rack->random, 5))
        core_faders_set(rack->faders, (const float[RACK_CHANNELS]){(float)draw(&rack->random, 2), (float)draw(&rack->random, 2)});
    if (!draw(&rack->random, 15)) {
        struct core_run_list *list = rack_list(rack, draw(&rack->random, 2));
        core_run_list_free(core_engine_publish(rack->engine, list, (int)draw(&rack->random, 2)));
        core_run_list_free(core_engine_collect(rack->engine));
    }
    core_bell_arm(rack->bell);
    if (draw(&rack->random, 60))
        return;
    float samples[RACK_CHANNELS * 1024];
    uint32_t frames = core_tap_peek(rack->tap, 1024, &(int){0});
    core_tap_read_interleaved(rack->tap, samples, frames);
    core_results_release(rack->results, core_results_peek(rack->results, rack->cookie, 64, &span));
}

/* A source that runs dry at times, and a sink that overflows. */
struct rack_ends {
    struct core_ring *ring;
    struct core_source *source;
    struct core_sink *sink;
};

static inline void rack_ends_open(struct rack_ends *ends, enum core_sink_overflow overflow) {
    ends->ring = core_ring_new(RACK_CHANNELS, 4096);
    ends->source = core_source_new(&(struct core_source_setup){ends->ring, RACK_BLOCK, 0, 100, 30});
    ends->sink = core_sink_new(&(struct core_sink_setup){RACK_CHANNELS, 512, RACK_BLOCK, 100, overflow});
    CHECK(ends->ring && ends->source && ends->sink);
}

static inline void rack_ends_close(struct rack_ends *ends) {
    core_sink_free(ends->sink);
    core_source_free(ends->source);
    core_ring_free(ends->ring);
}

/* One step of a writer who takes every third rest of 16 blocks and a reader who takes every second. */
static inline void rack_ends_disturb(struct rack_ends *ends, uint64_t blocks) {
    float samples[RACK_CHANNELS * 128] = {1};
    if (blocks / 16 % 3 && core_ring_level(ends->ring) < 256)
        core_ring_write_interleaved(ends->ring, samples, 100);
    if (blocks / 16 % 2)
        core_sink_read_interleaved(ends->sink, samples, 128);
}

/* All that can happen at the ends has happened. */
static inline int rack_ends_met(const struct rack_ends *ends) {
    struct core_source_stats source;
    struct core_sink_stats sink;
    core_source_stats(ends->source, &source);
    core_sink_stats(ends->sink, &sink);
    return source.underruns > 5 && source.read && source.underrun && sink.overruns > 5 && sink.dropped && sink.read;
}

#endif
