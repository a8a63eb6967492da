#include "faders.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "memory.h"

struct fader {
    float from, to;
    uint32_t left; /* frames of the ramp */
};

struct core_faders {
    uint32_t channels, fade_frames;
    /* The main loop's. The version is odd while the gains are being written: they count all together or not at all. */
    alignas(64) _Atomic uint64_t version;
    _Atomic uint32_t wanted[SIGRACK_MAX_CHANNELS]; /* bits of floats */
    /* The engine's. */
    alignas(64) uint64_t taken; /* the version that is in force */
    int neutral;                /* none has anything to do */
    struct fader faders[SIGRACK_MAX_CHANNELS];
    _Atomic uint32_t reached[SIGRACK_MAX_CHANNELS]; /* bits of floats */
};

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float value_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int rests_at(const struct fader *fader, float gain) { return !fader->left && fader->to == gain; }

static void look_if_neutral(struct core_faders *faders) {
    faders->neutral = 1;
    for (uint32_t c = 0; c < faders->channels; c++)
        faders->neutral &= rests_at(&faders->faders[c], 1.0f);
}

struct core_faders *core_faders_new(uint32_t channels, uint32_t fade_frames, const float *gains) {
    if (!channels || channels > SIGRACK_MAX_CHANNELS)
        return NULL;
    struct core_faders *faders = core_take(sizeof *faders);
    if (!faders)
        return NULL;
    faders->channels = channels;
    faders->fade_frames = fade_frames ? fade_frames : 1;
    for (uint32_t c = 0; c < channels; c++) {
        faders->faders[c] = (struct fader){gains[c], gains[c], 0};
        atomic_store(&faders->wanted[c], bits_of(gains[c]));
        atomic_store(&faders->reached[c], bits_of(gains[c]));
    }
    look_if_neutral(faders);
    return faders;
}

void core_faders_free(struct core_faders *faders) { free(faders); }

void core_faders_set(struct core_faders *faders, const float *gains) {
    uint64_t version = atomic_load(&faders->version);
    atomic_store(&faders->version, version + 1);
    for (uint32_t c = 0; c < faders->channels; c++)
        atomic_store(&faders->wanted[c], bits_of(gains[c]));
    atomic_store(&faders->version, version + 2);
}

float core_faders_gain(const struct core_faders *faders, uint32_t channel) {
    return value_of(atomic_load_explicit(&faders->reached[channel], memory_order_relaxed));
}

static float gain_of(const struct core_faders *faders, const struct fader *fader) {
    float done = (float)(faders->fade_frames - fader->left) / (float)faders->fade_frames;
    return fader->left ? fader->from + (fader->to - fader->from) * done : fader->to;
}

/* Begin to move to what is wanted, unless that is being written just now: then with the next block. */
static void look_for_wishes(struct core_faders *faders) {
    uint64_t version = atomic_load_explicit(&faders->version, memory_order_acquire);
    if (version == faders->taken || version & 1)
        return;
    float wanted[SIGRACK_MAX_CHANNELS];
    for (uint32_t c = 0; c < faders->channels; c++)
        wanted[c] = value_of(atomic_load(&faders->wanted[c]));
    if (atomic_load(&faders->version) != version)
        return;
    for (uint32_t c = 0; c < faders->channels; c++) {
        struct fader *fader = &faders->faders[c];
        if (wanted[c] != fader->to)
            *fader = (struct fader){gain_of(faders, fader), wanted[c], faders->fade_frames};
    }
    faders->taken = version;
    look_if_neutral(faders);
}

/* The part of a block behind a ramp. */
static void hold(float *samples, float gain, uint32_t frames) {
    if (gain == 0.0f)
        memset(samples, 0, frames * sizeof(float));
    else if (gain != 1.0f)
        kernels_chosen()->ramp(samples, frames, gain, 0.0f);
}

static void run_one(const struct core_faders *faders, struct fader *fader, const float *in, float *out, uint32_t frames) {
    uint32_t moving = fader->left < frames ? fader->left : frames;
    memcpy(out, in, frames * sizeof(float));
    if (moving)
        kernels_chosen()->ramp(out, moving, gain_of(faders, fader), (fader->to - fader->from) / (float)faders->fade_frames);
    fader->left -= moving;
    hold(out + moving, fader->to, frames - moving);
}

void faders_run(struct core_faders *faders, struct bus *bus, uint32_t frames) {
    look_for_wishes(faders);
    if (faders->neutral)
        return;
    for (uint32_t c = 0; c < faders->channels; c++) {
        struct fader *fader = &faders->faders[c];
        if (rests_at(fader, 1.0f))
            continue;
        run_one(faders, fader, bus->now[c], bus->next[c], frames);
        bus_advance(bus, c);
        atomic_store_explicit(&faders->reached[c], bits_of(gain_of(faders, fader)), memory_order_relaxed);
    }
    look_if_neutral(faders);
}
