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

static int take_delay_lines(struct core_slot *slot, uint32_t others) {
    const struct core_slot_setup *setup = &slot->setup;
    if (!setup->latency_frames || setup->ratio > 1)
        return 1;
    slot->dry = core_take((size_t)setup->outputs * setup->max_frames * sizeof(float));
    for (uint32_t c = 0; slot->dry && c < setup->outputs; c++)
        slot->dry_planes[c] = slot->dry + (size_t)c * setup->max_frames;
    return slot->dry && delay_open(&slot->delay, setup->outputs, setup->latency_frames) &&
           delay_open(&slot->others, others, setup->latency_frames);
}

/* Whether `map` holds `count` different channels of the bus; each is noted in `taken`, a bit mask. */
static int fits(const uint8_t *map, uint32_t count, uint32_t bus, uint32_t *taken) {
    *taken = 0;
    if (!count || count > bus || bus > SIGRACK_MAX_CHANNELS)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        if (map[i] >= bus || *taken >> map[i] & 1)
            return 0;
        *taken |= 1u << map[i];
    }
    return 1;
}

/* Find the channels that the slot does not write. Returns how many; -1 when its place is none. */
static int find_others(struct core_slot *slot) {
    const struct core_slot_setup *setup = &slot->setup;
    uint32_t heard, written;
    int others = 0;
    if (!setup->bus)
        return 0;
    if (setup->ratio > 1 || !fits(setup->in, setup->channels, setup->bus, &heard) ||
        !fits(setup->out, setup->outputs, setup->bus, &written))
        return -1;
    for (uint32_t c = 0; c < setup->bus; c++)
        if (!(written >> c & 1))
            slot->other[others++] = (uint8_t)c;
    return others;
}

struct core_slot *core_slot_new(const struct core_slot_setup *setup) {
    struct core_slot *slot = core_take(sizeof *slot);
    if (!slot)
        return NULL;
    slot->setup = *setup;
    if (!slot->setup.ratio)
        slot->setup.ratio = 1;
    if (!slot->setup.bus)
        slot->setup.outputs = setup->channels;
    int others = find_others(slot);
    if (others < 0 || !take_delay_lines(slot, (uint32_t)others)) {
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
    delay_close(&slot->delay);
    delay_close(&slot->others);
    free(slot->dry);
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

/* The signal that stands for the processor while it is bypassed or failing: what its outputs held, as late as its output. */
static const float *const *delayed(struct core_slot *slot, const float *const *held, uint32_t frames) {
    if (!slot->dry)
        return held;
    delay_run(&slot->delay, held, slot->dry_planes, frames);
    return (const float *const *)slot->dry_planes;
}

static void add(_Atomic uint64_t *meter, uint64_t amount) { /* one writer: no read-modify-write needed */
    atomic_store_explicit(meter, atomic_load_explicit(meter, memory_order_relaxed) + amount, memory_order_relaxed);
}

static void copy_planes(const struct core_slot *slot, float *const *out, const float *const *from, uint32_t frames) {
    for (uint32_t c = 0; c < slot->setup.outputs; c++)
        memcpy(out[c], from[c], frames * sizeof(float));
}

static void be_silent(const struct core_slot *slot, float *const *out, uint32_t frames) {
    for (uint32_t c = 0; c < slot->setup.outputs; c++)
        memset(out[c], 0, frames * sizeof(float));
}

/* A processor that failed must not reach the next one; `dry` is NULL where the rate changes, as nothing can stand for it there. */
static void guard(struct core_slot *slot, int status, float *const *out, const float *const *dry, uint32_t frames) {
    int bad = 0;
    for (uint32_t c = 0; c < slot->setup.outputs; c++)
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
    for (uint32_t c = 0; c < slot->setup.outputs; c++) {
        kernels_chosen()->crossfade(out[c], dry[c], moving, gain, step);
        if (!goal)
            memcpy(out[c] + moving, dry[c] + moving, (frames - moving) * sizeof(float));
    }
    slot->wet_frames = goal ? from + moving : from - moving;
    put_wet(slot);
}

uint32_t slot_run(struct core_slot *slot, const float *const *in, const float *const *held, float *const *out, uint32_t frames,
                  uint64_t frame) {
    uint64_t begun = core_ticks();
    struct sigrack_block block = {
        .size = sizeof block,
        .frames = frames,
        .frame = frame,
        .in = in,
        .out = out,
        .channels = slot->setup.channels > slot->setup.outputs ? slot->setup.channels : slot->setup.outputs,
        .event_count = due_events(slot, frame, frames),
        .events = slot->block_events,
    };
    int status = slot->setup.process(slot->setup.self, &block);
    uint32_t made = frames * slot->setup.ratio;
    const float *const *dry = slot->setup.ratio > 1 ? NULL : delayed(slot, held, frames);
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
