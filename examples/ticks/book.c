/* book.c - a signal engine for market data as an example: what the order book and the trades say about each symbol.

   With every depth record it posts under that record's symbol and time:
     the middle between the best bid and the best ask,
     the imbalance of the sizes on all levels, from -1 (only asks) to 1 (only bids),
     the volume-weighted average price of the trades so far, once there was one.
   It has no thread of its own: it calls the host back from within signal_on_data. */
#include "sigrack_signal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BOOKS 256

struct book {
    char symbol[SIGNAL_SYMBOL_SIZE];
    double value, quantity; /* of all trades */
};

struct engine {
    signal_callback callback;
    void *user;
    unsigned count;
    struct book books[MAX_BOOKS];
};

/* Return the book of a symbol, a new one if need be; NULL when there are too many. */
static struct book *find(struct engine *engine, const char *symbol) {
    for (unsigned i = 0; i < engine->count; i++)
        if (!strcmp(engine->books[i].symbol, symbol))
            return &engine->books[i];
    if (engine->count == MAX_BOOKS)
        return NULL;
    struct book *book = &engine->books[engine->count++];
    memcpy(book->symbol, symbol, sizeof book->symbol);
    return book;
}

static double sum(const double *sizes, uint32_t levels) {
    double total = 0;
    for (uint32_t i = 0; i < levels; i++)
        total += sizes[i];
    return total;
}

static void on_depth(struct engine *engine, const struct signal_depth *depth) {
    struct book *book = find(engine, depth->symbol);
    if (!book || !depth->levels || !engine->callback)
        return;
    double bids = sum(depth->bid_size, depth->levels), asks = sum(depth->ask_size, depth->levels);
    double values[3] = {
        (depth->bid_price[0] + depth->ask_price[0]) / 2,
        bids + asks > 0 ? (bids - asks) / (bids + asks) : 0,
        book->quantity > 0 ? book->value / book->quantity : 0,
    };
    engine->callback(depth->symbol, depth->ts_ns, values, book->quantity > 0 ? 3 : 2, engine->user);
}

static void on_trade(struct engine *engine, const struct signal_trade *trade) {
    struct book *book = find(engine, trade->symbol);
    if (!book)
        return;
    book->value += trade->price * trade->quantity;
    book->quantity += trade->quantity;
}

/* What the host calls */

int signal_abi_version(void) { return SIGRACK_SIGNAL_ABI; }

int signal_data_size(int type) {
    switch (type) {
    case SIGNAL_DEPTH:
        return (int)sizeof(struct signal_depth);
    case SIGNAL_TRADE:
        return (int)sizeof(struct signal_trade);
    default:
        return 0;
    }
}

void *signal_create(const char *config_json) {
    if (strcmp(config_json, "{}")) {
        fprintf(stderr, "book: cannot use the configuration %.200s: there is nothing to set\n", config_json);
        return NULL;
    }
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        fputs("book: out of memory\n", stderr);
    return engine;
}

int signal_register_callback(void *handle, signal_callback callback, void *user) {
    struct engine *engine = handle;
    engine->callback = callback;
    engine->user = user;
    return 0;
}

void signal_on_data(void *handle, int type, const void *data) {
    if (type == SIGNAL_DEPTH)
        on_depth(handle, data);
    else if (type == SIGNAL_TRADE)
        on_trade(handle, data);
}

void signal_destroy(void *handle) { free(handle); }
