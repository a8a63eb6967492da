/* bus.h - the channels of the bus in the course of one block: where each one's samples are, and where its next ones go. */
#ifndef SIGRACK_BUS_H
#define SIGRACK_BUS_H

#include <stdint.h>

#include "core.h"
#include "sigrack.h"
#include "slot.h"
#include "tap.h"

/* What nobody writes is never copied: a channel's samples stay where they are until a step gives it others. */
struct bus {
    uint32_t channels;
    const float *now[SIGRACK_MAX_CHANNELS]; /* what each channel holds */
    float *next[SIGRACK_MAX_CHANNELS];      /* where its next samples go, */
    float *spare[SIGRACK_MAX_CHANNELS];     /* and those after them: one of both is `now`, once anything was written */
};

/* What has been written to next[channel] is what the channel holds. [engine] */
static inline void bus_advance(struct bus *bus, uint32_t channel) {
    float *written = bus->next[channel];
    bus->next[channel] = bus->spare[channel];
    bus->spare[channel] = written;
    bus->now[channel] = written;
}

/* No slot and no tap ever sees NaN or infinity from outside: such samples of the first `inputs` channels become silence. Returns
   whether there were any. [engine] */
int bus_clean(struct bus *bus, uint32_t inputs, uint32_t frames);
/* Run a slot: on its channels; all others become as late as it is. Returns the frames that the bus then holds. [engine] */
uint32_t bus_run_slot(struct bus *bus, struct core_slot *slot, uint32_t frames, uint64_t frame);
/* Copy a tap's channels out. [engine] */
void bus_run_tap(const struct bus *bus, struct core_tap *tap, uint32_t frames, uint64_t frame);

#endif
