/* symbols.h - names that a source may use, fixed when it is opened: looking one up takes no lock and waits for nobody. */
#ifndef SIGRACK_SYMBOLS_H
#define SIGRACK_SYMBOLS_H

#include <stdint.h>

#include "core.h"

struct core_symbols;

/* `names` are copied; an index into them is the symbol's number. NULL when out of memory. [control] */
CORE_API struct core_symbols *core_symbols_new(const char *const *names, uint32_t count);
CORE_API void core_symbols_free(struct core_symbols *symbols);

/* The number of `name`, or -1. [any, wait-free] */
int64_t symbols_find(const struct core_symbols *symbols, const char *name);
/* How many there are. [any] */
uint32_t symbols_count(const struct core_symbols *symbols);

#endif
