/* handle.h - what a foreign thread holds instead of a pointer: a 64-bit cookie into a table that is never freed.

   The cookie is (generation << 12 | slot). A late caller finds another generation or a closed slot, is counted and leaves; it
   never touches memory that the host has freed, because the table is static and the library is never unmapped. */
#ifndef SIGRACK_HANDLE_H
#define SIGRACK_HANDLE_H

#include <stdint.h>

#include "core.h"

#define HANDLE_SLOTS 4096u

/* Bind `target` to a free slot. Returns 0 when the table is full. [control] */
CORE_API uint64_t core_handle_open(void *target);
/* Let nobody in any more. Returns 1 for the call that closed it, else 0. [any] */
CORE_API int core_handle_close(uint64_t cookie);
/* Give a closed slot back once nobody is inside: returns 1, and from then on `target` is the caller's alone; else 0: ask again.
   [control] */
CORE_API int core_handle_release(uint64_t cookie);
/* Slots in use. [any] */
CORE_API uint32_t core_handle_count(void);
/* Calls that came after the closing, over the life of the process. [any] */
CORE_API uint64_t core_handle_late(void);

/* Returns the target, or NULL if the handle is closed or gone; each success is paired with a leave. [any, wait-free] */
void *handle_enter(uint64_t cookie);
void handle_leave(uint64_t cookie);
/* Whether it lets callers in: whoever waits inside leaves when it no longer does. [any, wait-free] */
int handle_is_open(uint64_t cookie);

static inline uint32_t handle_slot(uint64_t cookie) { return (uint32_t)cookie & (HANDLE_SLOTS - 1); }
static inline uint32_t handle_generation(uint64_t cookie) { return (uint32_t)(cookie >> 12); }

#endif
