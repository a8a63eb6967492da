/* level - peak and RMS of each channel, posted as factors. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sigrack.h"

#define FLOOR_DB -200.0

enum { INTERVAL_MS };
enum { PEAK_DB, RMS_DB };

static const struct sigrack_param params[] = {
    {sizeof(struct sigrack_param), 0, "interval_ms", "Measuring interval", "ms", 1.0, 10000.0, 100.0},
};
static const struct sigrack_factor factors[] = {
    {sizeof(struct sigrack_factor), 0, "peak_db", "dBFS"},
    {sizeof(struct sigrack_factor), 0, "rms_db", "dBFS"},
};

struct level {
    struct sigrack_host host;
    uint32_t rate_hz, channels;
    uint32_t interval; /* frames */
    uint32_t counted;  /* frames of the running interval */
    float peak[SIGRACK_MAX_CHANNELS];
    double squares[SIGRACK_MAX_CHANNELS];
};

static void *create(const struct sigrack_host *host, const char *config, char *error, uint32_t error_size) {
    if (config[0] != '{' || config[1] != '}') {
        snprintf(error, error_size, "level has no configuration: use [slot.params]");
        return NULL;
    }
    struct level *level = calloc(1, sizeof *level);
    if (!level) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    level->host = *host;
    return level;
}

static uint32_t frames_of(const struct level *level, double ms) {
    double frames = ms * 1e-3 * level->rate_hz;
    return frames < 1.0 ? 1 : (uint32_t)frames;
}

static int activate(void *self, const struct sigrack_setup *setup, struct sigrack_contract *contract) {
    struct level *level = self;
    level->rate_hz = setup->rate_hz;
    level->channels = setup->channels;
    level->interval = frames_of(level, setup->values[INTERVAL_MS]);
    contract->flags = SIGRACK_LINEAR;
    return 0;
}

static void reset(void *self) {
    struct level *level = self;
    level->counted = 0;
    memset(level->peak, 0, sizeof level->peak);
    memset(level->squares, 0, sizeof level->squares);
}

static double db(double amplitude) { return amplitude > 0.0 ? fmax(20.0 * log10(amplitude), FLOOR_DB) : FLOOR_DB; }

static void post(struct level *level, uint64_t frame) {
    double peak[SIGRACK_MAX_CHANNELS], rms[SIGRACK_MAX_CHANNELS];
    for (uint32_t c = 0; c < level->channels; c++) {
        peak[c] = db(level->peak[c]);
        rms[c] = db(sqrt(level->squares[c] / level->counted));
    }
    level->host.post(level->host.cookie, PEAK_DB, frame, peak, level->channels);
    level->host.post(level->host.cookie, RMS_DB, frame, rms, level->channels);
    reset(level);
}

/* Eight running sums and peaks, so that the compiler may use vectors without being allowed to reorder one sum. */
static void measure(struct level *level, const struct sigrack_block *block, uint32_t from, uint32_t frames) {
    for (uint32_t c = 0; c < level->channels; c++) {
        const float *in = block->in[c] + from;
        float peak[8] = {0}, squares[8] = {0};
        uint32_t i = 0;
        for (; i + 8 <= frames; i += 8)
            for (uint32_t k = 0; k < 8; k++) {
                float size = fabsf(in[i + k]);
                peak[k] = size > peak[k] ? size : peak[k];
                squares[k] += in[i + k] * in[i + k];
            }
        for (; i < frames; i++) {
            peak[0] = fabsf(in[i]) > peak[0] ? fabsf(in[i]) : peak[0];
            squares[0] += in[i] * in[i];
        }
        for (uint32_t k = 0; k < 8; k++) {
            level->peak[c] = peak[k] > level->peak[c] ? peak[k] : level->peak[c];
            level->squares[c] += squares[k];
        }
    }
    level->counted += frames;
}

/* Process frames [from, to). An interval that became shorter than what is counted ends at once. */
static void run(struct level *level, const struct sigrack_block *block, uint32_t from, uint32_t to) {
    while (from < to) {
        uint32_t left = level->interval > level->counted ? level->interval - level->counted : 0;
        uint32_t frames = left < to - from ? left : to - from;
        measure(level, block, from, frames);
        from += frames;
        if (level->counted >= level->interval)
            post(level, block->frame + from);
    }
}

static int process(void *self, const struct sigrack_block *block) {
    struct level *level = self;
    uint32_t from = 0;
    for (uint32_t i = 0; i < block->event_count; i++) {
        run(level, block, from, block->events[i].offset);
        from = block->events[i].offset;
        level->interval = frames_of(level, block->events[i].value);
    }
    run(level, block, from, block->frames);
    for (uint32_t c = 0; c < block->channels; c++)
        memcpy(block->out[c], block->in[c], block->frames * sizeof(float));
    return 0;
}

const struct sigrack_plugin *sigrack_plugin_entry(void) {
    static const struct sigrack_plugin plugin = {
        .size = sizeof plugin,
        .abi = SIGRACK_ABI,
        .id = "level",
        .name = "Level meter",
        .version = "0.1.0",
        .description = "Peak and RMS of each channel in dBFS, posted as factors.",
        .params = params,
        .param_count = sizeof params / sizeof *params,
        .factors = factors,
        .factor_count = sizeof factors / sizeof *factors,
        .create = create,
        .activate = activate,
        .process = process,
        .reset = reset,
        .destroy = free,
    };
    return &plugin;
}
