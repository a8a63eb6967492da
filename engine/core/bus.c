#include "bus.h"

#include <math.h>

#include "kernels.h"

int bus_clean(struct bus *bus, uint32_t inputs, uint32_t frames) {
    int any = 0;
    for (uint32_t c = 0; c < inputs; c++) {
        const float *in = bus->now[c];
        if (!kernels_chosen()->nonfinite(in, frames))
            continue;
        for (uint32_t i = 0; i < frames; i++)
            bus->next[c][i] = isfinite(in[i]) ? in[i] : 0.0f;
        bus_advance(bus, c);
        any = 1;
    }
    return any;
}

/* A slot that hears and writes all channels, in their order. */
static uint32_t run_whole(struct bus *bus, struct core_slot *slot, uint32_t frames, uint64_t frame) {
    frames = slot_run(slot, bus->now, bus->now, bus->next, frames, frame);
    for (uint32_t c = 0; c < bus->channels; c++)
        bus_advance(bus, c);
    return frames;
}

/* The channels that a slot does not write, through its delay lines. */
static void delay_others(struct bus *bus, struct core_slot *slot, uint32_t frames) {
    const float *in[SIGRACK_MAX_CHANNELS];
    float *out[SIGRACK_MAX_CHANNELS];
    for (uint32_t i = 0; i < slot->others.channels; i++) {
        in[i] = bus->now[slot->other[i]];
        out[i] = bus->next[slot->other[i]];
    }
    delay_run(&slot->others, in, out, frames);
    for (uint32_t i = 0; i < slot->others.channels; i++)
        bus_advance(bus, slot->other[i]);
}

uint32_t bus_run_slot(struct bus *bus, struct core_slot *slot, uint32_t frames, uint64_t frame) {
    const struct core_slot_setup *setup = &slot->setup;
    if (!setup->bus)
        return run_whole(bus, slot, frames, frame);
    const float *in[SIGRACK_MAX_CHANNELS], *held[SIGRACK_MAX_CHANNELS];
    float *out[SIGRACK_MAX_CHANNELS];
    for (uint32_t i = 0; i < setup->channels; i++)
        in[i] = bus->now[setup->in[i]];
    for (uint32_t o = 0; o < setup->outputs; o++) {
        held[o] = bus->now[setup->out[o]];
        out[o] = bus->next[setup->out[o]];
    }
    slot_run(slot, in, held, out, frames, frame);
    for (uint32_t o = 0; o < setup->outputs; o++)
        bus_advance(bus, setup->out[o]);
    if (slot->others.lines)
        delay_others(bus, slot, frames);
    return frames;
}

void bus_run_tap(const struct bus *bus, struct core_tap *tap, uint32_t frames, uint64_t frame) {
    const float *planes[SIGRACK_MAX_CHANNELS];
    if (!tap->mapped) {
        core_tap_write(tap, bus->now, frames, frame);
        return;
    }
    for (uint32_t i = 0; i < tap->ring->channels; i++)
        planes[i] = bus->now[tap->in[i]];
    core_tap_write(tap, planes, frames, frame);
}
