/* exchange.h - what the host and a child's process share during one life of the child: a ring of frames each way. All counters are
   of frames that go in.

   The rings count frames from the beginning of that life, and hold a whole number of quanta, so that a quantum never wraps: the child
   processes quantum k from its place in one ring into the same place of the other. Each side writes its own page and its own ring, and
   neither believes the other: the host keeps its own counters and takes what the child says as a claim. */
#ifndef SIGRACK_EXCHANGE_H
#define SIGRACK_EXCHANGE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core.h"
#include "sigrack.h"

#define EXCHANGE_EVENTS 1024u /* parameter changes that may wait; a power of two */
#define EXCHANGE_PAGE 4096u  /* each part begins on a page of its own */

/* A change that the child's processor gets with the quantum that holds `frame`. */
struct exchange_event {
    uint64_t frame; /* of this life */
    double value;
    uint32_t param;
};

/* Written by the host; the child can only read it, and the frames behind it, unless it is trusted. */
struct exchange_host {
    _Atomic uint64_t written; /* frames in the ring, ever */
    _Atomic uint64_t began;   /* engine frame of the first of them */
    _Atomic uint64_t events_written;
    _Atomic uint32_t closing; /* the child is to end */
    struct exchange_event events[EXCHANGE_EVENTS];
};

enum exchange_phase { EXCHANGE_LOADING, EXCHANGE_RUNNING, EXCHANGE_PROCESSING, EXCHANGE_ENDED };

/* Written by the child. */
struct exchange_child {
    alignas(64) _Atomic uint64_t done; /* frames whose output is in the ring, ever */
    _Atomic uint64_t events_taken;
    _Atomic uint32_t armed; /* it sleeps: who writes the next frames wakes it */
    _Atomic uint32_t phase; /* enum exchange_phase: where it was, if it dies */
    _Atomic uint64_t ticks; /* spent in the processor */
    _Atomic uint64_t refused; /* quanta that the processor did not make: they hold NaN */
    _Atomic uint32_t member;  /* of several processors, the one that is at work */
};

/* Sizes of the two parts, in bytes. */
struct core_exchange_sizes {
    uint64_t host, child;
};

/* Where everything is, in one process. */
struct core_exchange {
    struct exchange_host *host;
    struct exchange_child *child;
    float *in;  /* [channels][capacity] */
    float *out; /* [outputs][capacity * ratio] */
    uint32_t channels, outputs, ratio;
    uint32_t quantum, capacity; /* in frames that go in */
    int wake; /* an eventfd: rung for an armed child; -1: nobody sleeps */
    _Atomic uint32_t lost; /* the host's: the child is gone, nobody is to wait for it */
};

struct core_exchange_progress {
    uint64_t written, done; /* frames */
    uint64_t ticks;         /* spent in the processor */
    uint64_t refused;       /* quanta */
    uint32_t phase, member;
};

/* What both processes must agree on: 1 to 32 channels each way, 1 to 32 frames out for each in, a quantum of 1 to 65,536 frames that
   go in, rings of 1 to 1024 quanta. */
struct core_exchange_shape {
    uint32_t channels, outputs, ratio, quantum, quanta;
};

/* What the parts take; 0 when out of range. [any] */
CORE_API struct core_exchange_sizes core_exchange_sizes(const struct core_exchange_shape *shape);
/* Lay an exchange over two mapped parts, which must be zeroed before the first process does. Returns 0 when out of range. [control] */
CORE_API int core_exchange_open(struct core_exchange *exchange, void *host, void *child, const struct core_exchange_shape *shape, int wake);

/* Host: let the child end when it has processed what it can. [control] */
CORE_API void core_exchange_close(struct core_exchange *exchange);

/* Host: append frames, and wake the child if it sleeps and has a whole quantum to do. The caller has seen that there is room. [engine] */
void exchange_write(struct core_exchange *exchange, uint64_t at, const float *const *in, uint32_t frames);
/* Host: queue a parameter change for frame `frame` of this life. Returns 0 when too many wait. [engine] */
int exchange_set(struct core_exchange *exchange, uint64_t frame, uint32_t param, double value);
/* Child: note which of several processors is at work. [the child's audio thread] */
void exchange_enter(struct core_exchange *exchange, uint32_t member);
/* Host: the child is gone: an engine that would wait for it must not. [any] */
CORE_API void core_exchange_lose(struct core_exchange *exchange);
/* Host: what the child claims of itself. [any] */
CORE_API void core_exchange_look(const struct core_exchange *exchange, struct core_exchange_progress *progress);

#endif
