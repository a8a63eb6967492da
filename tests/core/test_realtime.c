/* Nothing on the engine thread allocates, locks, prints or sleeps: the linker sends those calls of the core and of this file
   through counters, which count while their thread is marked. test_syscalls.c proves the same from the kernel's side. */
#include <stdarg.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include "clock.h"
#include "rack.h"

static _Thread_local int marked;
static _Atomic uint32_t forbidden;
static const char *_Atomic culprit = "";
static _Atomic int bell_descriptor = -1;
static _Atomic uint32_t rings;

static void count(const char *name) {
    if (marked) {
        atomic_fetch_add(&forbidden, 1);
        atomic_store(&culprit, name);
    }
}

/* A function that is counted and then called. */
#define WRAP(result, name, parameters, arguments)  \
    result __real_##name parameters;               \
    result __wrap_##name parameters;               \
    result __wrap_##name parameters {              \
        count(#name);                              \
        return __real_##name arguments;            \
    }

WRAP(void *, malloc, (size_t size), (size))
WRAP(void *, calloc, (size_t items, size_t size), (items, size))
WRAP(void *, realloc, (void *memory, size_t size), (memory, size))
WRAP(void, free, (void *memory), (memory))
WRAP(void *, aligned_alloc, (size_t alignment, size_t size), (alignment, size))
WRAP(int, posix_memalign, (void **memory, size_t alignment, size_t size), (memory, alignment, size))
WRAP(int, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
WRAP(ssize_t, read, (int descriptor, void *to, size_t size), (descriptor, to, size))
WRAP(int, puts, (const char *text), (text))
WRAP(size_t, fwrite, (const void *from, size_t size, size_t items, FILE *file), (from, size, items, file))
WRAP(int, poll, (struct pollfd *entries, nfds_t entry_count, int timeout_ms), (entries, entry_count, timeout_ms))
WRAP(int, usleep, (unsigned us), (us))
WRAP(int, nanosleep, (const struct timespec *time, struct timespec *left), (time, left))

int __wrap_printf(const char *format, ...);
int __wrap_printf(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    count("printf");
    int result = vprintf(format, arguments);
    va_end(arguments);
    return result;
}

int __wrap_fprintf(FILE *file, const char *format, ...);
int __wrap_fprintf(FILE *file, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    count("fprintf");
    int result = vfprintf(file, format, arguments);
    va_end(arguments);
    return result;
}

/* The one system call allowed: waking the listener. */
ssize_t __real_write(int descriptor, const void *from, size_t size);
ssize_t __wrap_write(int descriptor, const void *from, size_t size);
ssize_t __wrap_write(int descriptor, const void *from, size_t size) {
    if (descriptor == atomic_load(&bell_descriptor))
        atomic_fetch_add(&rings, marked != 0);
    else
        count("write");
    return __real_write(descriptor, from, size);
}

static void expect_nothing_forbidden(void) {
    if (atomic_load(&forbidden))
        fprintf(stderr, "the engine thread called %s\n", atomic_load(&culprit));
    CHECK(!atomic_load(&forbidden));
}

static void open_scene(struct rack *rack) {
    rack_open(rack);
    atomic_store(&bell_descriptor, core_bell_descriptor(rack->bell));
    atomic_store(&forbidden, 0);
    atomic_store(&rings, 0);
}

static void run_marked(struct rack *rack, uint32_t blocks) {
    float samples[2][RACK_CHANNELS][RACK_BLOCK] = {{{0.5f}}};
    uint64_t random = 12;
    for (uint32_t block = 0; block < blocks; block++) {
        rack_disturb(rack);
        marked = 1;
        core_engine_block(rack->engine, (const float *[]){samples[0][0], samples[0][1]},
                          (float *[]){samples[1][0], samples[1][1]}, draw(&random, RACK_BLOCK) + 1);
        marked = 0;
    }
}

static void a_busy_rack_calls_nothing_forbidden(void) {
    struct rack rack;
    open_scene(&rack);
    run_marked(&rack, 5000);
    struct core_results_stats stats;
    core_results_stats(rack.results, &stats);
    expect_nothing_forbidden();
    CHECK(atomic_load(&rings) > 0 && atomic_load(&rings) <= 5000); /* one per arming */
    CHECK(stats.dropped && stats.refused && core_tap_lost(rack.tap));
    CHECK(atomic_load(&core_slot_meters(rack.slots[0])->faults) && atomic_load(&rack.engine->applied) > 10);
    CHECK(core_group_changes(rack.group) > 10);
    rack_close(&rack);
}

static void mark(void *argument) {
    (void)argument;
    marked = 1;
}

static void run_clock(enum core_sink_overflow overflow) {
    struct rack rack;
    open_scene(&rack);
    rack.head.extra = mark;
    struct rack_ends ends;
    rack_ends_open(&ends, overflow);
    struct core_clock *clock = core_clock_new(&(struct core_clock_setup){
        rack.engine, ends.source, ends.sink, rack.bell, .rate_hz = 192000, .frames = RACK_BLOCK, .priority = 1});
    CHECK(clock && !core_clock_start(clock));
    struct core_clock_stats stats = {0};
    do {
        rack_disturb(&rack);
        rack_ends_disturb(&ends, stats.blocks);
        core_clock_stats(clock, &stats);
        sched_yield();
    } while (stats.blocks < 1000 || !rack_ends_met(&ends));
    core_ring_close(ends.ring);
    core_clock_stop(clock);
    CHECK(core_clock_join(clock, 60000));
    expect_nothing_forbidden();
    CHECK(atomic_load(&rings) > 0);
    core_clock_free(clock);
    rack_ends_close(&ends);
    rack_close(&rack);
}

static void a_clock_with_a_busy_rack_calls_nothing_forbidden(void) {
    run_clock(SINK_DROP_NEWEST);
    run_clock(SINK_DROP_OLDEST);
}

/* Negative controls: processors that break the rule. */
static void allocate(void *argument) {
    void *volatile memory = malloc(16);
    (void)argument;
    free(memory);
}

static void lock(void *argument) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    (void)argument;
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
}

static void print(void *argument) {
    (void)argument;
    fprintf(stderr, "%.0s", "nothing to see");
}

static void doze(void *argument) {
    (void)argument;
    nanosleep(&(struct timespec){0, 1}, NULL);
}

static void a_processor_that_breaks_the_rule_is_caught(void) {
    static void (*const sins[])(void *) = {allocate, lock, print, doze};
    static const char *const names[] = {"free", "pthread_mutex_lock", "fprintf", "nanosleep"};
    for (int i = 0; i < 4; i++) {
        struct rack rack;
        open_scene(&rack);
        rack.head.extra = sins[i];
        run_marked(&rack, 3);
        CHECK(atomic_load(&forbidden) >= 3 && !strcmp(atomic_load(&culprit), names[i]));
        rack_close(&rack);
    }
}

int main(void) {
    a_busy_rack_calls_nothing_forbidden();
    a_clock_with_a_busy_rack_calls_nothing_forbidden();
    a_processor_that_breaks_the_rule_is_caught();
}
