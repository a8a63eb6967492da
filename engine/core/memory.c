#define _DEFAULT_SOURCE /* madvise */
#include "memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)
/* From here on what is rounded up is little. */
#define HUGE_LEAST (2 * HUGE_PAGE)

void *core_take(size_t size) {
    size_t unit = size < HUGE_LEAST ? CORE_CACHE_LINE : HUGE_PAGE, rounded = (size + unit - 1) / unit * unit;
    void *memory = rounded >= size && rounded ? aligned_alloc(unit, rounded) : NULL;
#ifdef MADV_HUGEPAGE
    if (memory && unit == HUGE_PAGE)
        madvise(memory, rounded, MADV_HUGEPAGE); /* a wish */
#endif
    return memory ? memset(memory, 0, rounded) : NULL;
}
