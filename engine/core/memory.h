/* memory.h - cache-aligned, zeroed, touched memory; taken at set-up, never on the engine thread. */
#ifndef SIGRACK_MEMORY_H
#define SIGRACK_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define CORE_CACHE_LINE 64

/* Returns NULL when out of memory; free with free(). Written once, so that the engine thread never meets a page fault. What is large lies
   in huge pages where the system has them: the spectra of long filters are read through once per block, page after page. [control] */
void *core_take(size_t size);

/* The smallest power of two that is not below `wish`, at least 1; 0 if there is none. [any] */
static inline uint32_t core_power_of_two(uint32_t wish) {
    uint32_t power = 1;
    while (power && power < wish)
        power <<= 1;
    return power;
}

#endif
