/* A child's process: what it makes of its input is heard exactly; however it dies, the host lives, nothing is missing, and the next
   child is heard again. The host waits for the child after each block, so that nothing here depends on time. */
#define _GNU_SOURCE
#include "check.h"
#include "child.h"
#include "cover.h"
#include "threads.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHANNELS 2u
#define QUANTUM 64u
#define FADE 200u
#define FRAMES 12000u

static float input[CHANNELS][FRAMES], output[CHANNELS][FRAMES];

enum fault { NONE, NULL_WRITE, ABORT, EXIT, KILL, OVERFLOW, INPUT_WRITE, PAST_THE_END, LOOP, FAULTS };

static const struct core_exchange_shape shape = {CHANNELS, CHANNELS, 1, QUANTUM, 8};

struct life {
    struct core_exchange exchange;
    struct core_exchange_sizes sizes;
    int host, child, wake;
    pid_t pid;
    enum fault fault;
};

/* A gain that is set by events, and goes wrong in the quantum that holds `at`. */
struct villain {
    float gain;
    enum fault fault;
    uint64_t at;
    char *end; /* of the output's ring */
};

static int deeper(volatile int level) { return level > 0 ? deeper(level + 1) + level : 0; }

static void go_wrong(const struct villain *villain, const struct sigrack_block *block) {
    switch (villain->fault) {
    case NULL_WRITE:
        *(volatile int *)NULL = 1;
        break;
    case ABORT:
        abort();
    case EXIT:
        _exit(7);
    case KILL:
        raise(SIGKILL);
        break;
    case OVERFLOW:
        deeper(1);
        break;
    case INPUT_WRITE:
        *(volatile float *)(uintptr_t)block->in[0] = 1;
        break;
    case PAST_THE_END:
        *(volatile char *)villain->end = 1;
        break;
    case LOOP:
        for (;;)
            sched_yield();
    default:
        break;
    }
}

static int play(void *self, const struct sigrack_block *block) {
    struct villain *villain = self;
    uint32_t next = 0;
    if (villain->fault != NONE && block->frame + block->frames > villain->at)
        go_wrong(villain, block);
    for (uint32_t i = 0; i < block->frames; i++) {
        for (; next < block->event_count && block->events[next].offset == i; next++)
            villain->gain = (float)block->events[next].value;
        for (uint32_t c = 0; c < block->channels; c++)
            block->out[c][i] = villain->gain * block->in[c][i];
    }
    return 0;
}

/* What the keeper's child does: maps both parts for itself, the host's for reading only, and plays. */
static void live(const struct life *life, enum fault fault, uint64_t at) {
    struct core_exchange own;
    void *host = core_map_guarded(life->host, life->sizes.host, 0), *child = core_map_guarded(life->child, life->sizes.child, 1);
    struct villain villain = {-0.75f, fault, at, (char *)child + life->sizes.child};
    if (!host || !child || !core_exchange_open(&own, host, child, &shape, life->wake))
        _exit(99);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(SIGSEGV, SIG_DFL); /* sanitizers catch these */
    signal(SIGBUS, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    _exit(core_child_run(&own, &(struct core_child_setup){play, &villain}) ? 98 : 0);
}

static void life_open(struct life *life, enum fault fault, uint64_t at) {
    life->sizes = core_exchange_sizes(&shape);
    life->host = memfd_create("host", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    life->child = memfd_create("child", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    life->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(life->host >= 0 && life->child >= 0 && life->wake >= 0);
    CHECK(!ftruncate(life->host, (off_t)life->sizes.host) && !ftruncate(life->child, (off_t)life->sizes.child));
    void *host = core_map_guarded(life->host, life->sizes.host, 1), *child = core_map_guarded(life->child, life->sizes.child, 1);
    CHECK(host && child && core_exchange_open(&life->exchange, host, child, &shape, life->wake));
    /* From here on nobody can map the host's part for writing any more, nor change the size of either. */
    CHECK(!fcntl(life->host, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL));
    CHECK(!fcntl(life->child, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
    CHECK(!core_map_guarded(life->host, life->sizes.host, 1) && errno == EPERM);
    life->fault = fault;
    life->pid = fork();
    CHECK(life->pid >= 0);
    if (!life->pid)
        live(life, fault, at);
}

static void life_close(struct life *life) {
    core_unmap_guarded(life->exchange.host, life->sizes.host);
    core_unmap_guarded(life->exchange.child, life->sizes.child);
    close(life->host);
    close(life->child);
    close(life->wake);
}

static int is_dead(pid_t pid) {
    siginfo_t info = {0};
    CHECK(!waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT));
    return info.si_pid == pid;
}

/* Wait until the child has done all whole quanta that it was given. Returns 0 when it is dead, or stays in a quantum for ever. */
static int caught_up(struct life *life) {
    uint64_t goal = atomic_load(&life->exchange.host->written) / QUANTUM * QUANTUM;
    while (atomic_load(&life->exchange.child->done) < goal) {
        if (is_dead(life->pid))
            return 0;
        /* In this order: what it processes now is then the quantum that never ends. */
        if (life->fault == LOOP && atomic_load(&life->exchange.child->done) + QUANTUM > FRAMES / 3 &&
            atomic_load(&life->exchange.child->phase) == EXCHANGE_PROCESSING)
            return 0;
        sched_yield();
    }
    return 1;
}

static void process(struct core_cover *cover, uint64_t at, uint32_t frames) {
    const float *in[] = {input[0] + at, input[1] + at};
    float *out[] = {output[0] + at, output[1] + at};
    struct sigrack_block block = {sizeof block, frames, at, in, out, CHANNELS, 0, NULL};
    CHECK(core_cover_process(cover, &block) == 0);
}

static float delayed(uint32_t channel, uint64_t frame, uint32_t latency) { return frame < latency ? 0 : input[channel][frame - latency]; }

static struct core_cover *cover_of(uint32_t most) {
    struct core_cover *cover = core_cover_new(&(struct core_cover_setup){.channels = CHANNELS,
                                                                         .outputs = CHANNELS,
                                                                         .ratio = 1,
                                                                         .max_frames = most,
                                                                         .latency_frames = core_cover_latency(QUANTUM, most, 0),
                                                                         .fade_frames = FADE});
    CHECK(cover);
    return cover;
}

static void a_child_is_heard_exactly_and_ends_when_asked(void) {
    struct core_cover *cover = cover_of(100);
    uint32_t latency = core_cover_latency(QUANTUM, 100, 0);
    uint64_t random = 5, at = 0;
    struct life life;
    life_open(&life, NONE, 0);
    CHECK(!core_cover_give(cover, &life.exchange));
    CHECK(exchange_set(&life.exchange, 5000, 0, 0.25));
    CHECK(exchange_set(&life.exchange, 7001, 0, -1.5));
    while (at < FRAMES) {
        uint32_t frames = 1 + (uint32_t)draw(&random, 100);
        frames = at + frames < FRAMES ? frames : (uint32_t)(FRAMES - at);
        process(cover, at, frames);
        CHECK(caught_up(&life));
        at += frames;
    }
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint64_t n = 0; n < FRAMES; n++) {
            uint64_t from = n < latency ? 0 : n - latency;
            float gain = from < 5000 ? -0.75f : from < 7001 ? 0.25f : -1.5f;
            CHECK(output[c][n] == gain * delayed(c, n, latency));
        }
    core_exchange_close(&life.exchange);
    int status;
    CHECK(waitpid(life.pid, &status, 0) == life.pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(atomic_load(&life.exchange.child->phase) == EXCHANGE_ENDED);
    core_cover_free(cover);
    life_close(&life);
}

/* Whether a status tells of the death that a fault brings. */
static int fits(enum fault fault, int status) {
    static const int signals[] = {[NULL_WRITE] = SIGSEGV, [ABORT] = SIGABRT, [KILL] = SIGKILL, [OVERFLOW] = SIGSEGV,
                                  [INPUT_WRITE] = SIGSEGV, [PAST_THE_END] = SIGSEGV, [LOOP] = SIGKILL};
    if (fault == EXIT)
        return WIFEXITED(status) && WEXITSTATUS(status) == 7;
    return WIFSIGNALED(status) && WTERMSIG(status) == signals[fault];
}

static void a_death_is_covered_and_the_next_child_is_heard(enum fault fault) {
    enum { FIRST = FRAMES / 3, SECOND = FRAMES / 2 };
    struct core_cover *cover = cover_of(100);
    uint32_t latency = core_cover_latency(QUANTUM, 100, 0);
    uint64_t random = fault, at = 0;
    struct life lives[2], *life = &lives[0];
    int status = 0, dead = 0;
    life_open(life, fault, FIRST);
    core_cover_give(cover, &life->exchange);
    while (at < FRAMES) {
        if (dead && at > SECOND && life == &lives[0]) {
            life_open(&lives[1], NONE, 0);
            core_cover_give(cover, &lives[1].exchange);
            life = &lives[1];
        }
        uint32_t frames = 1 + (uint32_t)draw(&random, 100);
        frames = at + frames < FRAMES ? frames : (uint32_t)(FRAMES - at);
        process(cover, at, frames);
        at += frames;
        if (dead && life == &lives[0])
            continue;
        if (!caught_up(life) && !dead) {
            if (fault == LOOP)
                kill(life->pid, SIGKILL);
            CHECK(waitpid(life->pid, &status, 0) == life->pid && fits(fault, status));
            CHECK(atomic_load(&life->exchange.child->phase) == EXCHANGE_PROCESSING); /* where it was */
            dead = 1;
        }
    }
    struct core_cover_stats stats;
    core_cover_stats(cover, &stats);
    CHECK(dead && stats.misses == 1 && stats.lives == 2 && stats.wet + stats.dry == FRAMES && stats.is_wet);
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint64_t n = latency + 1; n < FRAMES; n++)
            CHECK(fabsf(output[c][n] - output[c][n - 1]) < 0.02f + 4.0f / FADE);
    for (uint64_t n = FRAMES - 1000; n < FRAMES; n++)
        CHECK(output[1][n] == -0.75f * delayed(1, n, latency));
    core_exchange_close(&life->exchange);
    CHECK(waitpid(life->pid, &status, 0) == life->pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(core_cover_collect(cover) == &lives[0].exchange);
    core_cover_free(cover);
    life_close(&lives[0]);
    life_close(&lives[1]);
}

int main(void) {
    for (uint32_t c = 0; c < CHANNELS; c++)
        for (uint32_t n = 0; n < FRAMES; n++)
            input[c][n] = 0.5f * sinf(0.011f * (float)n * (float)(c + 2)) + 0.1f;
    a_child_is_heard_exactly_and_ends_when_asked();
    for (int fault = NULL_WRITE; fault < FAULTS; fault++)
        a_death_is_covered_and_the_next_child_is_heard((enum fault)fault);
    return 0;
}
