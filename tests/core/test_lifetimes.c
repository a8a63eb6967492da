/* Lifetimes under stress: engines post, one thread drains, one opens, closes, releases and frees; nobody meets what has been
   freed, and every post is accounted for. SIGRACK_STRESS=N sets the number of posts.

   A ring that is freed gets poison: its frame reads POISON, and it lies in a graveyard for a while, where any further post shows.
   With NAIVE (test_lifetimes_naive.c) the manager does as a host that hands out pointers: it closes nothing and waits for nobody.
   Then the same checks must find posts into poison, or the program fails. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "handle.h"
#include "results.h"
#include "threads.h"

#ifndef NAIVE
#define NAIVE 0
#endif

#define PLACES 8u
#define POSTERS 3u
#define CAPACITY 16u
#define POISON (1ull << 63)
#define GRAVES (NAIVE ? 1024u : SANITIZED ? 1u : 64u) /* a sanitizer watches what is freed */
#define POSTS (SANITIZED ? 200000ull : 1000000ull)
#define SWAPS (SANITIZED ? 500ull : 2000ull)
#define NAIVE_SWAPS 500u
#define POSTS_PER_SWAP 50u /* at least: the engines are not to be overtaken */

/* One loaded engine, as the host sees it. */
struct tenant {
    struct core_results *results;
    uint64_t cookie;
    _Atomic uint64_t frame; /* the tenant's number: what its records carry */
    uint64_t posted;        /* when it was freed */
};

/* Sums over all tenants that are gone. */
struct account {
    uint64_t posted, delivered, dropped, refused, stale;
};

struct house {
    struct core_bell *bell;
    struct core_symbols *symbols;
    struct tenant *_Atomic tenants[PLACES];
    _Atomic uint64_t cookies[PLACES]; /* the last one of each place */
    _Atomic int posters_over, drain_over;
    _Atomic uint64_t attempts, delivered, turned_away; /* posts tried; records taken; visits of the drain that were too late */
    _Atomic uint64_t poisoned;                         /* uses of what had been freed */
    struct tenant *graves[GRAVES];
    uint64_t buried, swaps;
    struct account account;
};

static uint64_t wanted_posts(void) {
    const char *text = getenv("SIGRACK_STRESS");
    return text ? strtoull(text, NULL, 10) : POSTS;
}

static int is_over(struct house *house) {
    if (NAIVE)
        return house->swaps >= NAIVE_SWAPS; /* what it has freed is dug up at the end */
    return atomic_load(&house->attempts) >= wanted_posts() && house->swaps >= SWAPS;
}

/* An engine's thread: it posts to whom it knows, often one that is long gone, sometimes what must be refused. */
static void *post(void *argument) {
    struct house *house = argument;
    uint64_t random = (uint64_t)(uintptr_t)&random, old = 0;
    double values[4] = {1, 2, 3, 4};
    while (!atomic_load(&house->posters_over)) {
        uint64_t cookie = draw(&random, 4) ? atomic_load(&house->cookies[draw(&random, PLACES)]) : old;
        if (!draw(&random, 64)) {
            old = cookie;
            sched_yield();
        }
        const char *symbol = draw(&random, 32) ? "x" : "nobody";
        core_signal_callback(symbol, 0, values, (int)draw(&random, 5), (void *)(uintptr_t)cookie);
        atomic_fetch_add(&house->attempts, 1);
    }
    return NULL;
}

/* Take what waits at one tenant; each record is its own, and posted while it lived. */
static uint64_t take(struct house *house, const struct tenant *tenant, struct core_results *results, uint64_t cookie) {
    struct core_span span;
    uint32_t count = core_results_peek(results, cookie, CAPACITY, &span);
    CHECK(!span.strange);
    for (uint32_t i = 0; i < count; i++) {
        const struct core_record *record =
            (const void *)((unsigned char *)core_results_memory(results) + (size_t)(span.start + i) * results->stride);
        if (record->frame == POISON)
            atomic_fetch_add(&house->poisoned, 1);
        CHECK(NAIVE || !tenant || record->frame == atomic_load(&tenant->frame));
    }
    core_results_release(results, count);
    return count;
}

/* The draining thread goes round; it comes in by the handle, as posters do, for it is not the one that frees. */
static void *drain(void *argument) {
    struct house *house = argument;
    uint64_t random = 11;
    while (!atomic_load(&house->drain_over)) {
        uint64_t cookie = atomic_load(&house->cookies[draw(&random, PLACES)]);
        struct core_results *results = handle_enter(cookie);
        if (!results) {
            atomic_fetch_add(&house->turned_away, 1);
            sched_yield();
            continue;
        }
        atomic_fetch_add(&house->delivered, take(house, NULL, results, cookie));
        handle_leave(cookie);
    }
    return NULL;
}

static struct tenant *move_in(struct house *house, uint32_t place, uint64_t number) {
    struct tenant *tenant = calloc(1, sizeof *tenant);
    CHECK(tenant);
    atomic_store(&tenant->frame, number);
    tenant->results = core_results_new(CAPACITY, 3, house->symbols, house->bell, &tenant->frame);
    CHECK(tenant->results);
    core_results_patient(tenant->results, !NAIVE && number % 16 == 0); /* the naive one would wait for ever */
    tenant->cookie = core_handle_open(tenant->results);
    CHECK(tenant->cookie);
    atomic_store(&house->tenants[place], tenant);
    atomic_store(&house->cookies[place], tenant->cookie);
    return tenant;
}

/* Nobody is inside: what is left is delivered or stale, and the ring's sum is exact. */
static void settle(struct house *house, struct tenant *tenant, int deliver) {
    uint64_t rest = 0;
    for (uint64_t count; !NAIVE && (count = take(house, tenant, tenant->results, tenant->cookie)); rest += count) {
    }
    struct core_results_stats stats;
    core_results_stats(tenant->results, &stats);
    CHECK(NAIVE || stats.queued == 0);
    struct account *account = &house->account;
    *(deliver ? &account->delivered : &account->stale) += rest;
    account->posted += stats.posted;
    account->dropped += stats.dropped;
    account->refused += stats.refused;
    tenant->posted = stats.posted;
}

/* Look at one that was freed some time ago, then free it really. */
static void dig_up(struct house *house, struct tenant *tenant) {
    if (!tenant)
        return;
    struct core_results_stats stats;
    core_results_stats(tenant->results, &stats);
    CHECK(atomic_load(&tenant->frame) == POISON);
    atomic_fetch_add(&house->poisoned, stats.posted - tenant->posted);
    core_results_free(tenant->results);
    free(tenant);
}

static void bury(struct house *house, struct tenant *tenant) {
    atomic_store(&tenant->frame, POISON);
    struct tenant **grave = &house->graves[house->buried++ % GRAVES];
    dig_up(house, *grave);
    *grave = tenant;
}

static void close_and_wait(const struct tenant *tenant) {
    if (NAIVE)
        return;
    CHECK(core_handle_close(tenant->cookie));
    while (!core_handle_release(tenant->cookie))
        sched_yield();
}

/* Publish the new one, then close the old one. */
static void swap(struct house *house, uint32_t place, uint64_t number) {
    struct tenant *old = atomic_load(&house->tenants[place]);
    move_in(house, place, number);
    close_and_wait(old);
    settle(house, old, number % 2);
    bury(house, old);
    house->swaps++;
}

static void manage(struct house *house) {
    uint64_t random = 5;
    for (uint64_t number = PLACES + 1; !is_over(house); number++) {
        swap(house, draw(&random, PLACES), number);
        do
            dawdle(&random, 3);
        while (atomic_load(&house->attempts) < house->swaps * POSTS_PER_SWAP);
    }
}

/* The posters end before the drain: one of them may be waiting for room. */
static void run(struct house *house) {
    pthread_t posters[POSTERS];
    for (uint32_t place = 0; place < PLACES; place++)
        move_in(house, place, place + 1);
    for (uint32_t i = 0; i < POSTERS; i++)
        posters[i] = thread_start(post, house);
    pthread_t drainer = thread_start(drain, house);
    manage(house);
    atomic_store(&house->posters_over, 1);
    for (uint32_t i = 0; i < POSTERS; i++)
        thread_join(posters[i]);
    atomic_store(&house->drain_over, 1);
    thread_join(drainer);
}

static void clear(struct house *house) {
    for (uint32_t place = 0; place < PLACES; place++) {
        struct tenant *tenant = atomic_load(&house->tenants[place]);
        close_and_wait(tenant);
        settle(house, tenant, 0);
        bury(house, tenant);
    }
    for (uint32_t i = 0; i < GRAVES; i++)
        dig_up(house, house->graves[i]);
    core_symbols_free(house->symbols);
    core_bell_free(house->bell);
}

int main(void) {
    static struct house house;
    static const char *const names[] = {"x"};
    house.symbols = core_symbols_new(names, 1);
    house.bell = core_bell_new();
    CHECK(house.symbols && house.bell);
    run(&house);
    clear(&house);
    const struct account *sum = &house.account;
    uint64_t delivered = sum->delivered + house.delivered, late = core_handle_late() - house.turned_away;
    printf("posts %llu, swaps %llu, posted %llu = delivered %llu + dropped %llu + refused %llu + stale %llu, late %llu, poisoned %llu\n",
           (unsigned long long)house.attempts, (unsigned long long)house.swaps, (unsigned long long)sum->posted,
           (unsigned long long)delivered, (unsigned long long)sum->dropped, (unsigned long long)sum->refused,
           (unsigned long long)sum->stale, (unsigned long long)late, (unsigned long long)house.poisoned);
    if (NAIVE)
        return house.poisoned ? 0 : 1;
    CHECK(house.poisoned == 0);
    CHECK(sum->posted == delivered + sum->dropped + sum->refused + sum->stale);
    CHECK(house.attempts == sum->posted + late);
    CHECK(delivered && sum->dropped && sum->refused && sum->stale && late);
}
