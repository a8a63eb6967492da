#include "symbols.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

struct core_symbols {
    uint32_t count, buckets; /* buckets: a power of two, at least twice the count, so probing ends */
    uint32_t *table;         /* number + 1, 0 is empty */
    char **names;
    char *text;
};

static uint32_t hash(const char *name) { /* FNV-1a */
    uint32_t value = 2166136261u;
    for (; *name; name++)
        value = (value ^ (unsigned char)*name) * 16777619u;
    return value;
}

static size_t copy_names(struct core_symbols *symbols, const char *const *names) {
    size_t used = 0;
    for (uint32_t i = 0; i < symbols->count; i++) {
        size_t length = strlen(names[i]) + 1;
        if (symbols->text) {
            symbols->names[i] = memcpy(symbols->text + used, names[i], length);
            uint32_t bucket = hash(names[i]) & (symbols->buckets - 1);
            while (symbols->table[bucket])
                bucket = (bucket + 1) & (symbols->buckets - 1);
            symbols->table[bucket] = i + 1;
        }
        used += length;
    }
    return used;
}

struct core_symbols *core_symbols_new(const char *const *names, uint32_t count) {
    struct core_symbols *symbols = core_take(sizeof *symbols);
    if (!symbols)
        return NULL;
    symbols->count = count;
    symbols->buckets = core_power_of_two(2 * count + 1);
    symbols->table = core_take(symbols->buckets * sizeof *symbols->table);
    symbols->names = core_take((count + 1) * sizeof *symbols->names);
    char *text = core_take(copy_names(symbols, names) + 1);
    if (!symbols->table || !symbols->names || !text) {
        free(text);
        core_symbols_free(symbols);
        return NULL;
    }
    symbols->text = text;
    copy_names(symbols, names);
    return symbols;
}

void core_symbols_free(struct core_symbols *symbols) {
    if (!symbols)
        return;
    free(symbols->table);
    free(symbols->names);
    free(symbols->text);
    free(symbols);
}

int64_t symbols_find(const struct core_symbols *symbols, const char *name) {
    uint32_t bucket = hash(name) & (symbols->buckets - 1);
    for (; symbols->table[bucket]; bucket = (bucket + 1) & (symbols->buckets - 1)) {
        uint32_t number = symbols->table[bucket] - 1;
        if (!strcmp(symbols->names[number], name))
            return number;
    }
    return -1;
}

uint32_t symbols_count(const struct core_symbols *symbols) { return symbols->count; }
