"""A signal engine in C that does harm where and how its configuration says."""

__all__ = ["RISKY"]

RISKY = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "sigrack_signal.h"

/* The configuration names the harm done at a place: {"create": "segv"}; places: create, data, thread, poll, destroy.
   data and thread: when the trade number "poison" comes, and each "every"th after it; create: only if the file "mark" is there,
   which harm in data makes. "flood": a thread posts without a pause; "ticks": so many, one each 0.1 ms. "eager": the
   registration takes until so many are posted. */
struct engine {
    signal_callback callback;
    void *user;
    pthread_t thread;
    int threaded;
    _Atomic int ending, harmed, posted;
    char create[16], data[16], own[16], poll[16], destroy[16], mark[256];
    int poison, every, flood, ticks, eager;
};

static int deep(int depth) {
    volatile char room[4096];
    room[depth % 4096] = 1;
    return depth ? deep(depth + 1) + room[0] : 0;
}

static void *rest(void *argument) {
    for (;;)
        sleep(1000);
    return argument;
}

static void start_threads(void) {
    pthread_t thread;
    for (int i = 0; i < 4; i++)
        if (!pthread_create(&thread, NULL, rest, NULL))
            pthread_detach(thread);
}

static void harm(const char *what) {
    if (!strcmp(what, "segv"))
        *(volatile int *)8 = 1;
    if (!strcmp(what, "abort"))
        abort();
    if (!strcmp(what, "exit"))
        _exit(3);
    if (!strcmp(what, "quit"))
        exit(5);
    if (!strcmp(what, "fpe"))
        raise(SIGFPE);
    if (!strcmp(what, "kill"))
        kill(getpid(), SIGKILL);
    if (!strcmp(what, "stack"))
        deep(1);
    if (!strcmp(what, "heap")) {
        char *volatile memory = malloc(32);
        memset(memory - 16, 0x55, 64);
        free(memory);
        abort();
    }
    if (!strcmp(what, "past"))
        for (volatile char *end = malloc(32);; end++)
            *end = (char)0xff;
    while (!strcmp(what, "spin"))
        ;
    if (!strcmp(what, "deaf"))
        signal(SIGABRT, SIG_IGN), signal(SIGTERM, SIG_IGN), rest(NULL);
    if (!strcmp(what, "sleep"))
        rest(NULL);
    if (!strcmp(what, "close"))
        for (int descriptor = 0; descriptor < 1024; descriptor++)
            close(descriptor);
    while (!strcmp(what, "leak")) {
        void *memory = malloc(1 << 20);
        if (memory)
            memset(memory, 1, 1 << 20);
    }
    if (!strcmp(what, "fork") && !fork())
        rest(NULL);
    if (!strcmp(what, "threads"))
        start_threads();
#if defined(__x86_64__)
    if (!strcmp(what, "rounding"))
        _mm_setcsr(0x3f80); /* towards negative infinity, denormals kept */
#endif
}

/* Post what no engine should. */
static void post_badly(struct engine *engine, const char *what, long long ts_ns) {
    const double odd[] = {NAN, INFINITY, -INFINITY, 1e-310, 1e34}, many[17] = {0};
    if (!strcmp(what, "odd"))
        engine->callback("PRICE", ts_ns, odd, 5, engine->user);
    if (!strcmp(what, "long"))
        engine->callback("PRICE", ts_ns, many, 17, engine->user);
    if (!strcmp(what, "unknown"))
        engine->callback("NOBODY", ts_ns, odd, 1, engine->user);
}

static void text(const char *config, const char *key, char *into, size_t size) {
    char wanted[32];
    snprintf(wanted, sizeof wanted, "\"%s\": \"", key);
    const char *found = strstr(config, wanted);
    if (!found)
        return;
    found += strlen(wanted);
    size_t length = strcspn(found, "\"");
    snprintf(into, size, "%.*s", (int)length, found);
}

static int number(const char *config, const char *key) {
    char wanted[32];
    snprintf(wanted, sizeof wanted, "\"%s\": ", key);
    const char *found = strstr(config, wanted);
    return found ? atoi(found + strlen(wanted)) : 0;
}

static void *run(void *self) {
    struct engine *engine = self;
    double value = getpid();
    for (int tick = 0; !atomic_load(&engine->ending) && (engine->flood || *engine->own || tick < engine->ticks); tick++) {
        if (atomic_load(&engine->harmed))
            harm(engine->own);
        if (engine->flood || engine->ticks)
            engine->callback("TICK", tick, &value, 1, engine->user);
        atomic_store(&engine->posted, tick + 1);
        if (!engine->flood)
            usleep(100);
    }
    return NULL;
}

void *signal_create(const char *config) {
    struct engine *engine = calloc(1, sizeof *engine);
    text(config, "create", engine->create, sizeof engine->create);
    text(config, "data", engine->data, sizeof engine->data);
    text(config, "thread", engine->own, sizeof engine->own);
    text(config, "poll", engine->poll, sizeof engine->poll);
    text(config, "destroy", engine->destroy, sizeof engine->destroy);
    text(config, "mark", engine->mark, sizeof engine->mark);
    engine->poison = number(config, "poison");
    engine->every = number(config, "every");
    engine->flood = number(config, "flood");
    engine->ticks = number(config, "ticks");
    engine->eager = number(config, "eager");
    if (!*engine->mark || !access(engine->mark, F_OK))
        harm(engine->create);
    return engine;
}

int signal_register_callback(void *handle, signal_callback callback, void *user) {
    struct engine *engine = handle;
    engine->callback = callback;
    engine->user = user;
    if (engine->flood || engine->ticks || *engine->own)
        engine->threaded = !pthread_create(&engine->thread, NULL, run, engine);
    while (atomic_load(&engine->posted) < engine->eager)
        usleep(100);
    return 0;
}

void signal_on_data(void *handle, int type, const void *data) {
    struct engine *engine = handle;
    const struct signal_trade *trade = data;
    if (type != SIGNAL_TRADE)
        return;
    int since = (int)trade->trade_id - engine->poison;
    if (engine->poison && since >= 0 && (engine->every ? since % engine->every : since) == 0) {
        if (*engine->mark)
            close(open(engine->mark, O_CREAT | O_WRONLY, 0600));
        harm(engine->data);
        post_badly(engine, engine->data, trade->ts_ns);
        atomic_store(&engine->harmed, 1);
    }
    engine->callback("PRICE", trade->ts_ns, &trade->price, 1, engine->user);
}

int signal_poll_callbacks(void *handle) {
    struct engine *engine = handle;
    if (*engine->poll && atomic_load(&engine->harmed))
        harm(engine->poll);
    return 0;
}

void signal_destroy(void *handle) {
    struct engine *engine = handle;
    harm(engine->destroy);
    atomic_store(&engine->ending, 1);
    if (engine->threaded)
        pthread_join(engine->thread, NULL);
    free(engine);
}
"""
