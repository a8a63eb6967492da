/* dispatch_engine.c - a signal engine whose own thread posts in bursts and notes how long each call of the callback kept it.

   The same library serves the rack and the naive hosts. What it posts is written into a `struct bench_plan` of the benchmark,
   whose address is in the configuration: {"plan": 140230000000000}. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "sigrack_signal.h"

#define NAMES 8
#define VALUES 3
#define IDLE_NS 200000

struct bench_plan {
    int64_t period_ns; /* from burst to burst */
    uint32_t burst;    /* records per burst */
    uint32_t bursts;
    int64_t *call_ns;         /* room for burst * bursts durations, or NULL */
    int64_t elapsed_ns;       /* from the first burst to the end of the last */
    _Atomic uint64_t sent;    /* records of this run so far */
    _Atomic uint32_t wanted;  /* runs asked for */
    _Atomic uint32_t done;    /* runs made */
    _Atomic uint32_t give_up; /* end the run after this burst */
};

struct engine {
    struct bench_plan *plan;
    signal_callback callback;
    void *user;
    pthread_t thread;
    int running;
    _Atomic int ending;
};

static const char *const names[NAMES] = {"S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7"};

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_until(int64_t deadline_ns) {
    struct timespec deadline = {deadline_ns / 1000000000, deadline_ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL);
}

static void post(struct engine *engine, uint64_t number) {
    const double values[VALUES] = {0.5, 1.5, 2.5};
    struct bench_plan *plan = engine->plan;
    int64_t begun = now_ns();
    engine->callback(names[number % NAMES], begun, values, VALUES, engine->user);
    if (plan->call_ns)
        plan->call_ns[number] = now_ns() - begun;
}

static void run_plan(struct engine *engine) {
    struct bench_plan *plan = engine->plan;
    uint64_t number = 0;
    int64_t begun = now_ns();
    for (uint32_t burst = 0; burst < plan->bursts; burst++) {
        sleep_until(begun + burst * plan->period_ns);
        if (atomic_load(&plan->give_up) || atomic_load(&engine->ending))
            break;
        for (uint32_t i = 0; i < plan->burst; i++)
            post(engine, number++);
        atomic_store(&plan->sent, number);
    }
    plan->elapsed_ns = now_ns() - begun;
}

static void *run(void *self) {
    struct engine *engine = self;
    struct bench_plan *plan = engine->plan;
    prctl(PR_SET_TIMERSLACK, 1UL);
    while (!atomic_load(&engine->ending)) {
        uint32_t wanted = atomic_load(&plan->wanted);
        if (wanted != atomic_load(&plan->done)) {
            run_plan(engine);
            atomic_store(&plan->done, wanted);
        }
        sleep_until(now_ns() + IDLE_NS);
    }
    return NULL;
}

int signal_abi_version(void) { return SIGRACK_SIGNAL_ABI; }

int signal_data_size(int type) {
    (void)type;
    return 0;
}

void *signal_create(const char *config_json) {
    const char *address = strchr(config_json, ':');
    struct engine *engine = calloc(1, sizeof *engine);
    if (!address || !engine) {
        free(engine);
        return NULL;
    }
    engine->plan = (struct bench_plan *)(uintptr_t)strtoull(address + 1, NULL, 10);
    return engine;
}

/* The thread begins here: from now on it has somebody to call. Returns 0 on success. */
int signal_register_callback(void *handle, signal_callback callback, void *user) {
    struct engine *engine = handle;
    engine->callback = callback;
    engine->user = user;
    int error = pthread_create(&engine->thread, NULL, run, engine);
    engine->running = !error;
    return error;
}

void signal_on_data(void *handle, int type, const void *data) {
    (void)handle;
    (void)type;
    (void)data;
}

void signal_destroy(void *handle) {
    struct engine *engine = handle;
    atomic_store(&engine->ending, 1);
    if (engine->running)
        pthread_join(engine->thread, NULL);
    free(engine);
}
