/* slot.h - one processor in the rack: parameters, bypass, guard, meters. Outlives the run lists it stands in. */
#ifndef SIGRACK_SLOT_H
#define SIGRACK_SLOT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "core.h"
#include "delay.h"
#include "sigrack.h"

#define SLOT_EVENTS 1024u     /* waiting parameter changes, in a shared lane those of all members; a power of two */
#define SLOT_BLOCK_EVENTS 64u /* of those, handed over within one block */

typedef int (*core_process)(void *self, const struct sigrack_block *block);
typedef void (*core_reset)(void *self);

/* What `core_slot_new` needs to know. */
struct core_slot_setup {
    core_process process;
    core_reset reset; /* or NULL */
    void *self;
    uint32_t channels, max_frames; /* of what comes in */
    uint32_t ratio;          /* frames that go out for each that comes in; above 1 there is no bypass. 0: 1 */
    uint32_t latency_frames; /* of the processor: its bypass, and all channels that it does not write, are delayed as much */
    uint32_t fade_frames;    /* length of the cross-fade to and from bypass */
    uint32_t active;         /* 0: begins bypassed */
    /* Its place on the bus. `bus` 0: it hears and writes all channels, in their order, and the rest is not looked at. Else the bus
       has so many, the slot hears those in `in` and writes those in `out`, none twice; the rate must not change. */
    uint32_t bus, outputs;
    uint8_t in[SIGRACK_MAX_CHANNELS], out[SIGRACK_MAX_CHANNELS];
};

/* Written by the engine, read by anyone. */
struct core_slot_meters {
    _Atomic uint64_t blocks;
    _Atomic uint64_t ticks;         /* spent in total */
    _Atomic uint64_t ticks_longest; /* in one block */
    _Atomic uint64_t nonfinite;     /* blocks whose output held NaN or infinity: the dry signal was played, the plugin reset */
    _Atomic uint64_t faults;        /* blocks that the processor refused: the dry signal was played */
    _Atomic uint32_t wet;           /* bits of the float: 0 bypassed .. 1 active */
};

struct slot_event {
    uint64_t frame;
    double value;
    uint32_t param;
};

struct core_slot {
    struct core_slot_setup setup;
    struct core_slot_meters meters;
    /* Parameter changes: one writer (main), one reader (engine). */
    alignas(64) _Atomic uint64_t events_written;
    alignas(64) _Atomic uint64_t events_taken;
    struct slot_event events[SLOT_EVENTS];
    struct sigrack_event block_events[SLOT_BLOCK_EVENTS];
    /* Bypass. */
    _Atomic uint32_t active;
    uint32_t wet_frames; /* 0: bypassed, `setup.fade_frames`: active */
    /* What its output channels held before it, delayed: the dry signal, if there is a latency. */
    struct core_delay delay;
    float *dry;
    float *dry_planes[SIGRACK_MAX_CHANNELS];
    /* The channels of the bus that it does not write. Their delay lines are its own, for it outlives the run lists. */
    uint8_t other[SIGRACK_MAX_CHANNELS];
    struct core_delay others;
};

/* `setup->self` is borrowed. NULL when out of memory or range. [control] */
CORE_API struct core_slot *core_slot_new(const struct core_slot_setup *setup);
CORE_API void core_slot_free(struct core_slot *slot);

/* Ask for a parameter value from `frame` on (0: as soon as possible). Changes keep their order: one waits for those asked for before. Returns 0 when too
   many changes wait. [main] */
CORE_API int core_slot_set(struct core_slot *slot, uint32_t param, double value, uint64_t frame);
/* Cross-fade to the processor (1) or to the dry signal (0): what its output channels held before it. [main] */
CORE_API void core_slot_activate(struct core_slot *slot, int active);
CORE_API const struct core_slot_meters *core_slot_meters(const struct core_slot *slot); /* [any] */

/* Run one block, whose first frame is number `frame` at the rate that comes in: from `channels` planes to `outputs` planes, which
   overlap none of the others; `held` is what the output channels hold. Returns the frames that are in `out`. [engine] */
uint32_t slot_run(struct core_slot *slot, const float *const *in, const float *const *held, float *const *out, uint32_t frames,
                  uint64_t frame);

#endif
