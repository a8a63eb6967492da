/* feed.h - records on their way into a signal engine. */
#ifndef SIGRACK_FEED_H
#define SIGRACK_FEED_H

#include <stdatomic.h>
#include <stdint.h>

#include "core.h"

typedef void (*core_on_data)(void *handle, int type, const void *data);

/* Records of one kind, `stride` bytes apart. */
struct core_span {
    const void *records;
    uint32_t count, stride;
    int32_t type; /* SIGNAL_... */
    uint32_t reserved;
};

/* Hand the records of `count` spans to an engine one by one, until `stop` becomes true. Returns how many it has got. [feeder] */
CORE_API uint64_t core_feed(core_on_data on_data, void *handle, const struct core_span *spans, uint32_t count,
                            const _Atomic uint32_t *stop);

#endif
