/* child.h - the audio loop of a child's process: a processor between the two rings of an exchange. */
#ifndef SIGRACK_CHILD_H
#define SIGRACK_CHILD_H

#include "exchange.h"
#include "slot.h"

/* Map `size` bytes of `descriptor` between two pages that nobody can touch: what runs over either end stops there. Returns NULL on
   failure, with errno. [control] */
CORE_API void *core_map_guarded(int descriptor, uint64_t size, int writable);
CORE_API void core_unmap_guarded(void *memory, uint64_t size);

struct core_child_setup {
    core_process process;
    void *self;
};

/* Process quanta until the host closes the exchange. Sleeps on its eventfd when there is nothing to do; what a processor refuses
   becomes NaN, which the host covers; it gives as many frames and channels as it takes. Returns 0; -1 if the eventfd fails. [the child's audio thread] */
CORE_API int core_child_run(struct core_exchange *exchange, const struct core_child_setup *setup);

/* The same by hand, for processors in Python: wait for a quantum. Returns its place in the rings; -1: the host has closed, -2: the
   eventfd fails. [the child's audio thread] */
CORE_API int64_t core_child_wait(struct core_exchange *exchange);
/* Engine frame of the first frame of the quantum that was waited for. [the child's audio thread] */
CORE_API uint64_t core_child_frame(const struct core_exchange *exchange);
/* Take the parameter changes of the quantum that was waited for into `events`, at most 64; returns how many. [the child's audio thread] */
CORE_API uint32_t core_child_events(struct core_exchange *exchange, struct sigrack_event *events);
/* The quantum that was waited for is in the output ring; `refused`: it is not, and becomes NaN. `ticks`: what it took.
   [the child's audio thread] */
CORE_API void core_child_done(struct core_exchange *exchange, int refused, uint64_t ticks);

#endif
