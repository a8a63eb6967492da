#include "slot.h"

#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "memory.h"
#include "ticks.h"

static void put_wet(struct core_slot *slot) {
    float wet = (float)slot->wet_frames / (float)slot->setup.fade_frames;
    uint32_t bits;
    memcpy(&bits, &wet, sizeof bits);
    atomic_store_explicit(&slot->meters.wet, bits, memory_order_relaxed);
}

static int take_delay_line(struct core_slot *slot) {
    const struct core_slot_setup *setup = &slot->setup;
    if (!setup->latency_frames || setup->ratio > 1)
        return 1;
    slot->delay = core_take((size_t)setup->channels * setup->latency_frames * sizeof(float));
    slot->dry = core_take((size_t)setup->channels * setup->max_frames * sizeof(float));
    slot->dry_planes = core_take(setup->channels * sizeof *slot->dry_planes);
    if (!slot->delay || !slot->dry || !slot->dry_planes)
        return 0;
    for (uint32_t c = 0; c < setup->channels; c++)
        slot->dry_planes[c] = slot->dry + (size_t)c * setup->max_frames;
    return 1;
}

struct core_slot *core_slot_new(const struct core_slot_setup *setup) {
    struct core_slot *slot = core_take(sizeof *slot);
    if (!slot)
        return NULL;
    slot->setup = *setup;
    if (!slot->setup.ratio)
        slot->setup.ratio = 1;
    if (!take_delay_line(slot)) {
        core_slot_free(slot);
        return NULL;
    }
    if (!slot->setup.fade_frames)
        slot->setup.fade_frames = 1;
    slot->wet_frames = setup->active ? slot->setup.fade_frames : 0;
    atomic_store(&slot->active, setup->active);
    put_wet(slot);
    return slot;
}

void core_slot_free(struct core_slot *slot) {
    if (!slot)
        return;
    free(slot->delay);
    free(slot->dry);
    free(slot->dry_planes);
    free(slot);
}

int core_slot_set(struct core_slot *slot, uint32_t param, double value, uint64_t frame) {
    uint64_t written = atomic_load_explicit(&slot->events_written, memory_order_relaxed);
    if (written - atomic_load_explicit(&slot->events_taken, memory_order_acquire) == SLOT_EVENTS)
        return 0;
    slot->events[written % SLOT_EVENTS] = (struct slot_event){frame, value, param};
    atomic_store_explicit(&slot->events_written, written + 1, memory_order_release);
    return 1;
}

void core_slot_activate(struct core_slot *slot, int active) {
    atomic_store_explicit(&slot->active, active != 0, memory_order_relaxed);
}

const struct core_slot_meters *core_slot_meters(const struct core_slot *slot) { return &slot->meters; }

/* Move the changes that fall into this block into `block_events`; returns how many. */
static uint32_t due_events(struct core_slot *slot, uint64_t frame, uint32_t frames) {
    uint64_t taken = atomic_load_explicit(&slot->events_taken, memory_order_relaxed);
    uint64_t written = atomic_load_explicit(&slot->events_written, memory_order_acquire);
    uint32_t count = 0;
    for (; taken < written && count < SLOT_BLOCK_EVENTS; taken++) {
        const struct slot_event *event = &slot->events[taken % SLOT_EVENTS];
        if (event->frame >= frame + frames)
            break;
        uint32_t offset = event->frame > frame ? (uint32_t)(event->frame - frame) : 0;
        if (count && offset < slot->block_events[count - 1].offset)
            offset = slot->block_events[count - 1].offset; /* "as soon as possible" behind a later one */
        slot->block_events[count++] = (struct sigrack_event){offset, event->param, event->value};
    }
    if (count)
        atomic_store_explicit(&slot->events_taken, taken, memory_order_release);
    return count;
}

/* Pass one channel's block through the delay line: dry = the input, `latency` frames ago. */
static void delay_channel(float *line, uint32_t latency, uint32_t position, const float *in, float *dry, uint32_t frames) {
    for (uint32_t i = 0; i < frames; i++) {
        dry[i] = line[position];
        line[position] = in[i];
        position = position + 1 == latency ? 0 : position + 1;
    }
}

/* The signal that stands for the processor while it is bypassed or failing: its input, as late as its output. */
static const float *const *delayed(struct core_slot *slot, const float *const *in, uint32_t frames) {
    uint32_t latency = slot->setup.latency_frames;
    if (!latency)
        return in;
    for (uint32_t c = 0; c < slot->setup.channels; c++)
        delay_channel(slot->delay + (size_t)c * latency, latency, slot->delay_position, in[c],
                      slot->dry + (size_t)c * slot->setup.max_frames, frames);
    slot->delay_position = (slot->delay_position + frames) % latency;
    return slot->dry_planes;
}

static void add(_Atomic uint64_t *meter, uint64_t amount) { /* one writer: no read-modify-write needed */
    atomic_store_explicit(meter, atomic_load_explicit(meter, memory_order_relaxed) + amount, memory_order_relaxed);
}

static void copy_planes(const struct core_slot *slot, float *const *out, const float *const *from, uint32_t frames) {
    for (uint32_t c = 0; c < slot->setup.channels; c++)
        memcpy(out[c], from[c], frames * sizeof(float));
}

static void be_silent(const struct core_slot *slot, float *const *out, uint32_t frames) {
    for (uint32_t c = 0; c < slot->setup.channels; c++)
        memset(out[c], 0, frames * sizeof(float));
}

/* A processor that failed must not reach the next one; `dry` is NULL where the rate changes, as nothing can stand for it there. */
static void guard(struct core_slot *slot, int status, float *const *out, const float *const *dry, uint32_t frames) {
    int bad = 0;
    for (uint32_t c = 0; c < slot->setup.channels; c++)
        bad |= kernels_chosen()->nonfinite(out[c], frames);
    if (!status && !bad)
        return;
    if (dry)
        copy_planes(slot, out, dry, frames);
    else
        be_silent(slot, out, frames);
    add(status ? &slot->meters.faults : &slot->meters.nonfinite, 1);
    if (bad && slot->setup.reset)
        slot->setup.reset(slot->setup.self);
}

/* Cross-fade between `out` (wet) and `dry` towards the wanted side. A bypassed processor still runs, so that it comes back with
   the history it would have had. */
static void fade(struct core_slot *slot, float *const *out, const float *const *dry, uint32_t frames) {
    uint32_t length = slot->setup.fade_frames, from = slot->wet_frames;
    uint32_t goal = atomic_load_explicit(&slot->active, memory_order_relaxed) ? length : 0;
    if (from == goal) {
        if (!goal)
            copy_planes(slot, out, dry, frames);
        return;
    }
    uint32_t left = goal > from ? goal - from : from - goal;
    uint32_t moving = left < frames ? left : frames;
    float gain = (float)from / (float)length, step = (goal ? 1.0f : -1.0f) / (float)length;
    for (uint32_t c = 0; c < slot->setup.channels; c++) {
        kernels_chosen()->crossfade(out[c], dry[c], moving, gain, step);
        if (!goal)
            memcpy(out[c] + moving, dry[c] + moving, (frames - moving) * sizeof(float));
    }
    slot->wet_frames = goal ? from + moving : from - moving;
    put_wet(slot);
}

uint32_t slot_run(struct core_slot *slot, const float *const *in, float *const *out, uint32_t frames, uint64_t frame) {
    uint64_t begun = core_ticks();
    struct sigrack_block block = {
        .size = sizeof block,
        .frames = frames,
        .frame = frame,
        .in = in,
        .out = out,
        .channels = slot->setup.channels,
        .event_count = due_events(slot, frame, frames),
        .events = slot->block_events,
    };
    int status = slot->setup.process(slot->setup.self, &block);
    uint32_t made = frames * slot->setup.ratio;
    const float *const *dry = slot->setup.ratio > 1 ? NULL : delayed(slot, in, frames);
    guard(slot, status, out, dry, made);
    if (dry)
        fade(slot, out, dry, frames);
    uint64_t ticks = core_ticks() - begun;
    add(&slot->meters.blocks, 1);
    add(&slot->meters.ticks, ticks);
    if (ticks > atomic_load_explicit(&slot->meters.ticks_longest, memory_order_relaxed))
        atomic_store_explicit(&slot->meters.ticks_longest, ticks, memory_order_relaxed);
    return made;
}
