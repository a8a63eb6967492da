#include "bell.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "memory.h"

struct core_bell *core_bell_new(void) {
    struct core_bell *bell = core_take(sizeof *bell);
    if (!bell)
        return NULL;
    bell->descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (bell->descriptor < 0) {
        free(bell);
        return NULL;
    }
    return bell;
}

void core_bell_free(struct core_bell *bell) {
    if (!bell)
        return;
    close(bell->descriptor);
    free(bell);
}

int core_bell_descriptor(const struct core_bell *bell) { return bell->descriptor; }

/* Both sides exchange: the two operations on `armed` are ordered, so either the ringer sees the arming, or the listener, who
   came second, sees all that the ringer published. */
void core_bell_arm(struct core_bell *bell) {
    uint64_t count;
    if (read(bell->descriptor, &count, sizeof count) < 0) {
        /* Nothing had been written: fine. */
    }
    atomic_exchange(&bell->armed, 1);
}

void core_bell_ring(struct core_bell *bell) {
    if (!atomic_exchange(&bell->armed, 0))
        return;
    uint64_t one = 1;
    if (write(bell->descriptor, &one, sizeof one) < 0) {
        /* The counter is full: the listener is being woken anyway. */
    }
}
