/* count.h - counters that one thread writes and any thread reads. */
#ifndef SIGRACK_COUNT_H
#define SIGRACK_COUNT_H

#include <stdatomic.h>
#include <stdint.h>

/* Cheaper than an atomic addition, which a single writer does not need. [the writer's thread] */
static inline void count_add(_Atomic uint64_t *counter, uint64_t amount) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount, memory_order_relaxed);
}

#endif
