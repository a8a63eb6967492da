/* The bell: who publishes and rings, and who arms and looks, cannot both miss each other. */
#include "bell.h"

#include <stdalign.h>

#include "check.h"
#include "threads.h"
#include "ticks.h"

static int rung(const struct core_bell *bell) { return readable(core_bell_descriptor(bell), 0); }

static void it_rings_once_per_arming(void) {
    struct core_bell *bell = core_bell_new();
    CHECK(bell);
    core_bell_ring(bell);
    CHECK(!rung(bell));
    for (int i = 0; i < 3; i++) {
        core_bell_arm(bell);
        CHECK(!rung(bell));
        core_bell_ring(bell);
        core_bell_ring(bell);
        CHECK(rung(bell));
    }
    core_bell_arm(bell);
    core_bell_arm(bell);
    CHECK(!rung(bell));
    core_bell_free(bell);
    core_bell_free(NULL);
}

#define ROUNDS (SANITIZED ? 100000u : 1000000u)
#define OVER UINT32_MAX

/* Both sides meet at the start and the end of every round. */
struct meeting {
    struct core_bell *bell;
    _Atomic uint32_t begun, done;
    alignas(64) _Atomic uint32_t published; /* in a cache line of its own, so that its store lingers */
    alignas(64) _Atomic uint32_t delay; /* of the ringer, kept where both come at the same moment */
};

static void wait_while(_Atomic uint32_t *counter, uint32_t value) {
    for (uint32_t spins = 1; atomic_load(counter) == value; spins++)
        if (spins % 1000 == 0)
            sched_yield(); /* the other side may have no processor */
}

static void *publish_and_ring(void *argument) {
    struct meeting *meeting = argument;
    uint64_t random = 13;
    for (uint32_t round = 1;; round++) {
        wait_while(&meeting->begun, round - 1);
        if (atomic_load(&meeting->begun) == OVER)
            return NULL;
        for (volatile uint32_t spin = atomic_load(&meeting->delay) + draw(&random, 50); spin; spin--) {
        }
        atomic_store_explicit(&meeting->published, round, memory_order_release);
        core_bell_ring(meeting->bell);
        atomic_store(&meeting->done, round);
    }
}

static void either_the_listener_sees_it_or_it_is_woken(void) {
    struct meeting meeting = {.bell = core_bell_new()};
    uint32_t seen = 0, round = 1;
    int64_t deadline_ns = core_now_ns() + 3000000000; /* a machine without two free processors gets fewer rounds */
    pthread_t ringer = thread_start(publish_and_ring, &meeting);
    /* On and on until both cases have come up. */
    for (; (round <= ROUNDS && core_now_ns() < deadline_ns) || !seen || seen == round - 1; round++) {
        atomic_store(&meeting.begun, round);
        core_bell_arm(meeting.bell);
        int sees = atomic_load_explicit(&meeting.published, memory_order_acquire) == round;
        wait_while(&meeting.done, round - 1);
        CHECK(sees || rung(meeting.bell));
        seen += sees;
        uint32_t delay = atomic_load(&meeting.delay);
        atomic_store(&meeting.delay, sees ? delay + 2 : delay - (delay ? 2 : 0));
    }
    atomic_store(&meeting.begun, OVER);
    thread_join(ringer);
    core_bell_free(meeting.bell);
}

int main(void) {
    it_rings_once_per_arming();
    either_the_listener_sees_it_or_it_is_woken();
}
