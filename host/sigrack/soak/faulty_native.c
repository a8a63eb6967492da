/* faulty_native.c - a processor that multiplies by `gain`, and does something bad in the quantum in which `strike` changes.

   What it does is strike modulo 100, so that the same fault can be asked for again; a new instance that begins with a strike does
   nothing. The numbers are those of `KINDS` in faulty.py. Its state is how often it was struck by MARK, which does no harm. */
#define _GNU_SOURCE
#include "sigrack.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

enum kind {
    NOTHING, MARK, NULL_WRITE, HEAP_SMASH, STACK_OVERFLOW, ABORT, EXIT, QUIT, LOOP, SLEEP, NAN_FLOOD, INFINITE_FLOOD, DENORMAL_FLOOD,
    LOUD_FLOOD, LEAK, DIVISION, PAST_OUTPUT, BEFORE_OUTPUT, INPUT_WRITE, CLOSED_FILES, ROUNDING, REFUSAL, REFUSAL_FLOOD, FORK, THREADS,
    DEADLOCK, IGNORED_SIGNALS
};
enum { GAIN, STRIKE };

#define DENORMALS 100 /* quanta */
#define LEAKED (8u << 20) /* bytes in each quantum */

struct faulty {
    struct sigrack_host host;
    double gain, struck;
    enum kind flood; /* what each quantum is from now on */
    uint32_t left;   /* quanta of denormals */
    uint64_t quanta;
    _Atomic uint64_t marks;
    int deadlock;
};

static const struct sigrack_param params[] = {
    {sizeof(struct sigrack_param), 0, "gain", "Gain", "", -2.0, 2.0, -0.75},
    {sizeof(struct sigrack_param), 0, "strike", "Strike", "", 0.0, 1e9, 0.0},
};
static const struct sigrack_factor factors[] = {{sizeof(struct sigrack_factor), 0, "quanta", ""}};

static void *create(const struct sigrack_host *host, const char *config, char *error, uint32_t error_size) {
    (void)config, (void)error, (void)error_size;
    struct faulty *self = calloc(1, sizeof *self);
    if (self)
        self->host = *host;
    return self;
}

static int activate(void *instance, const struct sigrack_setup *setup, struct sigrack_contract *contract) {
    struct faulty *self = instance;
    (void)contract;
    self->gain = setup->values[GAIN];
    self->struck = setup->values[STRIKE];
    return 0;
}

static volatile int zero;
static volatile char *volatile leaked; /* the last */

__attribute__((noinline)) static int overflow(int depth) {
    volatile char frame[4096];
    memset((char *)frame, depth, sizeof frame);
    return overflow(depth + 1) + frame[depth % 4096];
}

static void smash_heap(void) {
    char *volatile chunks[64];
    for (int i = 0; i < 64; i++)
        chunks[i] = malloc(40);
    for (int i = 0; i < 64; i++)
        memset(chunks[i] - 16, 0x41, 72);
    for (int i = 0; i < 64; i++)
        free(chunks[i]);
    abort(); /* an allocator that notices nothing */
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

static void close_files(void) {
    for (int descriptor = 0; descriptor < 4096; descriptor++)
        close(descriptor);
}

/* Returns what `process` is to return. */
static int strike(struct faulty *self, enum kind kind, const struct sigrack_block *block) {
    volatile char *last = (volatile char *)(block->out[block->channels - 1] + block->frames), *first = (volatile char *)block->out[0];
    switch (kind) {
    case NOTHING: break;
    case MARK: atomic_fetch_add(&self->marks, 1); break;
    case NULL_WRITE: *(volatile int *)(intptr_t)zero = 1; break;
    case HEAP_SMASH: smash_heap(); break;
    case STACK_OVERFLOW: return overflow(1) == 0;
    case ABORT: abort();
    case EXIT: _exit(7);
    case QUIT: exit(5);
    case LOOP:
        for (;;)
            zero = 0;
    case SLEEP: rest(NULL); break;
    case NAN_FLOOD:
    case INFINITE_FLOOD:
    case LOUD_FLOOD:
    case REFUSAL_FLOOD:
    case LEAK: self->flood = kind; break;
    case DENORMAL_FLOOD: self->flood = kind, self->left = DENORMALS; break;
    case DIVISION: raise(SIGFPE); break;
    case PAST_OUTPUT:
        for (;;)
            *last++ = (char)0xff;
    case BEFORE_OUTPUT:
        for (;;)
            *first-- = (char)0xff;
    case INPUT_WRITE: *(float *)(uintptr_t)block->in[0] = 1; break;
    case CLOSED_FILES: close_files(); break;
    case ROUNDING:
#if defined(__x86_64__)
        _mm_setcsr(0x3f80); /* towards negative infinity, denormals kept */
#endif
        break;
    case REFUSAL: return 1;
    case FORK:
        if (!fork())
            rest(NULL);
        break;
    case THREADS: start_threads(); break;
    case DEADLOCK: self->deadlock = 1; break;
    case IGNORED_SIGNALS:
        signal(SIGABRT, SIG_IGN), signal(SIGTERM, SIG_IGN);
        rest(NULL);
    }
    return 0;
}

static void fill(const struct sigrack_block *block, float value) {
    for (uint32_t c = 0; c < block->channels; c++)
        for (uint32_t i = 0; i < block->frames; i++)
            block->out[c][i] = value;
}

static int flood(struct faulty *self, const struct sigrack_block *block) {
    switch (self->flood) {
    case NAN_FLOOD: fill(block, NAN); break;
    case INFINITE_FLOOD: fill(block, -INFINITY); break;
    case LOUD_FLOOD: fill(block, 1e34f); break;
    case DENORMAL_FLOOD:
        if (self->left) {
            self->left--;
            fill(block, 1e-40f);
        }
        break;
    case LEAK: {
        leaked = malloc(LEAKED);
        for (uint32_t i = 0; leaked && i < LEAKED; i += 4096)
            leaked[i] = 1;
        break;
    }
    default: return self->flood == REFUSAL_FLOOD;
    }
    return 0;
}

static int process(void *instance, const struct sigrack_block *block) {
    struct faulty *self = instance;
    uint32_t at = 0;
    int refused = 0;
    for (uint32_t e = 0; e <= block->event_count; e++) {
        uint32_t to = e < block->event_count ? block->events[e].offset : block->frames;
        for (uint32_t c = 0; c < block->channels; c++)
            for (uint32_t i = at; i < to; i++)
                block->out[c][i] = block->in[c][i] * (float)self->gain;
        at = to;
        if (e == block->event_count)
            break;
        if (block->events[e].param == GAIN)
            self->gain = block->events[e].value;
        else if (block->events[e].value != self->struck) {
            self->struck = block->events[e].value;
            refused |= strike(self, (enum kind)((uint64_t)self->struck % 100), block);
        }
    }
    double quanta[] = {(double)++self->quanta, (double)atomic_load(&self->marks)};
    self->host.post(self->host.cookie, 0, block->frame, quanta, 2);
    return flood(self, block) || refused;
}

static void destroy(void *instance) {
    struct faulty *self = instance;
    if (self->deadlock)
        rest(NULL);
    free(self);
}

static uint32_t state_save(void *instance, void *data, uint32_t size) {
    struct faulty *self = instance;
    uint64_t marks = atomic_load(&self->marks);
    if (size >= sizeof marks)
        memcpy(data, &marks, sizeof marks);
    return sizeof marks;
}

static int state_load(void *instance, const char *version, const void *data, uint32_t size, char *error, uint32_t error_size) {
    struct faulty *self = instance;
    uint64_t marks;
    (void)version, (void)error, (void)error_size;
    if (size != sizeof marks)
        return 1;
    memcpy(&marks, data, size);
    atomic_store(&self->marks, marks);
    return 0;
}

const struct sigrack_plugin *sigrack_plugin_entry(void) {
    static const struct sigrack_plugin plugin = {
        .size = sizeof plugin, .abi = SIGRACK_ABI, .id = "faulty", .name = "Faulty", .version = "1",
        .description = "Multiplies, until it is struck.", .params = params, .param_count = 2, .factors = factors, .factor_count = 1,
        .create = create, .activate = activate, .process = process, .destroy = destroy, .state_save = state_save,
        .state_load = state_load};
    return &plugin;
}
