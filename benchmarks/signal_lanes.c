/* signal_lanes.c - a signal engine that posts bursts each millisecond from a thread of its own, and one factor for each trade.

   {"burst": records per millisecond, "bursts": how many, "wait_ms": before the first} */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "sigrack_signal.h"

struct engine {
    signal_callback callback;
    void *user;
    pthread_t thread;
    int running;
    _Atomic int ending;
    int burst, bursts, wait_ms;
};

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void *run(void *self) {
    struct engine *engine = self;
    prctl(PR_SET_TIMERSLACK, 1UL);
    int64_t next = now_ns() + engine->wait_ms * 1000000ll;
    for (int burst = 0; burst < engine->bursts && !atomic_load(&engine->ending); burst++, next += 1000000) {
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){next / 1000000000, next % 1000000000}, NULL);
        for (int i = 0; i < engine->burst; i++) {
            const double values[3] = {0.5, 1.5, 2.5};
            engine->callback("S", now_ns(), values, 3, engine->user);
        }
    }
    return NULL;
}

void *signal_create(const char *config_json) {
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine && sscanf(config_json, "{\"burst\": %d, \"bursts\": %d, \"wait_ms\": %d}", &engine->burst, &engine->bursts,
                         &engine->wait_ms) == 3)
        return engine;
    free(engine);
    return NULL;
}

int signal_register_callback(void *handle, signal_callback callback, void *user) {
    struct engine *engine = handle;
    engine->callback = callback;
    engine->user = user;
    engine->running = engine->bursts && !pthread_create(&engine->thread, NULL, run, engine);
    return engine->bursts && !engine->running;
}

void signal_on_data(void *handle, int type, const void *data) {
    struct engine *engine = handle;
    const struct signal_trade *trade = data;
    if (type == SIGNAL_TRADE)
        engine->callback("S", trade->ts_ns, &trade->price, 1, engine->user);
}

void signal_destroy(void *handle) {
    struct engine *engine = handle;
    atomic_store(&engine->ending, 1);
    if (engine->running)
        pthread_join(engine->thread, NULL);
    free(engine);
}
