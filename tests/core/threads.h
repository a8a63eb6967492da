/* threads.h - threads, random numbers and slower builds, for the core's tests. */
#ifndef SIGRACK_THREADS_H
#define SIGRACK_THREADS_H

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>

#include "check.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static inline pthread_t thread_start(void *(*body)(void *), void *argument) {
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, body, argument));
    return thread;
}

static inline void thread_join(pthread_t thread) { CHECK(!pthread_join(thread, NULL)); }

/* A number from 0 to below - 1; `state` is any number but 0 (xorshift64*). */
static inline uint32_t draw(uint64_t *state, uint32_t below) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * 0x2545f4914f6cdd1dull >> 32) * below >> 32);
}

/* Let other threads run for a random while. */
static inline void dawdle(uint64_t *state, uint32_t most) {
    for (uint32_t yields = draw(state, most); yields; yields--)
        sched_yield();
}

/* Wait until `descriptor` can be read: for ever (-1), or just look (0). */
static inline int readable(int descriptor, int timeout_ms) {
    struct pollfd entry = {.fd = descriptor, .events = POLLIN};
    return poll(&entry, 1, timeout_ms) == 1;
}

#endif
