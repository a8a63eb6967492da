/* Results: every posted record is delivered, dropped, refused or queued, exactly once; and nobody sleeps through one. */
#include "results.h"

#include <string.h>

#include "check.h"
#include "handle.h"
#include "threads.h"

#define MAX_VALUES 6u
#define SYMBOLS 5u

static const char *const names[SYMBOLS] = {"peak_db", "rms_db", "x", "", "peak_db_but_much_longer"};
static struct core_symbols *symbols;
static struct core_bell *bell;
static _Atomic uint64_t frame_now = 77;

/* A results ring behind a handle. */
struct scene {
    struct core_results *results;
    uint64_t cookie;
};

static struct scene scene_new(uint32_t capacity) {
    struct core_results *results = core_results_new(capacity, MAX_VALUES, symbols, bell, &frame_now);
    CHECK(results);
    return (struct scene){results, core_handle_open(results)};
}

static void scene_free(struct scene *scene) {
    CHECK(core_handle_close(scene->cookie) && core_handle_release(scene->cookie));
    core_results_free(scene->results);
}

static void signal_one(const struct scene *scene, const char *symbol, long long ts_ns, int count) {
    static const double values[MAX_VALUES + 1] = {1, 2, 3, 4, 5, 6, 7};
    core_signal_callback(symbol, ts_ns, values, count, (void *)(uintptr_t)scene->cookie);
}

/* How many published records follow each other; `*start`: where. */
static uint32_t peek(const struct scene *scene, uint32_t limit, uint32_t *start) {
    struct core_span span;
    uint32_t count = core_results_peek(scene->results, scene->cookie, limit, &span);
    CHECK(count == span.count && !span.strange);
    *start = span.start;
    return count;
}

static const struct core_record *record_at(const struct scene *scene, uint32_t index) {
    return (const void *)((unsigned char *)core_results_memory(scene->results) + (size_t)index * scene->results->stride);
}

static void expect_stats(const struct scene *scene, uint64_t posted, uint64_t dropped, uint64_t refused, uint64_t queued) {
    struct core_results_stats stats;
    core_results_stats(scene->results, &stats);
    CHECK(stats.posted == posted && stats.dropped == dropped && stats.refused == refused && stats.queued == queued);
}

static void a_record_says_what_was_posted(void) {
    struct scene scene = scene_new(4);
    uint32_t start;
    CHECK(scene.results->stride % 64 == 0 && scene.results->stride >= sizeof(struct core_record) + MAX_VALUES * sizeof(double));
    signal_one(&scene, "rms_db", 123, 6);
    CHECK(core_post(scene.cookie, 2, 456, (double[]){-1.5}, 1) == 1);
    CHECK(peek(&scene, 10, &start) == 2 && start == 0);
    const struct core_record *first = record_at(&scene, 0), *second = record_at(&scene, 1);
    CHECK(first->ts_ns == 123 && first->frame == 77 && first->symbol == 1 && first->count == 6 && first->values[5] == 6);
    CHECK(second->ts_ns == 0 && second->frame == 456 && second->symbol == 2 && second->count == 1 && second->values[0] == -1.5);
    CHECK(first->posted_ns > 0 && second->posted_ns >= first->posted_ns);
    CHECK(first->cookie == scene.cookie && second->cookie == scene.cookie);
    core_results_release(scene.results, 2);
    expect_stats(&scene, 2, 0, 0, 0);
    scene_free(&scene);
}

static void what_does_not_fit_its_source_is_refused(void) {
    struct scene scene = scene_new(4);
    signal_one(&scene, "x", 0, MAX_VALUES + 1);
    signal_one(&scene, "x", 0, -1);
    core_signal_callback("x", 0, NULL, 1, (void *)(uintptr_t)scene.cookie);
    CHECK(!core_post(scene.cookie, 0, 0, (double[MAX_VALUES + 1]){0}, MAX_VALUES + 1));
    CHECK(!core_post(scene.cookie, SYMBOLS, 0, NULL, 0));
    expect_stats(&scene, 5, 0, 5, 0);
    CHECK(core_post(scene.cookie, 0, 0, NULL, 0));
    core_signal_callback("x", 0, NULL, 0, (void *)(uintptr_t)scene.cookie);
    expect_stats(&scene, 7, 0, 5, 2);
    CHECK(core_results_unknown(scene.results)[0] == 0);
    scene_free(&scene);
}

static void the_first_unknown_symbol_is_kept(void) {
    struct scene scene = scene_new(4);
    char name[100];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    signal_one(&scene, name, 0, 1);
    signal_one(&scene, "another", 0, 1);
    signal_one(&scene, NULL, 0, 1);
    CHECK(strlen(core_results_unknown(scene.results)) == 63 && !strncmp(core_results_unknown(scene.results), name, 63));
    expect_stats(&scene, 3, 0, 3, 0);
    scene_free(&scene);
}

static void the_first_record_that_is_too_long_is_named(void) {
    struct scene scene = scene_new(4);
    uint32_t symbol, count;
    signal_one(&scene, "x", 0, MAX_VALUES);
    CHECK(!core_results_too_long(scene.results, &symbol, &count));
    signal_one(&scene, "x", 0, MAX_VALUES + 1);
    CHECK(!core_post(scene.cookie, 0, 0, (double[MAX_VALUES + 2]){0}, MAX_VALUES + 2));
    CHECK(core_results_too_long(scene.results, &symbol, &count) && symbol == 2 && count == MAX_VALUES + 1);
    scene_free(&scene);
    scene = scene_new(4);
    CHECK(!core_post(scene.cookie, 0, 0, (double[MAX_VALUES + 2]){0}, MAX_VALUES + 2));
    CHECK(core_results_too_long(scene.results, &symbol, &count) && symbol == 0 && count == MAX_VALUES + 2);
    scene_free(&scene);
}

static void records_of_an_earlier_handle_are_told_apart(void) {
    struct scene scene = scene_new(8);
    struct core_span span;
    signal_one(&scene, "x", 0, 1);
    CHECK(core_handle_close(scene.cookie) && core_handle_release(scene.cookie));
    uint64_t earlier = scene.cookie;
    scene.cookie = core_handle_open(scene.results);
    signal_one(&scene, "x", 1, 1);
    signal_one(&scene, "x", 2, 1);
    CHECK(core_results_peek(scene.results, scene.cookie, 8, &span) == 3 && span.strange == 1);
    CHECK(core_results_peek(scene.results, earlier, 8, &span) == 3 && span.strange == 2);
    scene_free(&scene);
}

static void late_posts_reach_nobody(void) {
    struct scene scene = scene_new(4);
    core_handle_close(scene.cookie);
    signal_one(&scene, "x", 0, 1);
    CHECK(core_post(scene.cookie, 0, 0, NULL, 0) == 0);
    expect_stats(&scene, 0, 0, 0, 0);
    CHECK(core_handle_release(scene.cookie));
    core_results_free(scene.results);
}

static void a_full_ring_drops_the_newest(void) {
    for (uint32_t capacity = 1; capacity <= 8; capacity++) {
        struct scene scene = scene_new(capacity);
        uint32_t room = scene.results->capacity, start;
        CHECK(room >= capacity);
        for (uint32_t i = 0; i < room + 3; i++)
            CHECK(core_post(scene.cookie, 0, i, NULL, 0) == (i < room));
        expect_stats(&scene, room + 3, 3, 0, room);
        CHECK(peek(&scene, 100, &start) == room && start == 0);
        for (uint32_t i = 0; i < room; i++)
            CHECK(record_at(&scene, i)->frame == i);
        core_results_release(scene.results, 1);
        CHECK(core_post(scene.cookie, 0, 1000, NULL, 0) && !core_post(scene.cookie, 0, 0, NULL, 0));
        core_results_release(scene.results, peek(&scene, 100, &start));
        CHECK(peek(&scene, 100, &start) == 1 && record_at(&scene, start)->frame == 1000);
        scene_free(&scene);
    }
}

/* Past 2 MiB the memory is untouched until it is posted into. */
static void a_large_ring_is_as_exact_as_a_small_one(void) {
    struct scene scene = scene_new(65536);
    uint32_t room = scene.results->capacity, start;
    CHECK(room == 65536 && (size_t)room * scene.results->stride > 2u << 20);
    CHECK(peek(&scene, room, &start) == 0);
    for (uint32_t lap = 0; lap < 3; lap++) {
        for (uint32_t i = 0; i <= room; i++)
            CHECK(core_post(scene.cookie, 0, (uint64_t)lap * room + i, NULL, 0) == (i < room));
        CHECK(peek(&scene, room + 1, &start) == room && start == 0);
        for (uint32_t i = 0; i < room; i++)
            CHECK(record_at(&scene, i)->frame == (uint64_t)lap * room + i);
        core_results_release(scene.results, room);
        CHECK(peek(&scene, room, &start) == 0);
    }
    expect_stats(&scene, 3u * room + 3, 3, 0, 0);
    scene_free(&scene);
}

#define PRODUCERS 4u
#define POSTS (SANITIZED ? 150000u : 400000u) /* of each producer */

struct producer {
    const struct scene *scene;
    uint32_t number;
    uint64_t bad; /* posts that had to be refused */
    _Atomic uint64_t *seen; /* records the consumer has taken, or NULL: do not wait for it */
};

/* Post number n of producer p: its time stamp or frame is n, its values follow from both. */
static void post(struct producer *producer, uint32_t n) {
    double values[MAX_VALUES + 1];
    uint32_t count = n % 101 == 100 ? MAX_VALUES + 1 : 1 + n % MAX_VALUES;
    for (uint32_t i = 0; i < count; i++)
        values[i] = producer->number * 1e9 + n + i;
    const char *name = n % 97 == 96 ? "nonsense" : names[n % SYMBOLS];
    producer->bad += n % 101 == 100 || n % 97 == 96;
    if (producer->number % 2)
        core_signal_callback(name, n, values, (int)count, (void *)(uintptr_t)producer->scene->cookie);
    else
        core_post(producer->scene->cookie, n % 97 == 96 ? SYMBOLS : n % SYMBOLS, n, values, count);
}

static void *produce(void *argument) {
    struct producer *producer = argument;
    for (uint32_t n = 0; n < POSTS; n++)
        post(producer, n);
    return NULL;
}

/* Check one record against its number and the last one of its producer. */
static void check_record(const struct core_record *record, int64_t *last) {
    uint32_t producer = (uint32_t)(record->values[0] / 1e9);
    CHECK(producer < PRODUCERS);
    int64_t n = producer % 2 ? record->ts_ns : (int64_t)record->frame;
    CHECK(n > last[producer]);
    last[producer] = n;
    CHECK(record->symbol == n % SYMBOLS && record->count == 1 + n % MAX_VALUES);
    for (uint32_t i = 0; i < record->count; i++)
        CHECK(record->values[i] == producer * 1e9 + (double)n + i);
}

/* Take what is there; returns how many. */
static uint32_t drain(const struct scene *scene, uint32_t limit, int64_t *last) {
    uint32_t start, count = peek(scene, limit, &start);
    for (uint32_t i = 0; i < count; i++)
        check_record(record_at(scene, start + i), last);
    core_results_release(scene->results, count);
    return count;
}

static void the_account_is_exact_with_four_producers_and_a_stalling_consumer(void) {
    struct scene scene = scene_new(256);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    for (uint32_t p = 0; p < PRODUCERS; p++) {
        producers[p] = (struct producer){.scene = &scene, .number = p};
        threads[p] = thread_start(produce, &producers[p]);
    }
    struct core_results_stats stats;
    int64_t last[PRODUCERS] = {-1, -1, -1, -1};
    uint64_t delivered = 0, random = 6;
    do {
        delivered += drain(&scene, draw(&random, 100) + 1, last);
        if (!draw(&random, 50))
            dawdle(&random, 50);
        core_results_stats(scene.results, &stats);
    } while (stats.posted < (uint64_t)PRODUCERS * POSTS);
    uint64_t bad = 0;
    for (uint32_t p = 0; p < PRODUCERS; p++) {
        thread_join(threads[p]);
        bad += producers[p].bad;
    }
    core_results_stats(scene.results, &stats);
    CHECK(stats.posted == (uint64_t)PRODUCERS * POSTS && stats.refused == bad);
    CHECK(stats.posted == delivered + stats.dropped + stats.refused + stats.queued);
    for (uint32_t count; (count = drain(&scene, 100, last)); delivered += count) {
    }
    CHECK(stats.posted == delivered + stats.dropped + stats.refused && delivered && stats.dropped);
    CHECK(!strcmp(core_results_unknown(scene.results), "nonsense") || !core_results_unknown(scene.results)[0]);
    scene_free(&scene);
}

#define CROWD 3u
#define CROWDED (SANITIZED ? 2000u : 10000u) /* of each */

struct crowd {
    const struct scene *scene;
    uint32_t posts;
    _Atomic uint32_t left; /* threads that have not ended */
};

static void *press(void *argument) {
    struct crowd *crowd = argument;
    for (uint32_t n = 0; n < crowd->posts; n++)
        signal_one(crowd->scene, "x", n, 1);
    atomic_fetch_sub(&crowd->left, 1);
    return NULL;
}

/* Three engines press into eight records while the drain takes its time; returns how many posts were dropped. */
static uint64_t crowded(int patient) {
    struct scene scene = scene_new(8);
    struct crowd crowd = {&scene, CROWDED, CROWD};
    pthread_t threads[CROWD];
    core_results_patient(scene.results, patient);
    for (uint32_t i = 0; i < CROWD; i++)
        threads[i] = thread_start(press, &crowd);
    uint64_t taken = 0, random = 7;
    for (uint32_t start, count = 0; count || atomic_load(&crowd.left); taken += count) {
        count = peek(&scene, 8, &start);
        core_results_release(scene.results, count);
        dawdle(&random, 3);
    }
    for (uint32_t i = 0; i < CROWD; i++)
        thread_join(threads[i]);
    uint32_t start, rest = peek(&scene, 8, &start);
    struct core_results_stats stats;
    core_results_stats(scene.results, &stats);
    CHECK(stats.posted == CROWD * CROWDED && stats.posted == taken + stats.dropped + stats.queued && stats.queued >= rest);
    scene_free(&scene);
    return stats.dropped;
}

static void a_patient_ring_loses_nothing(void) {
    CHECK(crowded(1) == 0);
    CHECK(crowded(0) > 0); /* negative control */
}

static void wait_for_posts(const struct scene *scene, uint64_t posts) {
    while (atomic_load(&scene->results->books->posted) < posts)
        sched_yield();
}

/* One engine that waits in a full ring; `let_go` is what ends its wait. */
static void wait_in_a_full_ring(void (*let_go)(const struct scene *scene), uint64_t dropped) {
    struct scene scene = scene_new(2);
    struct crowd crowd = {&scene, 3, 1};
    core_results_patient(scene.results, 1);
    pthread_t thread = thread_start(press, &crowd);
    wait_for_posts(&scene, 3);
    let_go(&scene);
    thread_join(thread);
    expect_stats(&scene, 3, dropped, 0, 2);
    core_handle_close(scene.cookie);
    CHECK(core_handle_release(scene.cookie));
    core_results_free(scene.results);
}

static void by_room(const struct scene *scene) { core_results_release(scene->results, 1); }
static void by_closing(const struct scene *scene) { CHECK(core_handle_close(scene->cookie)); }
static void by_withdrawing(const struct scene *scene) { core_results_patient(scene->results, 0); }

static void a_poster_waits_for_room_until_nobody_wants_it_to(void) {
    wait_in_a_full_ring(by_room, 0);
    wait_in_a_full_ring(by_closing, 1);
    wait_in_a_full_ring(by_withdrawing, 1);
}

static void core_post_never_waits(void) {
    struct scene scene = scene_new(2);
    core_results_patient(scene.results, 1);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(core_post(scene.cookie, 0, i, NULL, 0) == (i < 2));
    expect_stats(&scene, 3, 1, 0, 2);
    scene_free(&scene);
}

#define WAKES (SANITIZED ? 10000u : 30000u) /* of each producer */

/* Post, then wait until the consumer has taken it: so it goes to sleep again and again. */
static void *post_and_wait(void *argument) {
    struct producer *producer = argument;
    for (uint32_t n = 0; n < WAKES; n++) {
        double value = producer->number * 1e9 + n;
        CHECK(core_post(producer->scene->cookie, 0, n, &value, 1));
        while (atomic_load(producer->seen) <= n)
            sched_yield();
    }
    return NULL;
}

static void a_consumer_on_the_bell_misses_nothing(void) {
    struct scene scene = scene_new(64);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    static _Atomic uint64_t seen[PRODUCERS];
    for (uint32_t p = 0; p < PRODUCERS; p++) {
        producers[p] = (struct producer){.scene = &scene, .number = p, .seen = &seen[p]};
        threads[p] = thread_start(post_and_wait, &producers[p]);
    }
    for (uint64_t taken = 0; taken < (uint64_t)PRODUCERS * WAKES;) {
        uint32_t start, count = peek(&scene, 64, &start);
        for (uint32_t i = 0; i < count; i++)
            atomic_fetch_add(&seen[(uint32_t)(record_at(&scene, start + i)->values[0] / 1e9)], 1);
        core_results_release(scene.results, count);
        taken += count;
        if (count)
            continue;
        core_bell_arm(bell);
        if (!peek(&scene, 1, &start))
            CHECK(readable(core_bell_descriptor(bell), -1));
    }
    for (uint32_t p = 0; p < PRODUCERS; p++)
        thread_join(threads[p]);
    scene_free(&scene);
}

/* A record as another process would send it, at an odd address. */
static void put(unsigned char *at, uint32_t symbol, uint32_t count) {
    struct core_record record = {.ts_ns = 5, .frame = 1, .posted_ns = 9, .cookie = 12345, .symbol = symbol, .count = count};
    memcpy(at, &record, sizeof record);
    for (uint32_t i = 0; i < MAX_VALUES; i++)
        memcpy(at + sizeof record + i * sizeof(double), &(double){i + 0.5}, sizeof(double));
}

/* What another process sends is posted with its own times, at the frame of now; symbols and lengths that cannot be are refused. */
static void what_was_sent_is_appended_or_refused(void) {
    enum { STRIDE = sizeof(struct core_record) + MAX_VALUES * sizeof(double) };
    static unsigned char sent[6 * STRIDE + 1];
    const uint32_t parts[6][2] = {{0, 2}, {SYMBOLS, 1}, {1, MAX_VALUES + 1}, {UINT32_MAX, UINT32_MAX}, {2, MAX_VALUES}, {1, 0}};
    for (uint32_t i = 0; i < 6; i++)
        put(sent + 1 + i * STRIDE, parts[i][0], parts[i][1]);
    struct scene scene = scene_new(2);
    CHECK(core_results_append(scene.cookie, sent + 1, 6, STRIDE) == 6);
    expect_stats(&scene, 6, 1, 3, 2); /* the last finds no room */
    uint32_t start;
    CHECK(peek(&scene, 4, &start) == 2);
    const struct core_record *record = record_at(&scene, start + 1);
    CHECK(record->symbol == 2 && record->count == MAX_VALUES && record->ts_ns == 5 && record->posted_ns == 9);
    CHECK(record->frame == 77 && record->cookie == scene.cookie && record->values[MAX_VALUES - 1] == MAX_VALUES - 0.5);
    CHECK(core_results_append(scene.cookie, sent + 1, 6, sizeof(struct core_record) - 1) == 0);
    core_results_release(scene.results, 2);
    CHECK(core_handle_close(scene.cookie));
    CHECK(core_results_append(scene.cookie, sent + 1, 1, STRIDE) == 0);
    CHECK(core_handle_release(scene.cookie));
    core_results_free(scene.results);
}

static void books_may_lie_elsewhere(void) {
    static struct core_books books;
    struct scene scene = scene_new(2);
    core_results_set_books(scene.results, &books);
    for (int i = 0; i < 3; i++)
        signal_one(&scene, "x", 1, 1);
    signal_one(&scene, "y", 1, 1);
    expect_stats(&scene, 4, 1, 1, 2);
    CHECK(books.posted == 4 && books.dropped == 1 && books.refused == 1 && !strcmp(books.unknown, "y"));
    scene_free(&scene);
}

int main(void) {
    symbols = core_symbols_new(names, SYMBOLS);
    bell = core_bell_new();
    CHECK(symbols && bell);
    a_record_says_what_was_posted();
    what_does_not_fit_its_source_is_refused();
    the_first_unknown_symbol_is_kept();
    the_first_record_that_is_too_long_is_named();
    records_of_an_earlier_handle_are_told_apart();
    late_posts_reach_nobody();
    a_full_ring_drops_the_newest();
    a_large_ring_is_as_exact_as_a_small_one();
    the_account_is_exact_with_four_producers_and_a_stalling_consumer();
    a_patient_ring_loses_nothing();
    a_poster_waits_for_room_until_nobody_wants_it_to();
    core_post_never_waits();
    a_consumer_on_the_bell_misses_nothing();
    what_was_sent_is_appended_or_refused();
    books_may_lie_elsewhere();
    core_symbols_free(symbols);
    core_bell_free(bell);
}
