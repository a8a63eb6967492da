#include "group.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fir.h"
#include "kernels.h"
#include "memory.h"

/* Blocks that an offer may lag: the engine makes up for them before it fades. */
#define MOST_LAG 2u
/* Frames that are copied out of the history at once. */
#define COPY_FRAMES 1024u

struct core_group {
    struct core_group_setup setup;
    uint32_t width;    /* channels of a block: the more of those in and those out */
    uint32_t capacity; /* of the history, a power of two */
    float *memory;
    float *history[SIGRACK_MAX_CHANNELS];
    float *scratch[SIGRACK_MAX_CHANNELS]; /* max_frames * ratio: what the other filter gives */
    /* The engine's. */
    struct core_filter *current, *incoming;
    uint32_t faded; /* frames of the fade that are over */
    /* Shared. */
    alignas(64) _Atomic uint64_t written;
    _Atomic uint64_t kept_from; /* after a reset: what came before counts no more */
    _Atomic uint64_t begun, changes; /* fades; those that have ended */
    alignas(64) _Atomic(struct core_filter *) offered;
    _Atomic uint64_t offered_at;
    _Atomic(struct core_filter *) retired;
};

static int in_range(const struct core_group_setup *setup) {
    return setup->inputs && setup->inputs <= SIGRACK_MAX_CHANNELS && setup->outputs && setup->outputs <= SIGRACK_MAX_CHANNELS &&
           setup->max_frames && setup->ratio &&
           setup->ratio <= FIR_MAX_PHASES && setup->fade_frames && setup->history_frames <= 1u << 26;
}

static int take_memory(struct core_group *group) {
    const struct core_group_setup *setup = &group->setup;
    uint32_t wish = setup->history_frames + (MOST_LAG + 2) * setup->max_frames + COPY_FRAMES;
    group->capacity = core_power_of_two(wish);
    size_t made = (size_t)setup->max_frames * setup->ratio;
    group->memory = core_take(group->width * (group->capacity + made) * sizeof(float));
    for (uint32_t c = 0; group->memory && c < group->width; c++) {
        group->history[c] = group->memory + c * (group->capacity + made);
        group->scratch[c] = group->history[c] + group->capacity;
    }
    return group->memory != NULL;
}

struct core_group *core_group_new(const struct core_group_setup *setup, struct core_filter *filter) {
    struct core_group *group = filter && in_range(setup) ? core_take(sizeof *group) : NULL;
    if (!group)
        return NULL;
    group->setup = *setup;
    group->width = setup->inputs > setup->outputs ? setup->inputs : setup->outputs;
    if (!take_memory(group)) {
        free(group);
        return NULL;
    }
    group->current = filter;
    return group;
}

void core_group_free(struct core_group *group) {
    if (!group)
        return;
    core_filter_free(group->current);
    core_filter_free(group->incoming);
    core_filter_free(atomic_load(&group->offered));
    core_filter_free(atomic_load(&group->retired));
    free(group->memory);
    free(group);
}

/* The planes of the history at `frame`, and how many frames follow there before the ring's end. */
static uint32_t history_at(const struct core_group *group, uint64_t frame, const float **planes) {
    uint32_t index = (uint32_t)frame & (group->capacity - 1);
    for (uint32_t c = 0; c < group->setup.inputs; c++)
        planes[c] = group->history[c] + index;
    return group->capacity - index;
}

static uint32_t least(uint64_t a, uint32_t b) { return a < b ? (uint32_t)a : b; }

static void keep(struct core_group *group, const struct sigrack_block *block) {
    uint64_t written = atomic_load_explicit(&group->written, memory_order_relaxed);
    for (uint32_t done = 0, part; done < block->frames; done += part) {
        uint32_t index = (uint32_t)(written + done) & (group->capacity - 1);
        part = least(block->frames - done, group->capacity - index);
        for (uint32_t c = 0; c < group->setup.inputs; c++)
            memcpy(group->history[c] + index, block->in[c] + done, part * sizeof(float));
    }
    atomic_store_explicit(&group->written, written + block->frames, memory_order_release);
}

/* Let `filter` have the frames from `from` to `to` - 1; what it makes of them is not wanted. */
static void make_up(struct core_group *group, struct core_filter *filter, uint64_t from, uint64_t to) {
    while (from < to) {
        const float *planes[SIGRACK_MAX_CHANNELS];
        uint32_t frames = least(to - from, least(history_at(group, from, planes), group->setup.max_frames));
        struct sigrack_block block = {.size = sizeof block, .frames = frames, .frame = from, .in = planes, .out = group->scratch};
        block.channels = group->width;
        core_filter_process(filter, &block);
        from += frames;
    }
}

static void look_for_offer(struct core_group *group) {
    struct core_filter *filter = atomic_load_explicit(&group->offered, memory_order_acquire);
    if (!filter || group->incoming || atomic_load_explicit(&group->retired, memory_order_acquire))
        return;
    uint64_t now = atomic_load_explicit(&group->written, memory_order_relaxed);
    if (now - atomic_load_explicit(&group->offered_at, memory_order_relaxed) > MOST_LAG * group->setup.max_frames)
        return; /* who has offered it will see, and catch up once more */
    atomic_fetch_add(&group->begun, 1); /* before the offer is gone: somebody may look whether it is busy */
    if (!atomic_compare_exchange_strong(&group->offered, &filter, NULL)) {
        atomic_fetch_sub(&group->begun, 1);
        return;
    }
    /* It may have been withdrawn and offered anew meanwhile: then it lags less. */
    make_up(group, filter, atomic_load_explicit(&group->offered_at, memory_order_relaxed), now);
    group->incoming = filter;
    group->faded = 0;
}

/* Mix the incoming filter's output in, and let the old one go when that is over. */
static void fade(struct core_group *group, const struct sigrack_block *block) {
    uint32_t length = group->setup.fade_frames, frames = block->frames * group->setup.ratio;
    struct sigrack_block other = *block;
    other.out = group->scratch;
    core_filter_process(group->incoming, &other);
    uint32_t moving = least(length - group->faded, frames);
    float step = 1.0f / (float)length, gain = (float)group->faded * step;
    for (uint32_t c = 0; c < group->setup.outputs; c++) {
        kernels_chosen()->crossfade(group->scratch[c], block->out[c], moving, gain, step);
        memcpy(block->out[c], group->scratch[c], frames * sizeof(float));
    }
    group->faded += moving;
    if (group->faded < length)
        return;
    atomic_store_explicit(&group->retired, group->current, memory_order_release);
    group->current = group->incoming;
    group->incoming = NULL;
    atomic_fetch_add_explicit(&group->changes, 1, memory_order_release);
}

int core_group_process(void *self, const struct sigrack_block *block) {
    struct core_group *group = self;
    if (block->channels < group->width || block->frames > group->setup.max_frames)
        return 1;
    look_for_offer(group);
    core_filter_process(group->current, block);
    if (group->incoming)
        fade(group, block);
    keep(group, block);
    return 0;
}

void core_group_reset(void *self) {
    struct core_group *group = self;
    core_filter_reset(group->current);
    if (group->incoming)
        core_filter_reset(group->incoming);
    atomic_store(&group->kept_from, atomic_load(&group->written));
}

uint64_t core_group_written(const struct core_group *group) {
    return atomic_load_explicit(&group->written, memory_order_acquire);
}

/* The engine may be writing a block of `max_frames` beyond what counts as written. */
uint64_t core_group_oldest(const struct core_group *group) {
    uint64_t written = core_group_written(group), from = atomic_load(&group->kept_from);
    uint64_t room = group->capacity - group->setup.max_frames;
    uint64_t oldest = written > room ? written - room : 0;
    return oldest > from ? oldest : from;
}

static uint32_t give(struct core_filter *filter, float *const *planes, uint32_t channels, uint32_t frames, float *const *out,
                     int quick) {
    struct sigrack_block block = {.size = sizeof block, .frames = frames, .in = (const float *const *)planes, .out = out};
    block.channels = channels;
    if (quick)
        core_filter_prime(filter, block.in, frames);
    else
        core_filter_process(filter, &block);
    return frames;
}

/* The engine may overwrite what is being copied: then it is thrown away, so the sanitizer need not know. */
#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize_thread))
#endif
static void copy_out(float *restrict to, const float *restrict from, uint32_t frames) {
    for (uint32_t i = 0; i < frames; i++)
        to[i] = from[i];
}

uint64_t core_group_feed(const struct core_group *group, struct core_filter *filter, uint64_t from, uint32_t limit, int quick) {
    uint32_t channels = group->setup.inputs, width = group->width;
    size_t made = (size_t)COPY_FRAMES * group->setup.ratio;
    float *memory = core_take(width * (COPY_FRAMES + made) * sizeof(float));
    float *in[SIGRACK_MAX_CHANNELS], *out[SIGRACK_MAX_CHANNELS];
    uint64_t at = from, end = core_group_written(group);
    if (end - from > limit)
        end = from + limit;
    for (uint32_t c = 0; memory && c < width; c++) {
        in[c] = memory + c * (COPY_FRAMES + made);
        out[c] = in[c] + COPY_FRAMES;
    }
    while (memory && at < end) {
        const float *planes[SIGRACK_MAX_CHANNELS];
        uint32_t frames = least(end - at, least(history_at(group, at, planes), COPY_FRAMES));
        for (uint32_t c = 0; c < channels; c++)
            copy_out(in[c], planes[c], frames);
        if (at < core_group_oldest(group)) { /* overwritten, perhaps while it was copied */
            free(memory);
            return GROUP_LOST;
        }
        at += give(filter, in, width, frames, out, quick);
    }
    free(memory);
    return memory ? at : GROUP_LOST;
}

uint64_t core_group_offer(struct core_group *group, struct core_filter *filter, uint64_t from) {
    uint64_t at = core_group_feed(group, filter, from, UINT32_MAX, 0);
    if (at == GROUP_LOST)
        return at;
    atomic_store_explicit(&group->offered_at, at, memory_order_relaxed);
    atomic_store_explicit(&group->offered, filter, memory_order_release);
    return at;
}

int core_group_offered(const struct core_group *group) { return atomic_load(&group->offered) != NULL; }

int core_group_busy(const struct core_group *group) {
    return core_group_offered(group) || atomic_load(&group->begun) != atomic_load(&group->changes);
}

int core_group_withdraw(struct core_group *group) { return atomic_exchange(&group->offered, NULL) != NULL; }

struct core_filter *core_group_collect(struct core_group *group) { return atomic_exchange(&group->retired, NULL); }

uint64_t core_group_changes(const struct core_group *group) {
    return atomic_load_explicit(&group->changes, memory_order_acquire);
}
