#define _GNU_SOURCE
#include "clock.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "count.h"
#include "crash.h"
#include "memory.h"
#include "ticks.h"

#define NS_PER_S 1000000000ll
#define NS_PER_MS 1000000ll
#define CATCH_UP_PERIODS 8

struct core_clock {
    struct core_clock_setup setup;
    pthread_t thread;
    int started;
    float *buffers; /* [inputs][frames], [outputs][frames * ratio] */
    _Atomic int stop, running, fifo;
    /* Written by the engine thread. */
    _Atomic uint64_t blocks, late, resyncs;
    _Atomic uint64_t lateness[CLOCK_LATENESS_BINS];
    _Atomic int64_t latest_ns;
};

static int fits(const struct core_clock_setup *setup) {
    const struct core_engine *engine = setup->engine;
    return setup->rate_hz && setup->frames && setup->frames <= engine->max_frames &&
           (!setup->source || core_source_fits(setup->source, engine->inputs, setup->frames)) &&
           (!setup->sink || core_sink_fits(setup->sink, engine->outputs, setup->frames * engine->ratio));
}

struct core_clock *core_clock_new(const struct core_clock_setup *setup) {
    if (!fits(setup))
        return NULL;
    struct core_clock *clock = core_take(sizeof *clock);
    const struct core_engine *engine = setup->engine;
    float *buffers = core_take(((size_t)engine->inputs + (size_t)engine->outputs * engine->ratio) * setup->frames * sizeof(float));
    if (!clock || !buffers) {
        free(buffers);
        free(clock);
        return NULL;
    }
    clock->setup = *setup;
    clock->buffers = buffers;
    return clock;
}

static int bin_of(int64_t lateness_ns) {
    int bin = 0;
    for (int64_t us = lateness_ns / 1000; us > 0 && bin < CLOCK_LATENESS_BINS - 1; us >>= 1)
        bin++;
    return bin;
}

static void count_lateness(struct core_clock *clock, int64_t lateness_ns, int64_t period_ns) {
    count_add(&clock->lateness[bin_of(lateness_ns)], 1);
    if (lateness_ns > period_ns)
        count_add(&clock->late, 1);
    if (lateness_ns > atomic_load_explicit(&clock->latest_ns, memory_order_relaxed))
        atomic_store_explicit(&clock->latest_ns, lateness_ns, memory_order_relaxed);
}

static struct timespec timespec_of(int64_t ns) {
    return (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

/* Start time of period n without rounding drift. */
static int64_t period_start(const struct core_clock *clock, int64_t origin_ns, uint64_t n) {
    uint64_t frames = n * clock->setup.frames, rate = clock->setup.rate_hz;
    return origin_ns + (int64_t)(frames / rate) * NS_PER_S + (int64_t)(frames % rate * NS_PER_S / rate);
}

static void run(struct core_clock *clock) {
    const struct core_engine *engine = clock->setup.engine;
    uint32_t frames = clock->setup.frames, ratio = engine->ratio;
    float *in[SIGRACK_MAX_CHANNELS], *out[SIGRACK_MAX_CHANNELS];
    for (uint32_t c = 0; c < engine->inputs; c++)
        in[c] = clock->buffers + (size_t)c * frames;
    for (uint32_t c = 0; c < engine->outputs; c++)
        out[c] = clock->buffers + ((size_t)engine->inputs + (size_t)c * ratio) * frames;
    int64_t period_ns = (int64_t)frames * NS_PER_S / clock->setup.rate_hz;
    int64_t origin_ns = core_now_ns();
    for (uint64_t n = 0; !atomic_load_explicit(&clock->stop, memory_order_relaxed); n++) {
        int64_t start_ns = period_start(clock, origin_ns, n);
        struct timespec deadline = timespec_of(start_ns);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL) == EINTR) {
        }
        uint32_t length = clock->setup.source ? core_source_pull(clock->setup.source, in, frames) : frames;
        if (!length)
            break;
        core_engine_block(clock->setup.engine, (const float *const *)in, out, length);
        if (clock->setup.sink)
            core_sink_push(clock->setup.sink, out, length * ratio);
        count_add(&clock->blocks, 1);
        int64_t lateness_ns = core_now_ns() - start_ns;
        count_lateness(clock, lateness_ns, period_ns);
        if (lateness_ns > CATCH_UP_PERIODS * period_ns) {
            count_add(&clock->resyncs, 1);
            origin_ns += lateness_ns;
        }
    }
}

static void *thread_main(void *argument) {
    struct core_clock *clock = argument;
    core_crash_thread(CRASH_ENGINE);
    run(clock);
    if (clock->setup.sink)
        core_sink_close(clock->setup.sink);
    atomic_store(&clock->running, 0);
    core_bell_ring(clock->setup.bell);
    return NULL;
}

/* SCHED_FIFO where it is permitted, the reason where it is not. */
static int go_fifo(struct core_clock *clock) {
    if (!clock->setup.priority)
        return 0;
    struct sched_param param = {.sched_priority = (int)clock->setup.priority};
    int error = pthread_setschedparam(clock->thread, SCHED_FIFO, &param);
    return error ? -error : 1;
}

/* A thread inherits its creator's mask. A handler may do anything (Python's writes to a descriptor), so none may run there; only
   faults stay open: blocked, they would end the process without a word. */
static int create_deaf(struct core_clock *clock) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int error = pthread_create(&clock->thread, NULL, thread_main, clock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int core_clock_start(struct core_clock *clock) {
    atomic_store(&clock->running, 1);
    int error = create_deaf(clock);
    if (error) {
        atomic_store(&clock->running, 0);
        return error;
    }
    clock->started = 1;
    pthread_setname_np(clock->thread, "sigrack-engine");
    atomic_store(&clock->fifo, go_fifo(clock));
    return 0;
}

void core_clock_stop(struct core_clock *clock) { atomic_store(&clock->stop, 1); }

int core_clock_join(struct core_clock *clock, uint32_t limit_ms) {
    if (!clock->started)
        return 1;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now); /* the only clock that pthread_timedjoin_np knows */
    struct timespec deadline = timespec_of(now.tv_sec * NS_PER_S + now.tv_nsec + limit_ms * NS_PER_MS);
    if (pthread_timedjoin_np(clock->thread, NULL, &deadline))
        return 0;
    clock->started = 0;
    return 1;
}

static uint32_t patience_ms(const struct core_clock *clock) {
    uint64_t two_periods_ms = 2000ull * clock->setup.frames / clock->setup.rate_hz;
    return two_periods_ms > 1000 ? (uint32_t)two_periods_ms : 1000;
}

int core_clock_free(struct core_clock *clock) {
    if (!clock)
        return 1;
    core_clock_stop(clock);
    if (!core_clock_join(clock, patience_ms(clock)))
        return 0; /* leaked on purpose: a thread that comes back from a hanging processor goes on to use it */
    free(clock->buffers);
    free(clock);
    return 1;
}

void core_clock_stats(struct core_clock *clock, struct core_clock_stats *stats) {
    stats->blocks = atomic_load(&clock->blocks);
    stats->late = atomic_load(&clock->late);
    stats->resyncs = atomic_load(&clock->resyncs);
    for (int i = 0; i < CLOCK_LATENESS_BINS; i++)
        stats->lateness[i] = atomic_load_explicit(&clock->lateness[i], memory_order_relaxed);
    stats->latest_ns = atomic_load(&clock->latest_ns);
    stats->fifo = atomic_load(&clock->fifo);
    stats->running = atomic_load(&clock->running);
}
