/* Symbols: names to numbers. */
#include "symbols.h"

#include <string.h>

#include "check.h"

static void symbols_are_found_by_name(void) {
    static const char *const names[] = {"peak_db", "rms_db", "x", "", "peak_db_but_much_longer"};
    struct core_symbols *symbols = core_symbols_new(names, 5);
    CHECK(symbols && symbols_count(symbols) == 5);
    for (uint32_t i = 0; i < 5; i++)
        CHECK(symbols_find(symbols, names[i]) == i);
    CHECK(symbols_find(symbols, "peak_d") == -1 && symbols_find(symbols, "peak_dbx") == -1);
    core_symbols_free(symbols);
}

static void a_source_may_have_no_symbols(void) {
    struct core_symbols *none = core_symbols_new(NULL, 0);
    CHECK(none && symbols_count(none) == 0 && symbols_find(none, "x") == -1);
    core_symbols_free(none);
    core_symbols_free(NULL);
}

static void a_thousand_symbols_are_found_by_name(void) {
    static char text[1000][16];
    static const char *list[1000];
    for (int i = 0; i < 1000; i++) {
        snprintf(text[i], sizeof text[i], "s%d", i);
        list[i] = text[i];
    }
    struct core_symbols *many = core_symbols_new(list, 1000);
    memset(text, 0, sizeof text);
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        CHECK(symbols_find(many, name) == i);
    }
    core_symbols_free(many);
}

int main(void) {
    symbols_are_found_by_name();
    a_source_may_have_no_symbols();
    a_thousand_symbols_are_found_by_name();
}
