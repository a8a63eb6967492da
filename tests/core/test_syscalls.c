/* The kernel's word on the engine thread: a seccomp filter lets it sleep until its period, ring the bell and end; any other
   system call is trapped and counted, whoever makes it. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "rack.h"

static _Atomic uint32_t trapped;
static _Atomic int last_trapped;
static _Atomic int installed; /* 0 not yet, 1, or minus errno */

static void trap(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    atomic_fetch_add(&trapped, 1);
    atomic_store(&last_trapped, info->si_syscall);
}

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* For the calling thread alone and for ever. Reading the clock is a system call only where the kernel offers nothing better;
   the last five are the C library's way to end a thread. */
static int install(int bell) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(SYS_clock_nanosleep),
        ALLOW(SYS_clock_gettime),
        ALLOW(SYS_rt_sigreturn),
        ALLOW(SYS_exit),
        ALLOW(SYS_rt_sigprocmask),
        ALLOW(SYS_madvise),
        ALLOW(SYS_munmap),
        ALLOW(SYS_rseq),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)bell, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return -errno;
    return 1;
}

/* What the first processor does in every block. */
struct extra {
    struct rack *rack;
    void (*sin)(void);
};

static void on_the_engine_thread(void *argument) {
    const struct extra *extra = argument;
    if (!atomic_load(&installed))
        atomic_store(&installed, install(core_bell_descriptor(extra->rack->bell)));
    if (extra->sin)
        extra->sin();
}

/* Run a clock with a busy rack; returns the number of trapped calls, or -1 if the kernel takes no filter. */
static int run(void (*sin)(void), uint64_t blocks, enum core_sink_overflow overflow) {
    struct rack rack;
    struct extra extra = {&rack, sin};
    rack_open(&rack);
    rack.head.extra = on_the_engine_thread;
    rack.head.argument = &extra;
    atomic_store(&trapped, 0);
    atomic_store(&installed, 0);
    struct rack_ends ends;
    rack_ends_open(&ends, overflow);
    struct core_clock *clock = core_clock_new(&(struct core_clock_setup){
        rack.engine, ends.source, ends.sink, rack.bell, .rate_hz = 192000, .frames = RACK_BLOCK});
    CHECK(clock && !core_clock_start(clock));
    struct core_clock_stats stats = {0};
    do {
        rack_disturb(&rack);
        rack_ends_disturb(&ends, stats.blocks);
        core_clock_stats(clock, &stats);
        sched_yield();
    } while (stats.blocks < blocks || (!sin && !rack_ends_met(&ends)));
    core_clock_free(clock);
    rack_ends_close(&ends);
    rack_close(&rack);
    return atomic_load(&installed) == 1 ? (int)atomic_load(&trapped) : -1;
}

static void a_busy_rack_makes_no_other_system_call(void) {
    for (int overflow = SINK_DROP_NEWEST; overflow <= SINK_DROP_OLDEST; overflow++) {
        int count = run(NULL, 1000, overflow);
        if (count > 0)
            fprintf(stderr, "the engine thread made system call %d\n", atomic_load(&last_trapped));
        CHECK(count == 0);
    }
}

/* Negative controls. */
static void yield(void) { sched_yield(); }

static void print(void) {
    if (write(STDERR_FILENO, "", 0)) {
        /* Trapped: it does not matter what comes back. */
    }
}

static void a_processor_that_makes_one_is_caught(void) {
    CHECK(run(yield, 10, SINK_DROP_NEWEST) > 0 && atomic_load(&last_trapped) == SYS_sched_yield);
    CHECK(run(print, 10, SINK_DROP_NEWEST) > 0 && atomic_load(&last_trapped) == SYS_write);
}

int main(void) {
    struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
    CHECK(!sigaction(SIGSYS, &action, NULL));
    if (SANITIZED || run(NULL, 10, SINK_DROP_NEWEST) < 0)
        return 77; /* skipped: sanitizers make calls of their own, and a kernel may have no filters */
    a_busy_rack_makes_no_other_system_call();
    a_processor_that_makes_one_is_caught();
}
