/* gain - a smoothed volume. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sigrack.h"

enum { GAIN_DB, SMOOTH_MS };

static const struct sigrack_param params[] = {
    {sizeof(struct sigrack_param), 0, "gain_db", "Gain", "dB", -120.0, 24.0, 0.0},
    {sizeof(struct sigrack_param), 0, "smooth_ms", "Length of a change", "ms", 0.0, 10000.0, 20.0},
};

struct gain {
    double rate_hz, smooth_ms;
    float goal, step; /* linear */
    uint32_t left;    /* frames until `goal` */
};

static float linear(double db) { return db <= params[GAIN_DB].minimum ? 0.0f : (float)pow(10.0, db / 20.0); }

static void *create(const struct sigrack_host *host, const char *config, char *error, uint32_t error_size) {
    (void)host;
    if (config[0] != '{' || config[1] != '}') {
        snprintf(error, error_size, "gain has no configuration: use [slot.params]");
        return NULL;
    }
    struct gain *gain = calloc(1, sizeof *gain);
    if (!gain) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    return gain;
}

static int activate(void *self, const struct sigrack_setup *setup, struct sigrack_contract *contract) {
    struct gain *gain = self;
    gain->rate_hz = setup->rate_hz;
    gain->goal = linear(setup->values[GAIN_DB]);
    gain->smooth_ms = setup->values[SMOOTH_MS];
    contract->flags = SIGRACK_LINEAR | SIGRACK_UNIFORM;
    return 0;
}

/* The gain of frame i of a move that has `left` frames to go. Counted back from the goal, it does not depend on how the frames
   are cut into blocks, and the last one is the goal. */
static float moving(const struct gain *gain, uint32_t i) { return gain->goal - (float)(int32_t)(gain->left - 1 - i) * gain->step; }

/* Move towards `db`, linearly, over `smooth_ms`. */
static void aim(struct gain *gain, double db) {
    float now = gain->goal - (float)(int32_t)gain->left * gain->step;
    uint32_t frames = (uint32_t)(gain->smooth_ms * 1e-3 * gain->rate_hz);
    gain->goal = linear(db);
    gain->left = frames ? frames : 1;
    gain->step = (gain->goal - now) / (float)(int32_t)gain->left;
}

/* Process frames [from, to): the moving part first, then the steady one. */
static void run(struct gain *gain, const struct sigrack_block *block, uint32_t from, uint32_t to) {
    uint32_t ramp = gain->left < to - from ? gain->left : to - from;
    for (uint32_t c = 0; c < block->channels; c++) {
        const float *restrict in = block->in[c] + from;
        float *restrict out = block->out[c] + from;
        for (uint32_t i = 0; i < ramp; i++)
            out[i] = in[i] * moving(gain, i);
        for (uint32_t i = ramp; i < to - from; i++)
            out[i] = in[i] * gain->goal;
    }
    gain->left -= ramp;
}

static int process(void *self, const struct sigrack_block *block) {
    struct gain *gain = self;
    uint32_t from = 0;
    for (uint32_t i = 0; i < block->event_count; i++) {
        const struct sigrack_event *event = &block->events[i];
        run(gain, block, from, event->offset);
        from = event->offset;
        if (event->param == GAIN_DB)
            aim(gain, event->value);
        else if (event->param == SMOOTH_MS)
            gain->smooth_ms = event->value;
    }
    run(gain, block, from, block->frames);
    return 0;
}

const struct sigrack_plugin *sigrack_plugin_entry(void) {
    static const struct sigrack_plugin plugin = {
        .size = sizeof plugin,
        .abi = SIGRACK_ABI,
        .id = "gain",
        .name = "Gain",
        .version = "0.1.0",
        .description = "Volume in dB; changes are smoothed.",
        .params = params,
        .param_count = sizeof params / sizeof *params,
        .create = create,
        .activate = activate,
        .process = process,
        .destroy = free,
    };
    return &plugin;
}
