/* faders.h - a gain for each channel of the bus, which moves in straight ramps: mute, solo and level. */
#ifndef SIGRACK_FADERS_H
#define SIGRACK_FADERS_H

#include <stdint.h>

#include "bus.h"
#include "core.h"

struct core_faders;

/* Faders for `channels` channels that begin at `gains`; a change takes `fade_frames`. NULL when out of memory or range.
   [control] */
CORE_API struct core_faders *core_faders_new(uint32_t channels, uint32_t fade_frames, const float *gains);
CORE_API void core_faders_free(struct core_faders *faders); /* accepts NULL [control] */

/* Let all of them move to `gains`, each from where it is, beginning with the same frame. [main] */
CORE_API void core_faders_set(struct core_faders *faders, const float *gains);
/* The gain that a channel had at the end of the last block. [any] */
CORE_API float core_faders_gain(const struct core_faders *faders, uint32_t channel);

/* Channels at gain 1 are left where they are, without a copy. [engine] */
void faders_run(struct core_faders *faders, struct bus *bus, uint32_t frames);

#endif
