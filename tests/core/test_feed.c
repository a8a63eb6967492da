/* Records into an engine: each once, in order, with its kind; a stop is answered between two records. */
#include "feed.h"

#include "check.h"

struct record {
    uint32_t number;
    char padding[12];
};

struct listener {
    uint32_t next, stop_at;
    _Atomic uint32_t stop;
};

static void on_data(void *handle, int type, const void *data) {
    struct listener *listener = handle;
    const struct record *record = data;
    CHECK(record->number == listener->next);
    CHECK(type == (record->number < 3 ? 101 : 103));
    if (++listener->next == listener->stop_at)
        atomic_store(&listener->stop, 1);
}

static uint64_t feed(struct listener *listener) {
    struct record records[10] = {{0}};
    for (uint32_t i = 0; i < 10; i++)
        records[i].number = i;
    const struct core_span spans[] = {
        {.records = records, .count = 3, .stride = sizeof *records, .type = 101},
        {.records = records, .count = 0, .stride = sizeof *records, .type = 102},
        {.records = records + 3, .count = 7, .stride = sizeof *records, .type = 103},
    };
    return core_feed(on_data, listener, spans, 3, &listener->stop);
}

static void every_record_arrives_once_in_order(void) {
    struct listener listener = {.stop_at = 100};
    CHECK(feed(&listener) == 10 && listener.next == 10);
}

static void a_stop_ends_it_and_the_rest_is_not_counted(void) {
    for (uint32_t stop_at = 1; stop_at <= 10; stop_at++) {
        struct listener listener = {.stop_at = stop_at};
        CHECK(feed(&listener) == stop_at && listener.next == stop_at);
    }
}

int main(void) {
    every_record_arrives_once_in_order();
    a_stop_ends_it_and_the_rest_is_not_counted();
}
