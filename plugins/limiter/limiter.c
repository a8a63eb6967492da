/* limiter - holds the true peak below a ceiling. It hears its input before it plays it, so the gain is down in time and never
   steps; one gain for all channels. Below the ceiling the output is the input, later. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "envelope.h"
#include "sigrack.h"
#include "truepeak.h"

#define CHUNK TRUEPEAK_MOST /* frames that are worked on at once */
#define LOUDEST 0x1p20f     /* +120 dBFS: what is beyond is no sound and becomes silence, as NaN does */
#define LEAST_GAIN 1e-9f    /* the end of the scale of reduction: 180 dB */

/* The gain is constant this far around a peak: it must not bend what the reconstruction of that peak is made of. */
#define GUARD 16u
/* At low rates the look-ahead is not shorter than this, for the same reason. */
#define LEAST_SMOOTH 64u
_Static_assert(LEAST_SMOOTH + GUARD > TRUEPEAK_REACH, "what is kept for the delay must be enough to measure");

/* How far below the ceiling the gain aims: what the measurement may miss between its points; and 0.23 dB for what a gain that
   moves adds and for what interpolators do not agree about, the last 4 % below half the rate (docs/limiter.md). */
#define MARGIN_DB (TRUEPEAK_UNDER_DB + 0.23)

enum { CEILING_DB, HOLD_MS, RELEASE_MS, SOFT_START_MS, INTERVAL_MS, PARAM_COUNT };
enum { GAIN_REDUCTION_DB, OVERLOADS };

static const struct sigrack_param params[PARAM_COUNT] = {
    {sizeof(struct sigrack_param), 0, "ceiling_db", "Highest true peak", "dBTP", -60.0, 0.0, -0.1},
    {sizeof(struct sigrack_param), 0, "hold_ms", "Time before the gain rises again", "ms", 0.0, 1000.0, 10.0},
    {sizeof(struct sigrack_param), 0, "release_ms", "Time constant of its rise", "ms", 10.0, 10000.0, 80.0},
    {sizeof(struct sigrack_param), 0, "soft_start_ms", "Fade-in after the next reset", "ms", 0.0, 10000.0, 20.0},
    {sizeof(struct sigrack_param), 0, "interval_ms", "Time between two reports", "ms", 1.0, 10000.0, 100.0},
};
static const struct sigrack_factor factors[] = {
    {sizeof(struct sigrack_factor), 0, "gain_reduction_db", "dB"}, /* deepest of the interval, deepest so far */
    {sizeof(struct sigrack_factor), 0, "overloads", ""}, /* so far: frames limited, frames over 0 dBTP, samples clipped, bad */
};

/* Since `create`. */
struct counts {
    uint64_t limited; /* frames played with a gain below 1 */
    uint64_t over;    /* input frames whose true peak is above 0 dBFS */
    uint64_t clipped; /* input samples at full scale or beyond */
    uint64_t bad;     /* input samples that were NaN, infinite or beyond +120 dBFS */
};

struct limiter {
    struct sigrack_host host;
    double lookahead_ms;
    double values[PARAM_COUNT];
    double rate_hz;
    uint32_t channels;
    float threshold;
    truepeak_run measure;
    struct truepeak truepeak;
    struct envelope envelope;
    /* Each channel's past and present, a line of `line` frames; the next one goes to `at`. */
    float *lines;
    uint32_t line, at, latency;
    uint32_t soft, soft_left; /* frames */
    struct counts counts;
    uint32_t interval, counted; /* frames */
    float least, least_ever;    /* gain, of the interval and at all */
    float gains[CHUNK + TRUEPEAK_SPARE];
};

/* Go past white space and `token`; 0 if there is something else. */
static int eat(const char **text, const char *token) {
    *text += strspn(*text, " \t\r\n");
    size_t length = strlen(token);
    if (strncmp(*text, token, length))
        return 0;
    *text += length;
    return 1;
}

/* Read {} or {"lookahead_ms": NUMBER}; NAN for anything else. */
static double lookahead_of(const char *config) {
    double ms = 1.5;
    if (!eat(&config, "{"))
        return NAN;
    if (eat(&config, "\"lookahead_ms\"")) {
        if (!eat(&config, ":"))
            return NAN;
        char *end;
        ms = strtod(config, &end);
        config = end;
    }
    return eat(&config, "}") && eat(&config, "") && !*config ? ms : NAN;
}

static void *create(const struct sigrack_host *host, const char *config, char *error, uint32_t error_size) {
    double lookahead_ms = lookahead_of(config);
    if (!(lookahead_ms >= 0.5 && lookahead_ms <= 10.0)) {
        snprintf(error, error_size, "config takes lookahead_ms, a number from 0.5 to 10, and nothing else; see [slot.params]");
        return NULL;
    }
    struct limiter *limiter = calloc(1, sizeof *limiter);
    if (!limiter) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    limiter->host = *host;
    limiter->lookahead_ms = lookahead_ms;
    return limiter;
}

static void destroy(void *self) {
    struct limiter *limiter = self;
    free(limiter->lines);
    envelope_close(&limiter->envelope);
    free(limiter);
}

static double frames_of(const struct limiter *limiter, double ms) { return round(ms * 1e-3 * limiter->rate_hz); }

static void set(struct limiter *limiter, uint32_t param, double value) {
    limiter->values[param] = value;
    limiter->threshold = (float)pow(10.0, (limiter->values[CEILING_DB] - MARGIN_DB) / 20.0);
    envelope_set(&limiter->envelope, frames_of(limiter, limiter->values[HOLD_MS]), frames_of(limiter, limiter->values[RELEASE_MS]));
    limiter->interval = (uint32_t)fmax(frames_of(limiter, limiter->values[INTERVAL_MS]), 1.0);
}

static float *line_of(const struct limiter *limiter, uint32_t channel) { return limiter->lines + (size_t)channel * limiter->line; }

static void reset(void *self) {
    struct limiter *limiter = self;
    envelope_reset(&limiter->envelope);
    for (uint32_t c = 0; c < limiter->channels; c++)
        memset(line_of(limiter, c), 0, sizeof(float) * limiter->latency);
    limiter->at = limiter->latency;
    limiter->soft = (uint32_t)frames_of(limiter, limiter->values[SOFT_START_MS]);
    limiter->soft_left = limiter->soft + limiter->latency;
}

static int activate(void *self, const struct sigrack_setup *setup, struct sigrack_contract *contract) {
    struct limiter *limiter = self;
    limiter->rate_hz = setup->rate_hz;
    limiter->channels = setup->channels;
    uint32_t smooth = (uint32_t)fmax(frames_of(limiter, limiter->lookahead_ms), LEAST_SMOOTH);
    limiter->latency = TRUEPEAK_REACH + smooth + GUARD - 2; /* the gain is there before the first frame that makes the peak */
    uint32_t window = smooth + 2 * GUARD - 1;               /* and until the last one */
    limiter->line = 2 * (limiter->latency + CHUNK) + TRUEPEAK_SPARE;
    free(limiter->lines);
    envelope_close(&limiter->envelope);
    limiter->lines = calloc((size_t)limiter->channels * limiter->line, sizeof(float));
    if (!limiter->lines || !envelope_open(&limiter->envelope, window, smooth))
        return -1;
    limiter->measure = truepeak_chosen();
    truepeak_design(&limiter->truepeak);
    for (uint32_t i = 0; i < PARAM_COUNT; i++)
        set(limiter, i, setup->values[i]);
    limiter->least = limiter->least_ever = 1.0f;
    reset(limiter);
    contract->latency_frames = contract->tail_frames = limiter->latency;
    return 0;
}

/* Before a line is full, its past moves to the front. */
static void make_room(struct limiter *limiter) {
    if (limiter->at + CHUNK + TRUEPEAK_SPARE <= limiter->line)
        return;
    for (uint32_t c = 0; c < limiter->channels; c++) {
        float *line = line_of(limiter, c);
        memmove(line, line + limiter->at - limiter->latency, sizeof(float) * limiter->latency);
    }
    limiter->at = limiter->latency;
}

static void take(struct limiter *limiter, const float *in, float *line, uint32_t frames) {
    uint32_t bad = 0, clipped = 0;
    for (uint32_t i = 0; i < frames; i++) {
        float size = fabsf(in[i]);
        line[i] = size <= LOUDEST ? in[i] : 0.0f;
        bad += !(size <= LOUDEST);
        clipped += size >= 1.0f;
    }
    limiter->counts.bad += bad;
    limiter->counts.clipped += clipped;
}

/* From true peaks to the gains that they need. */
static void need(struct limiter *limiter, float *gains, uint32_t frames) {
    uint32_t over = 0;
    float threshold = limiter->threshold;
    for (uint32_t i = 0; i < frames; i++) {
        over += gains[i] > 1.0f;
        gains[i] = gains[i] > threshold ? threshold / gains[i] : 1.0f;
    }
    limiter->counts.over += over;
}

static void note(struct limiter *limiter, const float *gains, uint32_t frames) {
    uint32_t limited = 0;
    float least = limiter->least;
    for (uint32_t i = 0; i < frames; i++) {
        limited += gains[i] < 1.0f;
        least = gains[i] < least ? gains[i] : least;
    }
    limiter->counts.limited += limited;
    limiter->least = least;
    limiter->least_ever = least < limiter->least_ever ? least : limiter->least_ever;
}

/* Silence until the first frame after the reset comes out, then a line up to 1. */
static void fade_in(struct limiter *limiter, float *gains, uint32_t frames) {
    for (uint32_t i = 0; i < frames && limiter->soft_left; i++) {
        uint32_t left = --limiter->soft_left;
        gains[i] *= left < limiter->soft ? 1.0f - (float)left / (float)limiter->soft : 0.0f;
    }
}

/* Frames [from, from + frames) of a block, CHUNK at most. */
static void limit(struct limiter *limiter, const struct sigrack_block *block, uint32_t from, uint32_t frames) {
    float *gains = limiter->gains;
    make_room(limiter);
    memset(gains, 0, sizeof limiter->gains);
    for (uint32_t c = 0; c < limiter->channels; c++) {
        float *line = line_of(limiter, c) + limiter->at;
        take(limiter, block->in[c] + from, line, frames);
        limiter->measure(&limiter->truepeak, line - (2 * TRUEPEAK_REACH - 1), gains, frames);
    }
    need(limiter, gains, frames);
    envelope_run(&limiter->envelope, gains, frames);
    note(limiter, gains, frames);
    fade_in(limiter, gains, frames);
    for (uint32_t c = 0; c < limiter->channels; c++) {
        const float *restrict late = line_of(limiter, c) + limiter->at - limiter->latency;
        float *restrict out = block->out[c] + from;
        for (uint32_t i = 0; i < frames; i++)
            out[i] = late[i] * gains[i];
    }
    limiter->at += frames;
    limiter->counted += frames;
}

static double reduction_db(float gain) { return fmax(-20.0 * log10(fmax(gain, LEAST_GAIN)), 0.0); }

static void post(struct limiter *limiter, uint64_t frame) {
    const struct counts *counts = &limiter->counts;
    double depth[] = {reduction_db(limiter->least), reduction_db(limiter->least_ever)};
    double numbers[] = {(double)counts->limited, (double)counts->over, (double)counts->clipped, (double)counts->bad};
    limiter->host.post(limiter->host.cookie, GAIN_REDUCTION_DB, frame, depth, 2);
    limiter->host.post(limiter->host.cookie, OVERLOADS, frame, numbers, 4);
    limiter->least = 1.0f;
    limiter->counted = 0;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Frames [from, to). An interval that became shorter than what is counted ends at once. */
static void run(struct limiter *limiter, const struct sigrack_block *block, uint32_t from, uint32_t to) {
    while (from < to) {
        uint32_t left = limiter->interval > limiter->counted ? limiter->interval - limiter->counted : 0;
        uint32_t frames = smaller(left, smaller(to - from, CHUNK));
        limit(limiter, block, from, frames);
        from += frames;
        if (limiter->counted >= limiter->interval)
            post(limiter, block->frame + from);
    }
}

static int process(void *self, const struct sigrack_block *block) {
    struct limiter *limiter = self;
    uint32_t from = 0;
    for (uint32_t i = 0; i < block->event_count; i++) {
        run(limiter, block, from, block->events[i].offset);
        from = block->events[i].offset;
        set(limiter, block->events[i].param, block->events[i].value);
    }
    run(limiter, block, from, block->frames);
    return 0;
}

const struct sigrack_plugin *sigrack_plugin_entry(void) {
    static const struct sigrack_plugin plugin = {
        .size = sizeof plugin,
        .abi = SIGRACK_ABI,
        .id = "limiter",
        .name = "True-peak limiter",
        .version = "0.1.0",
        .description = "Keeps the true peak below a ceiling; config: lookahead_ms, 0.5 to 10, default 1.5.",
        .params = params,
        .param_count = PARAM_COUNT,
        .factors = factors,
        .factor_count = sizeof factors / sizeof *factors,
        .create = create,
        .activate = activate,
        .process = process,
        .reset = reset,
        .destroy = destroy,
    };
    return &plugin;
}
