#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "child.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "count.h"
#include "fpu.h"
#include "ticks.h"

static uint64_t span_of(uint64_t size) { return size + 2 * EXCHANGE_PAGE; }

void *core_map_guarded(int descriptor, uint64_t size, int writable) {
    char *whole = mmap(NULL, span_of(size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED)
        return NULL;
    int protection = PROT_READ | (writable ? PROT_WRITE : 0);
    void *memory = mmap(whole + EXCHANGE_PAGE, size, protection, MAP_SHARED | MAP_FIXED | MAP_POPULATE, descriptor, 0);
    if (memory != MAP_FAILED)
        return memory;
    int why = errno;
    munmap(whole, span_of(size));
    errno = why;
    return NULL;
}

void core_unmap_guarded(void *memory, uint64_t size) {
    if (memory)
        munmap((char *)memory - EXCHANGE_PAGE, span_of(size));
}

static void enter(struct core_exchange *exchange, enum exchange_phase phase) {
    atomic_store_explicit(&exchange->child->phase, phase, memory_order_relaxed);
}

static int closing(const struct core_exchange *exchange) { return atomic_load(&exchange->host->closing) != 0; }

static int has_quantum(const struct core_exchange *exchange) {
    uint64_t done = atomic_load_explicit(&exchange->child->done, memory_order_relaxed);
    return atomic_load(&exchange->host->written) >= done + exchange->quantum;
}

/* Returns 0 when the eventfd fails. */
static int sleep_once(const struct core_exchange *exchange) {
    struct pollfd wait = {exchange->wake, POLLIN, 0};
    uint64_t count;
    if (poll(&wait, 1, -1) < 0)
        return errno == EINTR;
    if (wait.revents & (POLLERR | POLLHUP | POLLNVAL))
        return 0;
    return read(exchange->wake, &count, sizeof count) >= 0 || errno == EAGAIN || errno == EINTR;
}

int64_t core_child_wait(struct core_exchange *exchange) {
    enter(exchange, EXCHANGE_RUNNING);
    while (!has_quantum(exchange)) {
        if (closing(exchange)) {
            enter(exchange, EXCHANGE_ENDED);
            return -1;
        }
        atomic_store(&exchange->child->armed, 1);
        if (has_quantum(exchange) || closing(exchange)) { /* seen after the arming: nobody may have rung */
            atomic_store(&exchange->child->armed, 0);
            continue;
        }
        if (!sleep_once(exchange))
            return -2;
    }
    enter(exchange, EXCHANGE_PROCESSING);
    fpu_set(FPU_CLEAN); /* whatever the plugin has left there */
    return (int64_t)(atomic_load_explicit(&exchange->child->done, memory_order_relaxed) % exchange->capacity);
}

uint64_t core_child_frame(const struct core_exchange *exchange) {
    return atomic_load_explicit(&exchange->host->began, memory_order_relaxed) +
           atomic_load_explicit(&exchange->child->done, memory_order_relaxed);
}

static void refuse(struct core_exchange *exchange, uint64_t at) {
    uint64_t ratio = exchange->ratio, ring = exchange->capacity * ratio;
    for (uint32_t c = 0; c < exchange->outputs; c++)
        for (uint64_t i = 0; i < exchange->quantum * ratio; i++)
            exchange->out[c * ring + at * ratio + i] = NAN;
    count_add(&exchange->child->refused, 1);
}

void core_child_done(struct core_exchange *exchange, int refused, uint64_t ticks) {
    uint64_t done = atomic_load_explicit(&exchange->child->done, memory_order_relaxed);
    if (refused)
        refuse(exchange, done % exchange->capacity);
    count_add(&exchange->child->ticks, ticks);
    atomic_store_explicit(&exchange->child->done, done + exchange->quantum, memory_order_release);
}

uint32_t core_child_events(struct core_exchange *exchange, struct sigrack_event *events) {
    uint64_t frame = atomic_load_explicit(&exchange->child->done, memory_order_relaxed);
    uint64_t taken = atomic_load_explicit(&exchange->child->events_taken, memory_order_relaxed);
    uint64_t written = atomic_load_explicit(&exchange->host->events_written, memory_order_acquire);
    uint32_t count = 0, offset = 0;
    for (; taken < written && count < SLOT_BLOCK_EVENTS; taken++) {
        const struct exchange_event *event = &exchange->host->events[taken % EXCHANGE_EVENTS];
        if (event->frame >= frame + exchange->quantum)
            break;
        uint32_t own = event->frame > frame ? (uint32_t)(event->frame - frame) : 0;
        offset = own > offset ? own : offset; /* by rising offset: an event never overtakes one that was asked for before */
        events[count++] = (struct sigrack_event){offset, event->param, event->value};
    }
    atomic_store_explicit(&exchange->child->events_taken, taken, memory_order_release);
    return count;
}

/* Returns what the processor does. */
static int process(struct core_exchange *exchange, const struct core_child_setup *setup, uint32_t at) {
    const float *in[SIGRACK_MAX_CHANNELS];
    float *out[SIGRACK_MAX_CHANNELS];
    struct sigrack_event events[SLOT_BLOCK_EVENTS];
    for (uint32_t c = 0; c < exchange->channels; c++)
        in[c] = exchange->in + (size_t)c * exchange->capacity + at;
    for (uint32_t c = 0; c < exchange->outputs; c++)
        out[c] = exchange->out + ((size_t)c * exchange->capacity + at) * exchange->ratio;
    struct sigrack_block block = {.size = sizeof block, .frames = exchange->quantum, .frame = core_child_frame(exchange), .in = in, .out = out};
    block.channels = exchange->channels;
    block.event_count = core_child_events(exchange, events);
    block.events = events;
    return setup->process(setup->self, &block);
}

int core_child_run(struct core_exchange *exchange, const struct core_child_setup *setup) {
    for (;;) {
        int64_t at = core_child_wait(exchange);
        if (at < 0)
            return at == -1 ? 0 : -1;
        uint64_t begun = core_ticks();
        int refused = process(exchange, setup, (uint32_t)at);
        core_child_done(exchange, refused, core_ticks() - begun);
    }
}
