#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "results.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "handle.h"
#include "memory.h"
#include "symbols.h"
#include "ticks.h"

#define PATIENCE_NS 50000

static struct core_record *record_at(const struct core_results *results, uint64_t position) {
    return (void *)(results->records + (position & (results->capacity - 1)) * results->stride);
}

/* The sequence of a record that is free for `position`: 0 in the first round. One more: published. (D. Vyukov's bounded queue,
   counted from each record's index.) */
static uint64_t round_of(const struct core_results *results, uint64_t position) {
    return position & ~(uint64_t)(results->capacity - 1);
}

struct core_results *core_results_new(uint32_t capacity, uint32_t max_values, const struct core_symbols *symbols,
                                      struct core_bell *bell, const _Atomic uint64_t *frame_now) {
    uint32_t rounded = core_power_of_two(capacity < 2 ? 2 : capacity); /* one record alone could not tell full from free */
    if (!capacity || !rounded || !bell)
        return NULL;
    uint32_t line = CORE_CACHE_LINE;
    uint32_t stride = ((uint32_t)sizeof(struct core_record) + max_values * (uint32_t)sizeof(double) + line - 1) / line * line;
    struct core_results *results = core_take(sizeof *results);
    /* core_take writes to all of it: no poster is to be the first on a page. */
    unsigned char *records = core_take((size_t)rounded * stride);
    if (!results || !records) {
        free(records);
        free(results);
        return NULL;
    }
    results->books = &results->own_books;
    results->bell = bell;
    results->frame_now = frame_now;
    results->symbols = symbols;
    results->capacity = rounded;
    results->stride = stride;
    results->max_values = max_values;
    results->records = records;
    return results;
}

void core_results_free(struct core_results *results) {
    if (!results)
        return;
    free(results->records);
    free(results);
}

void core_results_set_books(struct core_results *results, struct core_books *books) { results->books = books; }

static void count_up(_Atomic uint64_t *counter) { atomic_fetch_add_explicit(counter, 1, memory_order_relaxed); }

/* Claim the next record, or return NULL when the ring is full. */
static struct core_record *claim(struct core_results *results, uint64_t *position) {
    uint64_t tail = atomic_load_explicit(&results->tail, memory_order_relaxed);
    for (;;) {
        struct core_record *record = record_at(results, tail);
        uint64_t sequence = atomic_load_explicit(&record->sequence, memory_order_acquire);
        int64_t ahead = (int64_t)(sequence - round_of(results, tail));
        if (ahead < 0)
            return NULL;
        if (ahead > 0) {
            tail = atomic_load_explicit(&results->tail, memory_order_relaxed);
            continue;
        }
        if (atomic_compare_exchange_weak_explicit(&results->tail, &tail, tail + 1, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            *position = tail;
            return record;
        }
    }
}

/* Claim a record as soon as the drain has made room; NULL when nobody is to wait, or no longer. */
static struct core_record *claim_patiently(struct core_results *results, uint64_t cookie, uint64_t *position) {
    struct core_record *record;
    while (!(record = claim(results, position)) && atomic_load_explicit(&results->patient, memory_order_relaxed) &&
           handle_is_open(cookie))
        nanosleep(&(struct timespec){0, PATIENCE_NS}, NULL);
    return record;
}

/* Keep the first one for the log. */
static void note_too_long(struct core_results *results, uint32_t symbol, uint32_t count) {
    uint64_t none = 0;
    atomic_compare_exchange_strong(&results->books->too_long, &none, (uint64_t)(symbol + 1) << 32 | count);
}

/* What a poster knows of its record. */
struct post {
    uint64_t cookie;
    int may_wait;
    int64_t ts_ns;
    uint64_t frame;
    int64_t posted_ns; /* 0: now */
    uint32_t symbol;
    const void *values; /* doubles */
    uint32_t count;
};

static int push(struct core_results *results, const struct post *post) {
    if (post->count > results->max_values) {
        count_up(&results->books->refused);
        note_too_long(results, post->symbol, post->count);
        return 0;
    }
    uint64_t position;
    struct core_record *record =
        post->may_wait ? claim_patiently(results, post->cookie, &position) : claim(results, &position);
    if (!record) {
        count_up(&results->books->dropped);
        return 0;
    }
    record->ts_ns = post->ts_ns;
    record->frame = post->frame;
    record->posted_ns = post->posted_ns ? post->posted_ns : core_now_ns();
    record->cookie = post->cookie;
    record->symbol = post->symbol;
    record->count = post->count;
    if (post->count)
        memcpy(record->values, post->values, post->count * sizeof(double));
    atomic_store_explicit(&record->sequence, round_of(results, position) + 1, memory_order_release);
    core_bell_ring(results->bell);
    return 1;
}

/* Keep the first unknown name for the log; the second poster does not wait for the first. */
static void note_unknown(struct core_books *books, const char *name) {
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong(&books->unknown_state, &none, 1))
        return;
    size_t length = 0;
    while (length + 1 < sizeof books->unknown && name[length])
        length++;
    memcpy(books->unknown, name, length);
    books->unknown[length] = 0;
    atomic_store_explicit(&books->unknown_state, 2, memory_order_release);
}

static uint64_t frame_now(const struct core_results *results) {
    return results->frame_now ? atomic_load_explicit(results->frame_now, memory_order_relaxed) : 0;
}

void core_signal_callback(const char *symbol, long long ts_ns, const double *values, int count, void *user) {
    uint64_t cookie = (uint64_t)(uintptr_t)user;
    struct core_results *results = handle_enter(cookie);
    if (!results)
        return;
    count_up(&results->books->posted);
    int64_t number = symbol ? symbols_find(results->symbols, symbol) : -1;
    if (number < 0 || count < 0 || (count && !values)) {
        count_up(&results->books->refused);
        if (number < 0)
            note_unknown(results->books, symbol ? symbol : "(null)");
    } else {
        push(results, &(struct post){cookie, 1, ts_ns, frame_now(results), 0, (uint32_t)number, values, (uint32_t)count});
    }
    handle_leave(cookie);
}

int core_post(uint64_t cookie, uint32_t factor, uint64_t frame, const double *values, uint32_t count) {
    struct core_results *results = handle_enter(cookie);
    if (!results)
        return 0;
    count_up(&results->books->posted);
    int queued = 0;
    if (factor < symbols_count(results->symbols))
        queued = push(results, &(struct post){cookie, 0, 0, frame, 0, factor, values, count});
    else
        count_up(&results->books->refused);
    handle_leave(cookie);
    return queued;
}

static void append(struct core_results *results, uint64_t cookie, const unsigned char *from, uint32_t stride) {
    struct core_record record;
    memcpy(&record, from, sizeof record);
    count_up(&results->books->posted);
    if (record.symbol >= symbols_count(results->symbols) || record.count > (stride - sizeof record) / sizeof(double)) {
        count_up(&results->books->refused);
        return;
    }
    push(results, &(struct post){cookie, 0, record.ts_ns, frame_now(results), record.posted_ns, record.symbol,
                                 from + sizeof record, record.count});
}

uint32_t core_results_append(uint64_t cookie, const void *records, uint32_t count, uint32_t stride) {
    struct core_results *results = stride < sizeof(struct core_record) ? NULL : handle_enter(cookie);
    if (!results)
        return 0;
    for (uint32_t i = 0; i < count; i++)
        append(results, cookie, (const unsigned char *)records + (size_t)i * stride, stride);
    handle_leave(cookie);
    return count;
}

void core_results_patient(struct core_results *results, int patient) { atomic_store(&results->patient, patient); }

uint32_t core_results_peek(struct core_results *results, uint64_t cookie, uint32_t limit, struct core_span *span) {
    uint64_t head = atomic_load_explicit(&results->head, memory_order_relaxed);
    uint32_t index = (uint32_t)head & (results->capacity - 1);
    uint32_t room = results->capacity - index;
    uint32_t most = limit < room ? limit : room;
    uint64_t published = round_of(results, head) + 1; /* the same up to the ring's end */
    *span = (struct core_span){.start = index};
    for (; span->count < most; span->count++) {
        const struct core_record *record = record_at(results, head + span->count);
        if (atomic_load_explicit(&record->sequence, memory_order_acquire) != published)
            break;
        span->strange += record->cookie != cookie;
    }
    return span->count;
}

void core_results_release(struct core_results *results, uint32_t count) {
    uint64_t head = atomic_load_explicit(&results->head, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++)
        atomic_store_explicit(&record_at(results, head + i)->sequence, round_of(results, head + i) + results->capacity,
                              memory_order_release);
    atomic_store_explicit(&results->head, head + count, memory_order_release);
}

void *core_results_memory(struct core_results *results) { return results->records; }

void core_results_stats(struct core_results *results, struct core_results_stats *stats) {
    stats->posted = atomic_load(&results->books->posted);
    stats->dropped = atomic_load(&results->books->dropped);
    stats->refused = atomic_load(&results->books->refused);
    uint64_t head = atomic_load(&results->head);
    stats->queued = atomic_load(&results->tail) - head;
}

const char *core_results_unknown(struct core_results *results) {
    const struct core_books *books = results->books;
    return atomic_load_explicit(&books->unknown_state, memory_order_acquire) == 2 ? books->unknown : "";
}

int core_results_too_long(struct core_results *results, uint32_t *symbol, uint32_t *count) {
    uint64_t first = atomic_load_explicit(&results->books->too_long, memory_order_relaxed);
    *symbol = (uint32_t)(first >> 32) - 1;
    *count = (uint32_t)first;
    return first != 0;
}
