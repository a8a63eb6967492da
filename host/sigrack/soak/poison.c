/* poison.c - a plugin and a signal engine that notice being used after their end.

   An instance overwrites itself when it is destroyed, and its memory is not used again for a while: whoever calls it later finds
   the poison and is counted. All counts go into a ledger that the soak owns, whose address is in the configuration. A signal
   engine's cookie is handed to a ghost, a thread of the library's own that never ends and goes on calling back. */
#define _POSIX_C_SOURCE 200809L
#include "sigrack.h"
#include "sigrack_signal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef POISON_FLAGS
#define POISON_FLAGS 0u
#endif
#define ALIVE 0x600dc0de600dc0deull
#define GRAVES 4096u
#define GHOSTS 64u
#define THREADS 2

/* As `Ledger` in lifetimes.py. */
struct ledger {
    _Atomic uint64_t attempts;       /* records that somebody wanted to post */
    _Atomic uint64_t use_after_free; /* calls into poison */
    _Atomic uint64_t created, destroyed;
    _Atomic uint64_t ghosts, resting; /* ghosts there are; those that have stopped for good */
    _Atomic uint64_t rest;            /* set: ghosts stop */
    uint64_t bury;                    /* 0: give memory back at once, for AddressSanitizer to watch */
};

struct body {
    _Atomic uint64_t alive;
    const struct sigrack_host *host;
    uint64_t number;
    signal_callback callback;
    void *user;
    atomic_int stop;
    int threads;
    pthread_t thread[THREADS];
};

static _Atomic(struct ledger *) ledger; /* set once; instances on other threads read it */
static _Atomic(struct body *) graves[GRAVES];
static _Atomic uint32_t next_grave, next_ghost;
static _Atomic uintptr_t haunted[GHOSTS];
static _Atomic(signal_callback) last_callback;
static pthread_once_t ghost_once = PTHREAD_ONCE_INIT;

static void pause_us(unsigned us) { nanosleep(&(struct timespec){0, us * 1000l}, NULL); }

static int check(struct body *body) {
    int alive = atomic_load_explicit(&body->alive, memory_order_relaxed) == ALIVE;
    if (!alive)
        atomic_fetch_add(&atomic_load(&ledger)->use_after_free, 1);
    return alive;
}

static struct body *make(const char *config) {
    const char *address = config ? strstr(config, "\"ledger\":") : NULL;
    if (!address)
        return NULL;
    struct ledger *none = NULL, *given = (struct ledger *)(uintptr_t)strtoull(address + strlen("\"ledger\":"), NULL, 10);
    atomic_compare_exchange_strong(&ledger, &none, given);
    struct body *body = calloc(1, sizeof *body);
    if (body) {
        atomic_store(&body->alive, ALIVE);
        atomic_fetch_add(&atomic_load(&ledger)->created, 1);
    }
    return body;
}

static void bury(struct body *body) {
    if (!check(body))
        return;
    memset(body, 0xdd, sizeof *body);
    atomic_fetch_add(&atomic_load(&ledger)->destroyed, 1);
    if (atomic_load(&ledger)->bury)
        body = atomic_exchange(&graves[atomic_fetch_add(&next_grave, 1) % GRAVES], body);
    free(body);
}

/* The plugin: passes audio through, posts how many predecessors it had */

static void *create(const struct sigrack_host *host, const char *config, char *error, uint32_t error_size) {
    (void)error, (void)error_size;
    struct body *body = make(config);
    if (body)
        body->host = host;
    return body;
}

static int activate(void *self, const struct sigrack_setup *setup, struct sigrack_contract *contract) {
    (void)setup, (void)contract;
    return !check(self);
}

static int process(void *self, const struct sigrack_block *block) {
    struct body *body = self;
    if (!check(body))
        return 1;
    for (uint32_t c = 0; c < block->channels; c++)
        memcpy(block->out[c], block->in[c], block->frames * sizeof(float));
    double value = (double)body->number;
    atomic_fetch_add(&atomic_load(&ledger)->attempts, 1);
    body->host->post(body->host->cookie, 0, block->frame, &value, 1);
    return 0;
}

static void reset(void *self) { check(self); }

static void destroy(void *self) { bury(self); }

static uint32_t state_save(void *self, void *data, uint32_t size) {
    struct body *body = self;
    uint64_t number = check(body) ? body->number + 1 : 0;
    if (size >= sizeof number)
        memcpy(data, &number, sizeof number);
    return sizeof number;
}

static int state_load(void *self, const char *version, const void *data, uint32_t size, char *error, uint32_t error_size) {
    (void)version, (void)error, (void)error_size;
    if (!check(self) || size != sizeof(uint64_t))
        return 1;
    memcpy(&((struct body *)self)->number, data, size);
    return 0;
}

const struct sigrack_plugin *sigrack_plugin_entry(void) {
    static const struct sigrack_param param = {sizeof param, 0, "x", "X", "", 0.0, 1.0, 0.0};
    static const struct sigrack_factor factor = {sizeof factor, 0, "predecessors", ""};
    static const struct sigrack_plugin plugin = {
        .size = sizeof plugin, .abi = SIGRACK_ABI, .id = "poison", .name = "Poison", .version = "1",
        .description = "Notices being used after its end.", .params = &param, .param_count = 1, .factors = &factor,
        .factor_count = 1, .create = create, .activate = activate, .process = process, .reset = reset, .destroy = destroy,
        .flags = POISON_FLAGS, .state_save = state_save, .state_load = state_load};
    return &plugin;
}

/* The signal engine: threads that post good, unknown and too long records */

static void call_back(signal_callback callback, const char *symbol, long long ts_ns, int count, void *user) {
    static const double values[64];
    atomic_fetch_add(&atomic_load(&ledger)->attempts, 1);
    callback(symbol, ts_ns, values, count, user);
}

static void *ghost(void *unused) {
    (void)unused;
    atomic_fetch_add(&atomic_load(&ledger)->ghosts, 1);
    for (unsigned i = 0; !atomic_load(&atomic_load(&ledger)->rest); i++) {
        uintptr_t user = atomic_load(&haunted[i % GHOSTS]);
        signal_callback callback = atomic_load(&last_callback);
        if (user && callback)
            call_back(callback, "A", i, 1, (void *)user);
        pause_us(1000);
    }
    atomic_fetch_add(&atomic_load(&ledger)->resting, 1);
    return NULL;
}

static void call_ghost(void) {
    pthread_t thread;
    if (!pthread_create(&thread, NULL, ghost, NULL))
        pthread_detach(thread);
}

static void *work(void *argument) {
    static const char *const symbols[] = {"A", "B", "C", "unknown"};
    struct body *body = argument;
    for (unsigned i = 0; !atomic_load(&body->stop); i++) {
        if (!check(body))
            return NULL;
        call_back(body->callback, symbols[i % 4], i, i % 16 ? 1 + (int)(i % 8) : 64, body->user);
        if (i % 8 == 0)
            pause_us(2000);
    }
    return NULL;
}

int signal_abi_version(void) { return SIGRACK_SIGNAL_ABI; }

void *signal_create(const char *config_json) {
    struct body *body = make(config_json);
    pthread_once(&ghost_once, call_ghost);
    return body;
}

int signal_register_callback(void *handle, signal_callback callback, void *user) {
    struct body *body = handle;
    body->callback = callback;
    body->user = user;
    atomic_store(&last_callback, callback);
    while (body->threads < THREADS && !pthread_create(&body->thread[body->threads], NULL, work, body))
        body->threads++;
    return body->threads != THREADS;
}

void signal_on_data(void *handle, int type, const void *data) {
    (void)type, (void)data;
    check(handle);
}

int signal_poll_callbacks(void *handle) { return check(handle) ? 0 : -1; }

void signal_destroy(void *handle) {
    struct body *body = handle;
    if (!check(body))
        return;
    atomic_store(&body->stop, 1);
    for (int i = 0; i < body->threads; i++)
        pthread_join(body->thread[i], NULL);
    atomic_store(&haunted[atomic_fetch_add(&next_ghost, 1) % GHOSTS], (uintptr_t)body->user);
    bury(body);
}
