#define _GNU_SOURCE /* gettid, memfd_create, sigaltstack */
#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES (64u << 10)

static const int handled[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
#define HANDLED (sizeof handled / sizeof *handled)

static struct core_crash_record *_Atomic record;
static const struct core_engine *_Atomic watched;
/* Of a process whose heartbeats nobody can read. */
static struct core_beats own_beats;
static struct core_beats *beats = &own_beats;
static _Atomic int32_t threads[CRASH_THREADS];
static struct sigaction before[HANDLED];
/* Number of the plugin that a thread works for. Of the model that needs no memory when a handler reads it. */
static _Thread_local uint32_t owner __attribute__((tls_model("initial-exec")));
/* Of the handler: a stack that has overflowed is no place to run. */
static char stacks[CRASH_THREADS][STACK_BYTES];

static int64_t realtime_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static enum crash_thread who(void) {
    int32_t id = gettid();
    for (uint32_t t = CRASH_MAIN; t < CRASH_THREADS; t++)
        if (atomic_load(&threads[t]) == id)
            return (enum crash_thread)t;
    return CRASH_OTHER;
}

static const char *step_of(const struct core_crash_record *r, const struct core_engine *engine) {
    uint32_t step = (uint32_t)atomic_load(&engine->progress) & 0xFF;
    uint64_t serial = atomic_load(&engine->running);
    return step && r->serials[serial % 2] == serial ? r->steps[serial % 2][step - 1] : "";
}

/* What the thread was at. In freewheel the main thread runs the blocks. */
static const char *where(const struct core_crash_record *r, enum crash_thread thread) {
    const struct core_engine *engine = atomic_load(&watched);
    uint32_t number = thread == CRASH_MAIN ? atomic_load(&r->hook) : owner;
    if (thread == CRASH_CONTROL)
        return r->call;
    if (number && number < CRASH_NAMES)
        return r->names[number];
    return engine && (thread == CRASH_ENGINE || thread == CRASH_MAIN) ? step_of(r, engine) : "";
}

static void note(struct core_crash_record *r, const siginfo_t *info) {
    const struct core_engine *engine = atomic_load(&watched);
    r->died_ns = realtime_ns();
    r->thread = who();
    r->address = info->si_code > 0 ? (uint64_t)(uintptr_t)info->si_addr : 0;
    r->frame = engine ? atomic_load(&engine->frame) : 0;
    memcpy(r->where, where(r, (enum crash_thread)r->thread), CRASH_TEXT);
    r->where[CRASH_TEXT - 1] = 0;
}

/* The first thread that dies is the one that is noted; a process that this one has forked dies without a word. Then the signal comes
   again, to who had it before: a fault by itself, when the instruction is repeated. */
static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    int error = errno;
    struct core_crash_record *r = atomic_load(&record);
    int32_t none = 0;
    if (r && r->pid == getpid() && atomic_compare_exchange_strong(&r->signal, &none, number))
        note(r, info);
    for (size_t i = 0; i < HANDLED; i++)
        if (handled[i] == number)
            sigaction(number, &before[i], NULL);
    errno = error;
    if (info->si_code <= 0) /* sent by somebody, as by abort() */
        raise(number);
}

static struct core_crash_record *map(const char *path) {
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (descriptor < 0)
        return NULL;
    void *memory = MAP_FAILED;
    if (!ftruncate(descriptor, 0) && !ftruncate(descriptor, sizeof(struct core_crash_record)))
        memory = mmap(NULL, sizeof(struct core_crash_record), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, 0);
    int why = errno;
    close(descriptor);
    errno = why;
    return memory == MAP_FAILED ? NULL : memory;
}

/* Make the page of the heartbeats; return its descriptor, which stays open, or -1. */
static int32_t map_beats(void) {
    int descriptor = memfd_create("sigrack-beats", MFD_CLOEXEC);
    if (descriptor < 0)
        return -1;
    void *memory = MAP_FAILED;
    if (!ftruncate(descriptor, sizeof *beats))
        memory = mmap(NULL, sizeof *beats, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, 0);
    if (memory == MAP_FAILED) {
        close(descriptor);
        return -1;
    }
    beats = memory;
    return descriptor;
}

static void handle(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < HANDLED; i++)
        sigaction(handled[i], &action, &before[i]);
}

struct core_crash_record *core_crash_open(const char *path, int *why) {
    struct core_crash_record *r = atomic_load(&record) ? NULL : map(path);
    *why = atomic_load(&record) ? EBUSY : errno;
    if (!r)
        return NULL;
    r->size = sizeof *r;
    r->pid = getpid();
    r->began_ns = realtime_ns();
    r->beats = map_beats();
    r->magic = CRASH_MAGIC;
    atomic_store(&record, r);
    handle();
    core_crash_thread(CRASH_MAIN);
    return r;
}

void core_crash_close(void) {
    if (!atomic_exchange(&record, NULL))
        return;
    for (size_t i = 0; i < HANDLED; i++)
        sigaction(handled[i], &before[i], NULL);
}

void core_crash_thread(uint32_t thread) {
    if (!atomic_load(&record) || thread >= CRASH_THREADS)
        return;
    stack_t stack = {.ss_sp = stacks[thread], .ss_size = STACK_BYTES};
    sigaltstack(&stack, NULL);
    atomic_store(&threads[thread], gettid());
    if (thread == CRASH_ENGINE)
        atomic_store(&beats->engine_thread, gettid());
}

void core_crash_owner(uint32_t number) { owner = number; }

void core_crash_watch(struct core_engine *engine) {
    if (engine)
        engine->beat = &beats->blocks;
    atomic_store(&watched, engine);
}

struct core_beats *core_crash_beats(void) { return beats; }
