#include "exchange.h"

#include <unistd.h>

#include "wrap.h"

#define MOST_QUANTUM 65536u
#define MOST_QUANTA 1024u
#define MOST_RATIO 32u

static uint64_t pages(uint64_t size) { return (size + EXCHANGE_PAGE - 1) / EXCHANGE_PAGE * EXCHANGE_PAGE; }

static uint64_t ring_bytes(const struct core_exchange_shape *shape, uint32_t planes) {
    return pages((uint64_t)planes * shape->quantum * shape->quanta * sizeof(float));
}

static int in_range(const struct core_exchange_shape *shape) {
    return shape->channels && shape->channels <= SIGRACK_MAX_CHANNELS && shape->outputs && shape->outputs <= SIGRACK_MAX_CHANNELS &&
           shape->ratio && shape->ratio <= MOST_RATIO && shape->quantum && shape->quantum <= MOST_QUANTUM && shape->quanta &&
           shape->quanta <= MOST_QUANTA;
}

struct core_exchange_sizes core_exchange_sizes(const struct core_exchange_shape *shape) {
    struct core_exchange_sizes sizes = {0, 0};
    if (in_range(shape)) {
        sizes.host = pages(sizeof(struct exchange_host)) + ring_bytes(shape, shape->channels);
        sizes.child = pages(sizeof(struct exchange_child)) + ring_bytes(shape, shape->outputs * shape->ratio);
    }
    return sizes;
}

int core_exchange_open(struct core_exchange *exchange, void *host, void *child, const struct core_exchange_shape *shape, int wake) {
    if (!in_range(shape) || !host || !child)
        return 0;
    *exchange = (struct core_exchange){
        .host = host,
        .child = child,
        .in = (float *)((char *)host + pages(sizeof(struct exchange_host))),
        .out = (float *)((char *)child + pages(sizeof(struct exchange_child))),
        .channels = shape->channels,
        .outputs = shape->outputs,
        .ratio = shape->ratio,
        .quantum = shape->quantum,
        .capacity = shape->quantum * shape->quanta,
        .wake = wake,
    };
    return 1;
}

/* The child sets `armed` and looks once more at `written`; this writes `written` and looks at `armed`. Sequentially consistent, so
   one of the two sees the other. */
static void wake(struct core_exchange *exchange) {
    uint64_t one = 1;
    if (exchange->wake < 0 || !atomic_exchange(&exchange->child->armed, 0))
        return;
    if (write(exchange->wake, &one, sizeof one) < 0) {
        /* The counter is full: it is being woken anyway. */
    }
}

void core_exchange_close(struct core_exchange *exchange) {
    atomic_store(&exchange->host->closing, 1);
    atomic_store(&exchange->child->armed, 1); /* whatever it says: it must hear this */
    wake(exchange);
}

void exchange_write(struct core_exchange *exchange, uint64_t at, const float *const *in, uint32_t frames) {
    for (uint32_t c = 0; c < exchange->channels; c++)
        wrap_in(exchange->in + (size_t)c * exchange->capacity, exchange->capacity, at, in[c], frames);
    atomic_store(&exchange->host->written, at + frames);
    if (at / exchange->quantum != (at + frames) / exchange->quantum)
        wake(exchange);
}

int exchange_set(struct core_exchange *exchange, uint64_t frame, uint32_t param, double value) {
    struct exchange_host *host = exchange->host;
    uint64_t written = atomic_load_explicit(&host->events_written, memory_order_relaxed);
    if (written - atomic_load_explicit(&exchange->child->events_taken, memory_order_acquire) >= EXCHANGE_EVENTS)
        return 0;
    host->events[written % EXCHANGE_EVENTS] = (struct exchange_event){frame, value, param};
    atomic_store_explicit(&host->events_written, written + 1, memory_order_release);
    return 1;
}

void exchange_enter(struct core_exchange *exchange, uint32_t member) {
    atomic_store_explicit(&exchange->child->member, member, memory_order_relaxed);
}

void core_exchange_lose(struct core_exchange *exchange) { atomic_store(&exchange->lost, 1); }

void core_exchange_look(const struct core_exchange *exchange, struct core_exchange_progress *progress) {
    progress->written = atomic_load(&exchange->host->written);
    progress->done = atomic_load(&exchange->child->done);
    progress->ticks = atomic_load(&exchange->child->ticks);
    progress->refused = atomic_load(&exchange->child->refused);
    progress->phase = atomic_load(&exchange->child->phase);
    progress->member = atomic_load(&exchange->child->member);
}
