#include "handle.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>

/* generation:31 | closed:1 | taken:1 | inside:31. All zero is a free slot of generation 0. */
#define INSIDE ((1ull << 31) - 1)
#define TAKEN (1ull << 31)
#define CLOSED (1ull << 32)
#define GENERATION(state) ((uint32_t)((state) >> 33))
#define LAST_GENERATION 0x7fffffffu

static struct {
    alignas(64) _Atomic uint64_t state;
    void *target;
} table[HANDLE_SLOTS];

static _Atomic uint32_t next_slot;
static _Atomic uint64_t late;

uint64_t core_handle_open(void *target) {
    /* Round robin: a slot rests as long as possible before it is used again. */
    for (uint32_t tries = 0; tries < HANDLE_SLOTS; tries++) {
        uint32_t slot = atomic_fetch_add(&next_slot, 1) & (HANDLE_SLOTS - 1);
        uint64_t state = atomic_load(&table[slot].state);
        if (state & (TAKEN | INSIDE) || GENERATION(state) == LAST_GENERATION)
            continue; /* a slot that has used up its generations is never used again */
        uint64_t closed = (uint64_t)(GENERATION(state) + 1) << 33 | CLOSED | TAKEN;
        if (!atomic_compare_exchange_strong(&table[slot].state, &state, closed))
            continue;
        table[slot].target = target;
        atomic_fetch_and(&table[slot].state, ~CLOSED); /* late callers may be passing through: keep their count */
        return (uint64_t)GENERATION(closed) << 12 | slot;
    }
    return 0;
}

int core_handle_close(uint64_t cookie) {
    _Atomic uint64_t *word = &table[handle_slot(cookie)].state;
    uint64_t state = atomic_load(word);
    do {
        if (GENERATION(state) != handle_generation(cookie) || !(state & TAKEN) || state & CLOSED)
            return 0;
    } while (!atomic_compare_exchange_weak(word, &state, state | CLOSED));
    return 1;
}

int core_handle_release(uint64_t cookie) {
    _Atomic uint64_t *word = &table[handle_slot(cookie)].state;
    uint64_t state = atomic_load(word);
    if (GENERATION(state) != handle_generation(cookie) || (state & (CLOSED | TAKEN | INSIDE)) != (CLOSED | TAKEN))
        return 0;
    return atomic_compare_exchange_strong(word, &state, state & ~(CLOSED | TAKEN));
}

uint32_t core_handle_count(void) {
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < HANDLE_SLOTS; slot++)
        count += (atomic_load_explicit(&table[slot].state, memory_order_relaxed) & TAKEN) != 0;
    return count;
}

uint64_t core_handle_late(void) { return atomic_load_explicit(&late, memory_order_relaxed); }

static int lets_in(uint64_t state, uint64_t cookie) {
    return GENERATION(state) == handle_generation(cookie) && (state & (TAKEN | CLOSED)) == TAKEN;
}

int handle_is_open(uint64_t cookie) { return lets_in(atomic_load(&table[handle_slot(cookie)].state), cookie); }

void *handle_enter(uint64_t cookie) {
    uint32_t slot = handle_slot(cookie);
    uint64_t state = atomic_fetch_add_explicit(&table[slot].state, 1, memory_order_acq_rel);
    if (lets_in(state, cookie))
        return table[slot].target;
    atomic_fetch_add_explicit(&late, 1, memory_order_relaxed);
    handle_leave(cookie);
    return NULL;
}

void handle_leave(uint64_t cookie) {
    atomic_fetch_sub_explicit(&table[handle_slot(cookie)].state, 1, memory_order_acq_rel);
}
