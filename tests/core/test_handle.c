/* Handles: a late caller meets NULL, never memory that has been given back. */
#include "handle.h"

#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "threads.h"

static void a_live_handle_leads_to_its_target(void) {
    int target;
    uint64_t cookie = core_handle_open(&target);
    CHECK(cookie && handle_enter(cookie) == &target);
    CHECK(handle_enter(cookie) == &target);
    handle_leave(cookie);
    handle_leave(cookie);
    CHECK(core_handle_close(cookie) == 1 && core_handle_release(cookie) == 1);
}

/* Whether `cookie` lets nobody in and counts the attempt. */
static int is_late(uint64_t cookie) {
    uint64_t before = core_handle_late();
    return !handle_enter(cookie) && core_handle_late() == before + 1;
}

static void late_callers_get_nothing_and_are_counted(void) {
    int target;
    CHECK(is_late(0));
    uint64_t cookie = core_handle_open(&target);
    CHECK(is_late(cookie + (1 << 12)) && is_late(cookie - (1 << 12)));
    core_handle_close(cookie);
    CHECK(is_late(cookie));
    core_handle_release(cookie);
    CHECK(is_late(cookie));
}

static void each_step_succeeds_once_and_in_order(void) {
    int target;
    uint64_t cookie = core_handle_open(&target);
    CHECK(core_handle_release(cookie) == 0);
    CHECK(core_handle_close(cookie) == 1 && core_handle_close(cookie) == 0);
    CHECK(core_handle_release(cookie) == 1 && core_handle_release(cookie) == 0);
    CHECK(core_handle_close(cookie) == 0 && core_handle_close(0) == 0 && core_handle_release(0) == 0);
}

static void nothing_is_released_while_someone_is_inside(void) {
    int target;
    uint64_t cookie = core_handle_open(&target);
    CHECK(handle_enter(cookie) == &target && handle_is_open(cookie));
    core_handle_close(cookie);
    CHECK(core_handle_release(cookie) == 0 && !handle_is_open(cookie));
    handle_leave(cookie);
    CHECK(core_handle_release(cookie) == 1);
}

static void a_full_table_says_so_and_slots_come_back_with_a_new_generation(void) {
    static uint64_t cookies[HANDLE_SLOTS];
    static char seen[HANDLE_SLOTS];
    int target;
    for (uint32_t i = 0; i < HANDLE_SLOTS; i++) {
        cookies[i] = core_handle_open(&target);
        CHECK(cookies[i] && !seen[handle_slot(cookies[i])]++);
    }
    CHECK(core_handle_open(&target) == 0);
    core_handle_close(cookies[7]);
    CHECK(core_handle_open(&target) == 0);
    core_handle_release(cookies[7]);
    uint64_t again = core_handle_open(&target);
    CHECK(handle_slot(again) == handle_slot(cookies[7]) && handle_generation(again) == handle_generation(cookies[7]) + 1);
    CHECK(is_late(cookies[7]) && core_handle_close(cookies[7]) == 0);
    cookies[7] = again;
    for (uint32_t i = 0; i < HANDLE_SLOTS; i++)
        CHECK(core_handle_close(cookies[i]) && core_handle_release(cookies[i]));
}

/* The stress: callers visit places whose tenants a manager keeps replacing. */
#define CALLERS 3
#define PLACES 8
#define ROUNDS 80000u /* at least */
#define VISITS 100000u

struct tenant {
    uint64_t cookie; /* 0 once it is gone */
};

struct house {
    struct tenant tenants[PLACES];
    _Atomic uint64_t cookies[PLACES]; /* the last one of each place, live or not */
    _Atomic int over;
    _Atomic uint64_t visits, refusals, violations;
};

/* A visitor looks twice at a tenant that must not change meanwhile. */
static void *call(void *argument) {
    struct house *house = argument;
    uint64_t random = (uint64_t)(uintptr_t)&random, old = 0;
    while (!atomic_load(&house->over)) {
        uint64_t cookie = draw(&random, 4) ? atomic_load(&house->cookies[draw(&random, PLACES)]) : old;
        old = cookie;
        const struct tenant *tenant = handle_enter(cookie);
        atomic_fetch_add_explicit(tenant ? &house->visits : &house->refusals, 1, memory_order_relaxed);
        if (!tenant)
            continue;
        int right = tenant->cookie == cookie;
        if (!draw(&random, 64))
            sched_yield();
        if (!right || *(const volatile uint64_t *)&tenant->cookie != cookie)
            atomic_fetch_add_explicit(&house->violations, 1, memory_order_relaxed);
        handle_leave(cookie);
    }
    return NULL;
}

/* Without waiting only until it has been found out. */
static int is_over(const struct house *house, uint32_t round, int wait) {
    return wait ? round >= ROUNDS && house->visits >= VISITS && house->refusals : house->violations > 0;
}

static void manage(struct house *house, int wait) {
    uint64_t random = 5;
    for (uint32_t round = 0; !is_over(house, round, wait); round++) {
        uint32_t place = draw(&random, PLACES);
        struct tenant *tenant = &house->tenants[place];
        uint64_t cookie = atomic_load(&house->cookies[place]);
        if (tenant->cookie) {
            CHECK(core_handle_close(cookie));
            while (wait && !core_handle_release(cookie))
                sched_yield();
            tenant->cookie = 0; /* poison: whoever is still inside sees it */
            while (!wait && !core_handle_release(cookie))
                sched_yield();
        } else {
            /* Nobody knows the cookie before it is stored below. */
            tenant->cookie = core_handle_open(tenant);
            CHECK(tenant->cookie);
            atomic_store(&house->cookies[place], tenant->cookie);
        }
    }
}

static void stress(struct house *house, int wait) {
    pthread_t callers[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        callers[i] = thread_start(call, house);
    manage(house, wait);
    atomic_store(&house->over, 1);
    for (int i = 0; i < CALLERS; i++)
        thread_join(callers[i]);
    for (int place = 0; place < PLACES; place++)
        if (house->tenants[place].cookie)
            CHECK(core_handle_close(house->cookies[place]) && core_handle_release(house->cookies[place]));
}

static void no_caller_ever_meets_a_released_target(void) {
    static struct house house;
    uint64_t late = core_handle_late();
    stress(&house, 1);
    CHECK(house.violations == 0);
    CHECK(core_handle_late() - late == house.refusals);
}

/* Negative control: the same check must find a manager that does not wait. */
static void a_manager_that_does_not_wait_is_found_out(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        static struct house house;
        stress(&house, 0);
        _exit(house.violations ? 42 : 0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

int main(void) {
    a_live_handle_leads_to_its_target();
    late_callers_get_nothing_and_are_counted();
    each_step_succeeds_once_and_in_order();
    nothing_is_released_while_someone_is_inside();
    a_full_table_says_so_and_slots_come_back_with_a_new_generation();
    if (!SANITIZED)
        a_manager_that_does_not_wait_is_found_out();
    no_caller_ever_meets_a_released_target();
}
