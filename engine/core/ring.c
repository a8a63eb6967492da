#include "ring.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* Each function loads the other side's index once, works, and ends with one store to its own. */

struct core_ring *core_ring_new(uint32_t channels, uint32_t frames) {
    uint32_t capacity = core_power_of_two(frames);
    if (!channels || !frames || !capacity)
        return NULL;
    struct core_ring *ring = core_take(sizeof *ring);
    float *samples = core_take((size_t)channels * capacity * sizeof(float));
    if (!ring || !samples) {
        free(samples);
        free(ring);
        return NULL;
    }
    ring->channels = channels;
    ring->capacity = capacity;
    ring->samples = samples;
    return ring;
}

void core_ring_free(struct core_ring *ring) {
    if (!ring)
        return;
    free(ring->samples);
    free(ring);
}

uint32_t core_ring_space(const struct core_ring *ring) {
    uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_acquire);
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    return ring->capacity - (uint32_t)(written - taken);
}

uint32_t core_ring_fill(const struct core_ring *ring) {
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_acquire);
    uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    return (uint32_t)(written - taken);
}

uint32_t core_ring_level(const struct core_ring *ring) {
    uint64_t taken = atomic_load(&ring->taken); /* first: then it is never beyond what was written */
    uint64_t level = atomic_load(&ring->written) - taken;
    return level < ring->capacity ? (uint32_t)level : ring->capacity;
}

static float *plane(const struct core_ring *ring, uint32_t channel) {
    return ring->samples + (size_t)channel * ring->capacity;
}

/* Where a run of frames lies: `first` frames from `start`, the rest from the beginning. */
struct run {
    uint32_t start, first, rest;
};

static struct run locate(const struct core_ring *ring, uint64_t position, uint32_t frames) {
    uint32_t start = (uint32_t)position & (ring->capacity - 1);
    uint32_t room = ring->capacity - start;
    uint32_t first = frames < room ? frames : room;
    return (struct run){start, first, frames - first};
}

uint32_t core_ring_write(struct core_ring *ring, const float *const *planes, uint32_t frames) {
    if (core_ring_space(ring) < frames)
        return 0;
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    struct run run = locate(ring, written, frames);
    for (uint32_t c = 0; c < ring->channels; c++) {
        memcpy(plane(ring, c) + run.start, planes[c], run.first * sizeof(float));
        memcpy(plane(ring, c), planes[c] + run.first, run.rest * sizeof(float));
    }
    atomic_store_explicit(&ring->written, written + frames, memory_order_release);
    return frames;
}

uint32_t core_ring_read(struct core_ring *ring, float *const *planes, uint32_t frames) {
    if (core_ring_fill(ring) < frames)
        return 0;
    uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    struct run run = locate(ring, taken, frames);
    for (uint32_t c = 0; c < ring->channels; c++) {
        memcpy(planes[c], plane(ring, c) + run.start, run.first * sizeof(float));
        memcpy(planes[c] + run.first, plane(ring, c), run.rest * sizeof(float));
    }
    atomic_store_explicit(&ring->taken, taken + frames, memory_order_release);
    return frames;
}

uint32_t core_ring_skip(struct core_ring *ring, uint32_t frames) {
    if (core_ring_fill(ring) < frames)
        return 0;
    uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    atomic_store_explicit(&ring->taken, taken + frames, memory_order_release);
    return frames;
}

static void scatter(const struct core_ring *ring, const float *samples, uint32_t start, uint32_t frames) {
    for (uint32_t c = 0; c < ring->channels; c++)
        for (uint32_t i = 0; i < frames; i++)
            plane(ring, c)[start + i] = samples[(size_t)i * ring->channels + c];
}

static void gather(const struct core_ring *ring, float *samples, uint32_t start, uint32_t frames) {
    for (uint32_t c = 0; c < ring->channels; c++)
        for (uint32_t i = 0; i < frames; i++)
            samples[(size_t)i * ring->channels + c] = plane(ring, c)[start + i];
}

uint32_t core_ring_write_interleaved(struct core_ring *ring, const float *samples, uint32_t frames) {
    if (core_ring_space(ring) < frames)
        return 0;
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    struct run run = locate(ring, written, frames);
    scatter(ring, samples, run.start, run.first);
    scatter(ring, samples + (size_t)run.first * ring->channels, 0, run.rest);
    atomic_store_explicit(&ring->written, written + frames, memory_order_release);
    return frames;
}

uint32_t core_ring_read_interleaved(struct core_ring *ring, float *samples, uint32_t frames) {
    if (core_ring_fill(ring) < frames)
        return 0;
    uint64_t taken = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    struct run run = locate(ring, taken, frames);
    gather(ring, samples, run.start, run.first);
    gather(ring, samples + (size_t)run.first * ring->channels, 0, run.rest);
    atomic_store_explicit(&ring->taken, taken + frames, memory_order_release);
    return frames;
}

void core_ring_close(struct core_ring *ring) { atomic_store_explicit(&ring->closed, 1, memory_order_release); }

int core_ring_closed(const struct core_ring *ring) {
    return (int)atomic_load_explicit(&ring->closed, memory_order_acquire);
}
