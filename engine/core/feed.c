#include "feed.h"

/* Returns how many records of one span the engine has got. */
static uint32_t feed_span(core_on_data on_data, void *handle, const struct core_span *span, const _Atomic uint32_t *stop) {
    const char *record = span->records;
    uint32_t fed = 0;
    for (; fed < span->count && !atomic_load_explicit(stop, memory_order_relaxed); fed++, record += span->stride)
        on_data(handle, span->type, record);
    return fed;
}

uint64_t core_feed(core_on_data on_data, void *handle, const struct core_span *spans, uint32_t count,
                   const _Atomic uint32_t *stop) {
    uint64_t fed = 0;
    for (uint32_t i = 0; i < count; i++)
        fed += feed_span(on_data, handle, &spans[i], stop);
    return fed;
}
