/* bell.h - wakes the main loop: many threads ring, one listens; silent while nobody waits. */
#ifndef SIGRACK_BELL_H
#define SIGRACK_BELL_H

#include <stdatomic.h>
#include <stdint.h>

#include "core.h"

struct core_bell {
    _Atomic uint32_t armed;
    int descriptor;
};

/* Returns NULL when out of memory or descriptors. [control] */
CORE_API struct core_bell *core_bell_new(void);
CORE_API void core_bell_free(struct core_bell *bell);

/* The eventfd to wait for. [any] */
CORE_API int core_bell_descriptor(const struct core_bell *bell);

/* Ask to be woken by the next ring. What was published before a ring that came first is visible on return: look once more
   before waiting. [listener] */
CORE_API void core_bell_arm(struct core_bell *bell);

/* Wake the listener if it is armed: at most one system call per arming. Call after publishing. [any, wait-free] */
CORE_API void core_bell_ring(struct core_bell *bell);

#endif
